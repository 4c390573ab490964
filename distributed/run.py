"""A run in a folder: go on with it, watch it, read it.

    with the call that began it, or by ``Run(folder)`` alone: the folder holds all that is needed

Shape letters: B systems of a chunk, F frames of a segment, C chunks, K segments of a chunk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lie_sim.distributed.driver import drive
from lie_sim.distributed.ensemble import load_membership
from lie_sim.distributed.executors import executor_for
from lie_sim.distributed.journal import Journal
from lie_sim.distributed.manifest import Manifest
from lie_sim.distributed.object_store import open_store
from lie_sim.distributed.schedule import Schedule, Task
from lie_sim.distributed.segment import DIVERGED, DRIFTED
from lie_sim.distributed.start import ChunkStart
from lie_sim.distributed.trajectory import Trajectory, read_trajectory
from lie_sim.errors import LieSimError
from lie_sim.rollout import Frames

MEMBERSHIP = "membership.safetensors"


class FailedChunksError(LieSimError):
    """Some chunks could not be computed; the message says why, and everything else was done."""


@dataclass(frozen=True)
class Segment:
    """Some consecutive frames of some trajectories.

    Args:
        chunk: number of the chunk.
        number: of the segment.
        trajectories: numbers of its trajectories, shape (B,).
        frames: their frames, q and p of shape (B, F, N, d).
    """

    chunk: int
    number: int
    trajectories: np.ndarray
    frames: Frames


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Args:
        segments: that are there.
        total_segments: that there will be.
        trajectories: in the run.
        frames: that are there, those of all trajectories together.
        diverged: numbers of the trajectories that are not finite any more.
        drifted: numbers of those that ended because their energy drifts.
        drift: largest drift so far, in mean kinetic energies; NaN if the method conserves no energy.
    """

    segments: int
    total_segments: int
    trajectories: int
    frames: int
    diverged: tuple[int, ...]
    drifted: tuple[int, ...]
    drift: float

    @property
    def complete(self) -> bool:
        """Whether every segment is there."""
        return self.segments == self.total_segments


@dataclass(frozen=True, eq=False)
class Ends:
    """How far the trajectories of the chunks that were begun have come.

    Args:
        numbers: of the trajectories, ascending, shape (n,).
        drift: largest drift of each so far, in mean kinetic energies, shape (n,); NaN if the method conserves none.
        ended: frame at which each ended, -1 where it goes on, shape (n,).
        reason: why, a place in ``lie_sim.distributed.segment.REASONS``, shape (n,).
    """

    numbers: np.ndarray
    drift: np.ndarray
    ended: np.ndarray
    reason: np.ndarray


class Run:
    """A run in a folder.

    Args:
        location: folder, or URL on object storage.

    Attributes:
        store: where it is.
        folder: the same, of a run on object storage that of local copies.
        manifest: what it is.
        retries: how often in a row a segment may fail for reasons that may pass.

    Raises:
        DataError: there is none.
    """

    def __init__(self, location: str | Path) -> None:
        self.store = open_store(location)
        self.folder = self.store.folder
        self.manifest: Manifest = self.store.manifest()
        self.retries = 3

    def finish(self, *, progress: bool = False) -> None:
        """Compute what is missing: on the cluster in use, or here.

        Args:
            progress: show a bar on standard error.

        Raises:
            FailedChunksError: some chunks could not be computed; the others are there.
            DifferingSegmentError: two workers got different results.
            OSError: the disk is full, or fails in another way, again and again.
        """
        for _ in self.work(progress=progress):
            pass

    def work(self, *, progress: bool = False) -> Iterator[Task]:
        """As :meth:`finish`, yielding every segment when it is there."""
        self.store.remove_leftovers()
        present = self.present()
        schedule = Schedule(present, retries=self.retries)
        if schedule.finished:
            return
        executor = executor_for(self.store.location)
        with Journal(self.folder, self.manifest, present, progress=progress) as journal:

            def tell(event: str, **facts: Any) -> None:
                journal.tell(event, **facts)
                executor.tell(event, **facts)

            tell("begin", segments=schedule.missing)
            yield from drive(schedule, executor, on_event=tell)
            if schedule.failed:
                raise _failed(schedule, len(present))
            tell("end")

    def stream(self, *, follow: bool = False, poll: float = 1.0) -> Iterator[Segment]:
        """Every segment, each once: those that are there, then the others as they come.

        Args:
            follow: wait for what another process computes, instead of computing here.
            poll: seconds between two looks, if ``follow``.
        """
        seen = self.present()
        yield from (self.segment(*task) for task in _in_order(seen))
        if not follow:
            yield from (self.segment(*task) for task in self.work())
            return
        while not seen.all():
            new = self.present() & ~seen
            yield from (self.segment(*task) for task in _in_order(new))
            seen |= new
            if not new.any():
                time.sleep(poll)

    def frames(self) -> Iterator[Segment]:
        """The segments that are there, those of the first chunk first."""
        for chunk, number in zip(*np.nonzero(self.present()), strict=True):
            yield self.segment(int(chunk), int(number))

    def segment(self, chunk: int, number: int) -> Segment:
        """A segment, in memory.

        Raises:
            FileNotFoundError: it is not there.
            DataError: it is damaged.
        """
        found = self.store.read(chunk, number, check=True)
        numbers = self.manifest.frames_of(number)
        times = torch.arange(numbers.start, numbers.stop, dtype=torch.float64)
        times *= self.manifest.save_every * self.manifest.dt
        frames = Frames(numbers.start, times, *(found.tensor(name) for name in ("q", "p", "energy")))
        return Segment(chunk, number, self.members(chunk), frames)

    def trajectory(self, number: int) -> Trajectory:
        """A trajectory, read as far as it is asked for.

        Raises:
            IndexError: there is none of that number.
        """
        chunk, row = self.place(number)
        number %= self.manifest.num_trajectories
        return read_trajectory(self.store, self.manifest, number, chunk, row)

    def place(self, number: int) -> tuple[int, int]:
        """Chunk and row of a trajectory.

        Raises:
            IndexError: there is none of that number.
        """
        total = self.manifest.num_trajectories
        if not -total <= number < total:
            raise IndexError(f"the run has the trajectories 0 to {total - 1}, not {number}")
        chunk, row = (int(table[number]) for table in self._membership)
        return chunk, row

    def members(self, chunk: int) -> np.ndarray:
        """Numbers of the trajectories of a chunk, shape (B,)."""
        chunks, rows = self._membership
        members = np.flatnonzero(chunks == chunk)
        return members[np.argsort(rows[members])]

    def start(self, chunk: int) -> ChunkStart:
        """Initial states and particles of a chunk."""
        return ChunkStart.load(self.store.start_path(chunk))

    def present(self) -> np.ndarray:
        """Which segments are there, shape (C, K)."""
        return self.store.scan(len(self.manifest.chunks), self.manifest.num_segments)

    def status(self) -> Status:
        """How far the run is."""
        present = self.present()
        sizes = np.array([chunk.size for chunk in self.manifest.chunks])
        frames = np.array([len(self.manifest.frames_of(k)) for k in range(present.shape[1])])
        ends = self.ends(present)
        return Status(
            segments=int(present.sum()),
            total_segments=present.size,
            trajectories=self.manifest.num_trajectories,
            frames=int((sizes[:, None] * frames[None] * present).sum()),
            diverged=tuple(ends.numbers[ends.reason == DIVERGED].tolist()),
            drifted=tuple(ends.numbers[ends.reason == DRIFTED].tolist()),
            drift=float(ends.drift.max(initial=0.0)),
        )

    def ends(self, present: np.ndarray | None = None) -> Ends:
        """How far the trajectories have come; reads the last segment of every chunk.

        Args:
            present: which segments are there, shape (C, K), where that is known.
        """
        present = self.present() if present is None else present
        parts: list[list[np.ndarray]] = [[np.zeros(0, dtype=int), *[np.zeros(0)] * 3]]
        for chunk in np.flatnonzero(present.any(1)):
            last = self.store.read(int(chunk), int(np.flatnonzero(present[chunk])[-1]))
            parts.append(
                [self.members(int(chunk)), *(last.array(f"end.{x}") for x in ("drift", "ended", "reason"))]
            )
        numbers, drift, ended, reason = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(numbers)
        return Ends(numbers[order], drift[order], ended[order].astype(int), reason[order].astype(int))

    @cached_property
    def _membership(self) -> tuple[np.ndarray, np.ndarray]:
        return load_membership(self.folder / MEMBERSHIP)


def _in_order(present: np.ndarray) -> list[Task]:
    """Early segments first."""
    return [Task(int(chunk), int(number)) for number, chunk in zip(*np.nonzero(present.T), strict=True)]


def _failed(schedule: Schedule, chunks: int) -> FailedChunksError:
    chunk, reason = next(iter(schedule.failed.items()))
    return FailedChunksError(
        f"{len(schedule.failed)} of {chunks} chunks could not be computed, the others are done; chunk {chunk}: {reason}"
    )
