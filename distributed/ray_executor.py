"""Segments as plain Ray tasks: bounded, idempotent, tried again by Ray when a worker or a node dies.

    task(location, chunk, number) → a few words of each segment      max_retries = −1: a dead process is Ray's matter,
                                                                     an error is ours

States and frames do not cross the wire: workers read and write the store. Two tasks a worker are kept with Ray, so that
none waits for the driver. A task goes on with the segments that follow for some seconds, as Ray takes milliseconds from
one task to the next; each is committed when it is done, so a kill costs one segment all the same. A worker loads the
model once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray

from lie_sim.distributed.executors import Result
from lie_sim.distributed.jobs import AnyWorker, job_of, worker_of
from lie_sim.distributed.ray_metrics import RayMetrics
from lie_sim.distributed.ray_nodes import warn_if_few_chunks, warn_if_no_node_has
from lie_sim.distributed.schedule import Task
from lie_sim.distributed.worker import Report
from lie_sim.errors import LieSimError

DEPTH = 2
"""Tasks a worker, one of which waits: its idle time between segments is then Ray's alone."""
STRETCH = 5.0
"""Seconds after which a task begins no further segment."""
_RECOUNT = 5.0
"""Seconds after which the processors of a cluster are counted again."""

_workers: dict[tuple[str, str], AnyWorker] = {}
"""Of this process, by location and digest of the manifest."""


class WorkerLostError(LieSimError):
    """Ray gave a task up; it is handed out again."""

    transient = True


class RayExecutor:
    """Workers of the Ray that this process is connected to.

    Args:
        location: of the run, a folder or a URL; all nodes must see it.
        workers: segments at a time; None for as many as the cluster has processors, also later ones.
    """

    def __init__(self, location: str | Path, *, workers: int | None = None) -> None:
        job = job_of(location)
        self._location = str(location.resolve()) if isinstance(location, Path) else location
        self._digest, self._workers = job.digest, workers
        self._segments = job.segments
        self._resource, self._each = ("GPU", 1) if job.on_gpu else ("CPU", job.threads)
        warn_if_no_node_has(self._resource, self._each)
        if job.run is not None:
            there = ray.cluster_resources().get(self._resource, 0) // self._each
            warn_if_few_chunks(len(job.run.chunks), workers or int(there))
        needs = {"num_gpus": 1} if job.on_gpu else {"num_cpus": job.threads}
        self._remote = ray.remote(run_segments).options(max_retries=-1, name="segment", **needs)
        self._metrics = None if job.run is None else RayMetrics(Path(self._location).name, job.run)
        self._tasks: dict[Any, Task] = {}
        self._counted, self._capacity = -1.0, DEPTH

    @property
    def capacity(self) -> int:
        """Tasks to keep with Ray."""
        if self._workers is not None:
            return DEPTH * self._workers
        if self._counted < 0 or time.monotonic() > self._counted + _RECOUNT:
            there = ray.cluster_resources().get(self._resource, 0)
            self._counted, self._capacity = time.monotonic(), DEPTH * max(1, int(there // self._each))
        return self._capacity

    def submit(self, task: Task) -> None:
        """Give a task to Ray."""
        words = (self._location, self._digest, *task, self._segments, STRETCH)
        self._tasks[self._remote.remote(*words)] = task

    def wait(self) -> list[Result]:
        """All results that are there, at least one."""
        pending = list(self._tasks)
        ready, _ = ray.wait(pending, num_returns=1)
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        return [result for each in ready for result in _results(self._tasks.pop(each), each)]

    def tell(self, event: str, **facts: Any) -> None:
        """Metrics of Ray."""
        if self._metrics is not None:
            self._metrics.tell(event, **facts)

    def close(self) -> None:
        """Cancel what is not done; a worker that cannot be stopped commits its segment, which does no harm."""
        for each in self._tasks:
            ray.cancel(each, force=False)
        self._tasks.clear()


def run_segments(
    location: str, digest: str, chunk: int, number: int, segments: int, stretch: float
) -> list[Report | Exception]:
    """What a worker does: a segment and those that follow, until time is up or one is not there in the end.

    Errors are returned, as those that are raised would be Ray's.
    """
    begun, found = time.perf_counter(), list[Report | Exception]()
    while not found or (number + len(found) < segments and time.perf_counter() < begun + stretch):
        found.append(_one(location, digest, chunk, number + len(found)))
        if isinstance(found[-1], Exception) or found[-1].outcome == "lost":
            break
    return found


def _one(location: str, digest: str, chunk: int, number: int) -> Report | Exception:
    try:
        key = (location, digest)
        if key not in _workers:
            _workers.clear()
            _workers[key] = worker_of(location)
        return _workers[key].run(chunk, number)
    except Exception as error:
        return error


def _results(task: Task, reference: Any) -> list[Result]:
    """Of a task and those that follow it in its chunk."""
    try:
        found: list[Report | Exception] = ray.get(reference)
    except ray.exceptions.RayError as error:
        found = [WorkerLostError(str(error))]
    return [(Task(task.chunk, task.number + k), each) for k, each in enumerate(found)]
