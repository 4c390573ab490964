"""Gaps of tracks filled in: attention learns, from what was observed, what the gaps hold, and how far off it may be.

Shape letters: T times, N particles, M measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lie_sim.fitting.table import Track
from lie_sim.fitting.windows import Windows, merged, windows_of
from lie_sim.imputation import CDSAConfig, ImputationTask, Imputer, Observations, build_imputer
from lie_sim.training import TrainingConfig, train

_VALIDATION = 0.15
"""Share of the windows that choose the weights."""
_LARGEST = 256
"""Times of a window that grows with the gaps: attention costs their square."""
_AT_ONCE = 64
"""Windows that are estimated together: it bounds the memory."""


@dataclass(frozen=True)
class Filled:
    """A track without gaps.

    Args:
        values: observed, or estimated, shape (T, N, M).
        scale: mean absolute error to expect, 0 where something was observed.
    """

    values: np.ndarray
    scale: np.ndarray


def longest_gap(tracks: Sequence[Track]) -> int:
    """Most times in a row at which a series has nothing, between two observations.

    Example:
        >>> longest_gap([Track("", np.arange(4.0), np.array([1, np.nan, np.nan, 2])[:, None, None])])
        2
    """
    longest = 0
    for track in tracks:
        for series in track.values.reshape(len(track.times), -1).T:
            at = np.flatnonzero(np.isfinite(series))
            longest = max(longest, int(np.diff(at).max(initial=1)) - 1)
    return longest


def fitted_imputer(
    tracks: Sequence[Track],
    dim: int,
    *,
    window: int,
    training: TrainingConfig,
    run: Path | None = None,
    progress: bool = False,
) -> tuple[Imputer, float]:
    """A model that was asked for observations that were hidden from it.

    What is hidden is like what is missing: single vectors, as many as are missing, and particles for as long as the
    longest gap.

    Args:
        tracks: in units of their spread and pace.
        dim: components of a position.
        window: times that are looked at together, but at least four times the longest gap; shorter only if all tracks
            are. Shorter tracks are not learned from.
        training: of the model.
        run: folder where it is kept, to go on after an interruption.
        progress: show a bar.

    Returns:
        The model, and the mean absolute error of positions that were hidden from it, in windows that it did not learn
        from if there are enough of them.
    """
    length = _length(tracks, window)
    windows = windows_of([each for each in tracks if len(each.times) >= length], length, max(1, length // 2))
    known, held = _split(windows)
    observed = windows.seen.observed
    missing = 1 - float(observed.float().mean())
    task = ImputationTask(
        known,
        held,
        share=min(max(missing, 0.1), 0.5),
        longest=min(max(longest_gap(tracks), 1), length // 2),
        components=dim,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        model = build_imputer(CDSAConfig(tracks[0].values.shape[-1] // dim, width=16, num_layers=1, dim=dim))
    found = train(model.to(training.torch_dtype()), task, training, run, progress=progress).module
    assert isinstance(found, Imputer)
    found = found.requires_grad_(False)
    hidden = task.hidden(held.observed, torch.Generator().manual_seed(training.seed))
    off = (_estimates(found, held.hiding(hidden))[0] - held.values)[..., :dim][hidden[..., :dim]]
    return found, float(off.abs().mean()) if off.numel() else 0.0


def _split(windows: Windows) -> tuple[Observations, Observations]:
    """Most windows for learning, some of them spread over the tracks for choosing; all for both where there are few."""
    every = round(1 / _VALIDATION)
    held = range(every - 1, len(windows), every)
    if not held:
        return windows.seen, windows.seen
    length = windows.seen.values.shape[1]
    known = [
        k
        for k in range(len(windows))
        if not any(
            windows.tracks[k] == windows.tracks[h] and abs(windows.begins[k] - windows.begins[h]) < length
            for h in held
        )
    ]
    return windows[known].seen, windows[list(held)].seen


def fill(model: Imputer, tracks: Sequence[Track], *, window: int) -> list[Filled]:
    """Tracks without gaps.

    Args:
        model: what estimates.
        tracks: in units of their spread and pace.
        window: as in :func:`fitted_imputer`.
    """
    filled = []
    for track in tracks:
        length = min(_length(tracks, window), len(track.times))
        windows = windows_of([track], length, max(1, length // 4))
        estimated, scale = merged(windows, _estimates(model, windows.seen), [track])[0]
        there = np.isfinite(track.values)
        filled.append(Filled(np.where(there, track.values, estimated), np.where(there, 0.0, scale)))
    return filled


def _length(tracks: Sequence[Track], window: int) -> int:
    """Of windows: as asked, but gaps should be no longer than a quarter of them, as far as time and memory allow."""
    wanted = max(window, min(4 * longest_gap(tracks), _LARGEST))
    return min(wanted, max(len(each.times) for each in tracks))


@torch.no_grad()
def _estimates(model: Imputer, seen: Observations) -> list[Tensor]:
    """Estimates of all entries and their scales, a few windows at a time."""
    dtype = next(model.parameters()).dtype
    parts = []
    for begin in range(0, len(seen.values), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        found = model(
            Observations(seen.values[rows].to(dtype), seen.observed[rows], seen.times[rows].to(dtype))
        )
        parts.append((found.estimated.double(), found.estimated_scale.double()))
    return [torch.cat(each) for each in zip(*parts, strict=True)]
