"""Which segment comes next: chunks are independent chains, each advanced by one segment at a time.

    ready(c) = first missing segment of chunk c, unless it runs;      the chunk that is least far goes first

The schedule knows nothing of files, processes or clocks: it is told what is there, what was done and what failed.
Whatever it is told, and in whatever order, every missing segment is handed out until it is there or its chunk failed.

Shape letters: C chunks, K segments of a chunk.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

from jaxtyping import Bool
from numpy import flatnonzero, ndarray


class Task(NamedTuple):
    """A segment to compute."""

    chunk: int
    number: int


class Schedule:
    """The segments of a run that are still to be computed.

    Args:
        present: which are there, shape (C, K); the schedule keeps its own copy up to date.
        retries: how often in a row a segment may fail for reasons that may pass.

    Example:
        >>> import numpy as np
        >>> schedule = Schedule(np.zeros((2, 2), dtype=bool))
        >>> [tuple(schedule.take()) for _ in range(2)], schedule.take()
        ([(0, 0), (1, 0)], None)
        >>> schedule.done(Task(1, 0)), tuple(schedule.take())
        (None, (1, 1))
    """

    def __init__(self, present: Bool[ndarray, "C K"], *, retries: int = 3) -> None:
        self.present, self.retries = present.copy(), retries
        self.failed: dict[int, str] = {}
        self.running: set[Task] = set()
        self._failures: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._ready: list[tuple[int, int]] = []  # those of _next, and some that have been done since
        for chunk in range(len(present)):
            self._make_ready(chunk)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing is left to hand out."""
        return not self.running and not self._next

    @property
    def missing(self) -> int:
        """How many segments are not there."""
        return int(self.present.size - self.present.sum())

    def take(self) -> Task | None:
        """A segment to compute now; None if there is none."""
        while self._ready:
            number, chunk = heapq.heappop(self._ready)
            if self._next.get(chunk) == number:
                del self._next[chunk]
                task = Task(chunk, number)
                self.running.add(task)
                return task
        return None

    def done(self, task: Task) -> None:
        """A segment is there; told twice, the second time changes nothing.

        It may be one that was not handed out: a worker that goes on in its chunk.
        """
        self.present[task] = True
        if task in self.running or self._next.get(task.chunk) == task.number:
            self._stop(task)
            self._failures.pop(task.chunk, None)
            self._make_ready(task.chunk)

    def lost(self, task: Task) -> None:
        """The segment before turned out to be missing: both are to be computed."""
        self._stop(task)
        if task.number > 0:
            self.present[task.chunk, task.number - 1] = False
        self._make_ready(task.chunk)

    def again(self, task: Task) -> bool:
        """A segment failed, perhaps not for good; whether it may be tried again."""
        failures = self._failures[task.chunk] = self._failures.get(task.chunk, 0) + 1
        self._stop(task)
        self._make_ready(task.chunk)
        return failures <= self.retries

    def give_up(self, task: Task, error: str) -> None:
        """A segment failed for good, and with it the rest of its chunk."""
        self._stop(task)
        self._next.pop(task.chunk, None)
        self.failed[task.chunk] = error

    def _stop(self, task: Task) -> None:
        self.running.discard(task)

    def _make_ready(self, chunk: int) -> None:
        self._next.pop(chunk, None)
        missing = flatnonzero(~self.present[chunk])
        if len(missing) and chunk not in self.failed:
            self._next[chunk] = int(missing[0])
            heapq.heappush(self._ready, (int(missing[0]), chunk))
