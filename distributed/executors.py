"""Where segments are computed: an executor takes tasks and tells what became of them.

    submit(task)                     at once
    wait() → [(task, report | error), …]    at least one of those submitted, in any order
    tell(event, …)                   what the journal was told

The serial executor computes in this process, without Ray: the same segments, to the bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lie_sim.distributed.jobs import AnyWorker, worker_of
from lie_sim.distributed.schedule import Task
from lie_sim.distributed.worker import Report

Result = tuple[Task, Report | Exception]


@runtime_checkable
class Executor(Protocol):
    """What the driver needs."""

    capacity: int
    """How many tasks it wants to have, running and waiting."""

    def submit(self, task: Task) -> None:
        """Take a task."""

    def wait(self) -> Sequence[Result]:
        """What became of some of the tasks; returns when there is at least one."""

    def tell(self, event: str, **facts: Any) -> None:
        """What the journal was told, for whoever watches."""

    def close(self) -> None:
        """Drop the tasks that are not done."""


class SerialExecutor:
    """One segment after the other, here.

    Args:
        location: of the run, a folder or a URL.
        worker: who computes; one for the location if None.
    """

    capacity = 1

    def __init__(self, location: str | Path, *, worker: AnyWorker | None = None) -> None:
        self._worker = worker or worker_of(location)
        self._tasks: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._tasks.append(task)

    def wait(self) -> list[Result]:
        """Compute the first."""
        task = self._tasks.popleft()
        try:
            return [(task, self._worker.run(*task))]
        except Exception as error:
            return [(task, error)]

    def tell(self, event: str, **facts: Any) -> None:
        """Nobody watches but the journal."""

    def close(self) -> None:
        """Drop the tasks that are not done."""
        self._tasks.clear()


MakeExecutor = Callable[[Any], Executor]
"""From the location of a run, a folder or a URL."""
_in_use: ContextVar[MakeExecutor] = ContextVar("executor", default=SerialExecutor)


def executor_for(location: str | Path) -> Executor:
    """The executor of the cluster that is in use; the serial one, if there is none."""
    return _in_use.get()(location)


@contextmanager
def using(make: MakeExecutor) -> Iterator[None]:
    """Compute with other executors inside the ``with`` block."""
    token = _in_use.set(make)
    try:
        yield
    finally:
        _in_use.reset(token)
