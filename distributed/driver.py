"""The loop that keeps workers busy until every segment is there.

    while something is missing:    hand out what is ready;  wait;  note what was done, what failed, what to try again

The driver holds no state that matters: kill it, start it anew, and it goes on from what the store holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from lie_sim.distributed.executors import Executor
from lie_sim.distributed.schedule import Schedule, Task
from lie_sim.distributed.store import DifferingSegmentError
from lie_sim.distributed.worker import Report

PAUSE = 1.0
"""Seconds before a segment is tried again after the first failure; doubled each time."""
_LONGEST_PAUSE = 60.0

OnEvent = Callable[..., None]


def drive(
    schedule: Schedule,
    executor: Executor,
    *,
    on_event: OnEvent = lambda name, **facts: None,
    sleep: Callable[[float], Any] = time.sleep,
) -> Iterator[Task]:
    """Compute what is missing; yields every segment when it is there.

    Args:
        schedule: what is missing.
        executor: who computes.
        on_event: told what happens: its name and some facts.
        sleep: how to wait before a segment is tried again.

    Raises:
        DifferingSegmentError: two workers got different results.
        OSError: the disk is full, or fails in another way, again and again.
    """
    pause = PAUSE
    try:
        while not schedule.finished:
            while len(schedule.running) < executor.capacity and (task := schedule.take()) is not None:
                executor.submit(task)
            for task, result in executor.wait():
                if isinstance(result, Report):
                    pause = PAUSE
                    yield from _note(schedule, task, result, on_event)
                elif _is_tried_again(schedule, task, result, on_event):
                    sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
    finally:
        executor.close()


def _note(schedule: Schedule, task: Task, report: Report, on_event: OnEvent) -> Iterator[Task]:
    known = bool(schedule.present[task])
    if not (known and report.outcome == "present"):  # as a worker finds it that goes on in its chunk
        facts = {name: value for name, value in vars(report).items() if name != "outcome"}
        on_event(report.outcome, chunk=task.chunk, number=task.number, **facts)
    if report.outcome == "lost":
        schedule.lost(task)
        return
    schedule.done(task)
    if not known:
        yield task


def _is_tried_again(schedule: Schedule, task: Task, error: Exception, on_event: OnEvent) -> bool:
    reason = f"{type(error).__name__}: {error}"
    facts = {"chunk": task.chunk, "number": task.number, "error": reason}
    if isinstance(error, DifferingSegmentError):
        on_event("quarantine", **facts)
        raise error
    if not _may_pass(error):
        schedule.give_up(task, reason)
        on_event("failed", **facts)
        return False
    if not schedule.again(task):
        on_event("failed", **facts)
        error.add_note("what was computed so far is kept: the same call goes on from there")
        raise error
    on_event("retry", **facts)
    return True


def _may_pass(error: Exception) -> bool:
    """A full disk, a worker that died, not enough memory: not a matter of the segment itself."""
    return isinstance(error, OSError | MemoryError | ConnectionError) or getattr(error, "transient", False)
