"""Segments as plain Ray tasks: bounded, idempotent, tried again by Ray when a worker or a node dies.

    task(location, chunk, number) → a few words      max_retries = −1: a dead process is Ray's matter, an error is ours

States and frames do not cross the wire: workers read and write the store. Two tasks a worker are kept with Ray, so that
none waits for the driver. A worker loads the model once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray

from lie_sim.distributed.executors import Result
from lie_sim.distributed.jobs import AnyWorker, job_of, worker_of
from lie_sim.distributed.ray_metrics import RayMetrics
from lie_sim.distributed.schedule import Task
from lie_sim.distributed.worker import Report
from lie_sim.errors import LieSimError

DEPTH = 2
"""Tasks a worker, one of which waits: its idle time between segments is then Ray's alone."""
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
        self._resource, self._each = ("GPU", 1) if job.on_gpu else ("CPU", job.threads)
        needs = {"num_gpus": 1} if job.on_gpu else {"num_cpus": job.threads}
        self._remote = ray.remote(run_segment).options(max_retries=-1, name="segment", **needs)
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
        self._tasks[self._remote.remote(self._location, self._digest, *task)] = task

    def wait(self) -> list[Result]:
        """All results that are there, at least one."""
        pending = list(self._tasks)
        ready, _ = ray.wait(pending, num_returns=1)
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        return [(self._tasks.pop(each), _result(each)) for each in ready]

    def tell(self, event: str, **facts: Any) -> None:
        """Metrics of Ray."""
        if self._metrics is not None:
            self._metrics.tell(event, **facts)

    def close(self) -> None:
        """Cancel what is not done; a worker that cannot be stopped commits its segment, which does no harm."""
        for each in self._tasks:
            ray.cancel(each, force=False)
        self._tasks.clear()


def run_segment(location: str, digest: str, chunk: int, number: int) -> Report | Exception:
    """What a worker does; errors are returned, as those that are raised would be Ray's."""
    try:
        key = (location, digest)
        if key not in _workers:
            _workers.clear()
            _workers[key] = worker_of(location)
        return _workers[key].run(chunk, number)
    except Exception as error:
        return error


def _result(reference: Any) -> Report | Exception:
    try:
        found: Report | Exception = ray.get(reference)
    except ray.exceptions.RayError as error:
        return WorkerLostError(str(error))
    return found
