"""Tracks of different length as windows of one: for learning, and back.

Shape letters: B windows, W times of a window, T times of a track, N particles, M measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lie_sim.fitting.table import Track
from lie_sim.imputation import Observations


@dataclass(frozen=True)
class Windows:
    """Parts of tracks.

    Args:
        seen: their observations, shape (B, W, N, M); times are counted from the first of each window.
        tracks: which track each is of, length B.
        begins: index of its first time there, length B.
    """

    seen: Observations
    tracks: tuple[int, ...]
    begins: tuple[int, ...]

    def __getitem__(self, rows: Sequence[int]) -> Windows:
        """Some of them."""
        index = torch.as_tensor(rows, dtype=torch.long)
        parts = (x[index] for x in (self.seen.values, self.seen.observed, self.seen.times))
        return Windows(
            Observations(*parts), tuple(self.tracks[k] for k in rows), tuple(self.begins[k] for k in rows)
        )

    def __len__(self) -> int:
        """B."""
        return len(self.tracks)


def windows_of(tracks: Sequence[Track], length: int, stride: int) -> Windows:
    """Windows of every track, the last one flush with its end.

    Args:
        tracks: none shorter than ``length``.
        length: W.
        stride: from one window to the next.

    Example:
        >>> track = Track("", np.arange(7.0), np.zeros((7, 2, 1)))
        >>> windows_of([track], length=4, stride=2).begins
        (0, 2, 3)
    """
    places = []
    for number, track in enumerate(tracks):
        last = len(track.times) - length
        places += [(number, begin) for begin in [*range(0, last, stride), last]]
    values = torch.stack([torch.from_numpy(tracks[k].values[b : b + length]) for k, b in places])
    times = torch.stack(
        [torch.from_numpy(tracks[k].times[b : b + length] - tracks[k].times[b]) for k, b in places]
    )
    return Windows(Observations.of(values, times), tuple(k for k, _ in places), tuple(b for _, b in places))


def merged(windows: Windows, found: Sequence[Tensor], tracks: Sequence[Track]) -> list[list[np.ndarray]]:
    """Estimates of windows as those of whole tracks: where windows overlap, of the one in which it is most central.

    Args:
        windows: where they are from.
        found: tensors of shape (B, W, N, M).
        tracks: the tracks.

    Returns:
        For each track one array (T, N, M) per tensor.
    """
    length = windows.seen.values.shape[1]
    from_the_edge = np.minimum(np.arange(length), np.arange(length)[::-1])
    arrays = [x.detach().cpu().numpy() for x in found]
    whole = [[np.zeros((len(each.times), *x.shape[2:]), x.dtype) for x in arrays] for each in tracks]
    depth = [np.full(len(each.times), -1) for each in tracks]
    for row, (track, begin) in enumerate(zip(windows.tracks, windows.begins, strict=True)):
        part = slice(begin, begin + length)
        better = from_the_edge > depth[track][part]
        for array, target in zip(arrays, whole[track], strict=True):
            target[part][better] = array[row][better]
        depth[track][part][better] = from_the_edge[better]
    return whole
