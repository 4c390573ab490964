"""A run without computing: the real schedule and the real driver, workers that are a heap of times, a clock that jumps.

    submit:  the driver's clock moves on by d / 2; a free worker starts after the latency, otherwise the task waits
    a segment ends at t:  its worker starts the next waiting task at t + gap, without the driver
    wait:    the clock jumps to the next end, if it is not past it, and moves on by d / 2 for every result

The driver is a server of one place, which costs what was measured; d is its time for a segment.

Shape letters: C chunks, K segments of a chunk, W workers.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from lie_sim.distributed.driver import drive
from lie_sim.distributed.executors import Result
from lie_sim.distributed.plan import MEASURED, Costs, Workload
from lie_sim.distributed.schedule import Schedule, Task
from lie_sim.distributed.worker import Report

_DEPTH = 2
"""Tasks that the driver keeps with Ray for every worker."""


class VirtualCluster:
    """An executor whose workers do nothing, in no time.

    Args:
        workers: W.
        seconds: of a segment.
        costs: of the driver and between segments.
        spread: segments take up to this share longer or shorter, evenly.
        seed: of these differences.

    Attributes:
        clock: seconds since the beginning, as the driver sees it.
    """

    def __init__(
        self, workers: int, seconds: float, costs: Costs, *, spread: float = 0.0, seed: int = 0
    ) -> None:
        self.clock, self.capacity = 0.0, _DEPTH * workers
        self._seconds, self._costs, self._spread = seconds, costs, spread
        self._random, self._free = random.Random(seed), workers
        self._waiting: deque[Task] = deque()
        self._running: list[tuple[float, Task]] = []
        self._ended: list[Task] = []

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._let_pass()
        self.clock += self._costs.driver_seconds / 2
        if self._free:
            self._free -= 1
            self._start(task, self.clock + self._costs.latency_seconds)
        else:
            self._waiting.append(task)

    def wait(self) -> list[Result]:
        """All results that are there, at least one."""
        self._let_pass()
        if not self._ended:
            self.clock = self._running[0][0]
            self._let_pass()
        ended, self._ended = self._ended, []
        self.clock += self._costs.driver_seconds / 2 * len(ended)
        return [(task, Report("new", self._seconds, drift=0.0)) for task in ended]

    def tell(self, event: str, **facts: Any) -> None:
        """Nobody watches."""

    def close(self) -> None:
        """Nothing is open."""

    def _start(self, task: Task, time: float) -> None:
        longer = 1 + self._spread * self._random.uniform(-1, 1)
        heapq.heappush(self._running, (time + longer * self._seconds, task))

    def _let_pass(self) -> None:
        """What happens until the present of the driver."""
        while self._running and self._running[0][0] <= self.clock:
            time, task = heapq.heappop(self._running)
            self._ended.append(task)
            if self._waiting:
                self._start(self._waiting.popleft(), time + self._costs.gap_seconds)
            else:
                self._free += 1


@dataclass(frozen=True)
class Rehearsal:
    """What came of it.

    Args:
        seconds: of the whole run.
        efficiency: time of workers that never wait, over that; workers without a chunk do not count.
        driver_load: share of its time that the driver works.
    """

    seconds: float
    efficiency: float
    driver_load: float


def rehearse(
    work: Workload,
    costs: Costs = MEASURED,
    *,
    spread: float = 0.05,
    seed: int = 0,
    progress: bool = False,
) -> Rehearsal:
    """Play a run.

    Args:
        work: what is to be computed.
        costs: what was measured.
        spread: segments take up to this share longer or shorter.
        seed: of these differences.
        progress: show a bar on standard error.

    Example:
        >>> found = rehearse(Workload(trajectories=400, steps=1000, workers=100, chunk=2, segment_seconds=10))
        >>> found.efficiency > 0.9
        True
    """
    workers = VirtualCluster(work.workers, work.segment_time, costs, spread=spread, seed=seed)
    schedule = Schedule(np.zeros((work.chunks, work.segments), dtype=bool))
    total = schedule.missing
    driving = drive(schedule, workers)
    for _ in tqdm(driving, total=total, unit="segments", desc="rehearse", disable=not progress):
        pass
    ideal = max(total / work.workers, work.segments) * work.segment_time
    return Rehearsal(
        seconds=workers.clock,
        efficiency=ideal / workers.clock,
        driver_load=total * costs.driver_seconds / workers.clock,
    )
