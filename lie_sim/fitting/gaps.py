"""Gaps of tracks filled in: attention learns, from what was observed, what the gaps hold, and how far off it may be.

Shape letters: T times, N particles, M measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lie_sim.fitting.table import Track
from lie_sim.fitting.windows import Windows, merged, windows_of
from lie_sim.imputation import CDSAConfig, ImputationTask, Imputer, Observations, build_imputer
from lie_sim.training import TrainingConfig, train

_VALIDATION = 0.15
"""Share of the windows that choose the weights."""


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
) -> tuple[Imputer, dict[str, float]]:
    """A model that was asked for observations that were hidden from it.

    What is hidden is like what is missing: single vectors, as many as are missing, and particles for as long as the
    longest gap.

    Args:
        tracks: in units of their spread and pace.
        dim: components of a position.
        window: times that are looked at together; shorter where a track is.
        training: of the model.
        run: folder where it is kept, to go on after an interruption.
        progress: show a bar.

    Returns:
        The model, and its errors on windows that it did not learn from.
    """
    length = min(window, *(len(each.times) for each in tracks))
    windows = windows_of(tracks, length, max(1, length // 2))
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
    torch.manual_seed(training.seed)
    model = build_imputer(CDSAConfig(tracks[0].values.shape[-1] // dim, width=16, num_layers=1, dim=dim))
    found = train(model.to(training.torch_dtype()), task, training, run, progress=progress).module
    assert isinstance(found, Imputer)
    return found.requires_grad_(False), task.to(
        dtype=training.torch_dtype(), device=torch.device("cpu")
    ).validate(found)


def _split(windows: Windows) -> tuple[Observations, Observations]:
    """Most windows for learning, some of them spread over the tracks for choosing; all for both where there are few."""
    every = round(1 / _VALIDATION)
    held = range(every - 1, len(windows), every)
    if not held:
        return windows.seen, windows.seen
    overlapping = {k + shift for k in held for shift in (-1, 0, 1)}
    known = [k for k in range(len(windows)) if k not in overlapping]
    return windows[known].seen, windows[list(held)].seen


def fill(model: Imputer, tracks: Sequence[Track], *, window: int) -> list[Filled]:
    """Tracks without gaps.

    Args:
        model: what estimates.
        tracks: in units of their spread and pace.
        window: as in :func:`fitted_imputer`.
    """
    length = min(window, *(len(each.times) for each in tracks))
    windows = windows_of(tracks, length, max(1, length // 4))
    dtype = next(model.parameters()).dtype
    seen = windows.seen
    with torch.no_grad():
        passed = (seen.times - seen.times[:, :1]).to(dtype)
        found = model(Observations(seen.values.to(dtype), seen.observed, passed))
    whole = merged(windows, [found.estimated.double(), found.estimated_scale.double()], tracks)
    filled = []
    for track, (estimated, scale) in zip(tracks, whole, strict=True):
        there = np.isfinite(track.values)
        filled.append(Filled(np.where(there, track.values, estimated), np.where(there, 0.0, scale)))
    return filled
