"""One trajectory of a run, read as far as it is asked for.

    x[a:b:c]  =  the rows of this trajectory in the segments that hold the frames a, a + c, … < b

Shape letters: T frames that are there, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lie_sim.distributed.manifest import Manifest
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.distributed.store import SegmentStore

_OPEN_FILES = 16


class LazyArray:
    """An array on disk, shape (T, …): indexing reads the segments that are touched, and nothing else.

    Args:
        read: gives the frames of a segment, shape (F, …).
        places: segment and frame in it, for each of the T frames, shape (T, 2).
        shape: of one frame.
        dtype: of the numbers.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        places: np.ndarray,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._read, self._places = read, places
        self.shape, self.dtype = (len(places), *shape), dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """A copy of some frames, as NumPy would give them."""
        key = index if isinstance(index, tuple) else (index,)
        if not key or key[0] is Ellipsis or key[0] is None:
            frames = self._frames(np.arange(len(self)))
            return np.asarray(frames[key])
        chosen = np.arange(len(self))[key[0]]
        frames = self._frames(chosen.reshape(-1))
        first = slice(None) if isinstance(key[0], slice) else np.arange(chosen.size).reshape(chosen.shape)[()]
        return np.asarray(frames[(first, *key[1:])])

    def _frames(self, chosen: np.ndarray) -> np.ndarray:
        """Some frames, by their numbers."""
        frames = np.empty((len(chosen), *self.shape[1:]), dtype=self.dtype)
        places = self._places[chosen]
        for number in np.unique(places[:, 0]):
            here = places[:, 0] == number
            frames[here] = self._read(int(number))[places[here, 1]]
        return frames

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it in memory."""
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclass(frozen=True)
class Trajectory:
    """One trajectory: as many frames as were computed without a gap.

    Args:
        number: of the trajectory.
        times: time since its initial state, float64, shape (T,).
        q: positions, shape (T, N, d); NaN once it has ended.
        p: momenta, shape (T, N, d); likewise.
        energy: H of the model, shape (T,); likewise.
    """

    number: int
    times: np.ndarray
    q: LazyArray
    p: LazyArray
    energy: LazyArray


def read_trajectory(store: SegmentStore, manifest: Manifest, number: int, chunk: int, row: int) -> Trajectory:
    """The trajectory in a row of a chunk."""
    count = 0
    while count < manifest.num_segments and store.has(chunk, count):
        count += 1
    ranges = [manifest.frames_of(k) for k in range(count)]
    places = [(k, frame - frames.start) for k, frames in enumerate(ranges) for frame in frames]
    table = np.array(places, dtype=np.int64).reshape(-1, 2)

    @lru_cache(maxsize=_OPEN_FILES)
    def opened(segment: int) -> SegmentFile:
        return store.read(chunk, segment)

    def lazy(name: str) -> LazyArray:
        shape, dtype = (), np.dtype(manifest.dtype)
        if count:
            first = opened(0).array(name)
            shape, dtype = first.shape[2:], first.dtype
        return LazyArray(lambda segment: opened(segment).array(name)[row], table, shape, dtype)

    times = np.arange(len(table)) * (manifest.save_every * manifest.dt)
    return Trajectory(number, times, *(lazy(name) for name in ("q", "p", "energy")))
