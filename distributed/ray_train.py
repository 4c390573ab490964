"""Workers of Ray Train that run the loop of :func:`lie_sim.training.train` together.

Ray starts them, sees when one dies, and starts all again; what they have done is in the run directory's checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train.torch
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from torch import nn

from lie_sim.distributed.cluster import ClusterError
from lie_sim.errors import LieSimError
from lie_sim.training import Task, TrainingConfig, train
from lie_sim.training.world import ProcessGroup

FOLDER = "ray"
"""Of Ray Train in the run directory; it holds nothing that is needed again."""


@dataclass(frozen=True)
class Crew:
    """The workers.

    Args:
        workers: how many, or the smallest and the largest number.
        threads: of torch in each.
        on_gpu: whether each has one.
        retries: how often they may be started again.
        report_every: seconds between two reports, at least.
        resize_every: seconds between two looks whether there is room for more.
    """

    workers: int | tuple[int, int]
    threads: int
    on_gpu: bool
    retries: int
    report_every: float
    resize_every: float

    def scaling(self) -> ScalingConfig:
        """What Ray is to reserve."""
        return ScalingConfig(
            num_workers=self.workers,
            use_gpu=self.on_gpu,
            resources_per_worker={"CPU": self.threads, **({"GPU": 1} if self.on_gpu else {})},
            elastic_resize_monitor_interval_s=self.resize_every,
        )


def train_together(crew: Crew, module: nn.Module, task: Task, config: TrainingConfig, folder: Path) -> None:
    """Train to the end, in a run directory.

    Raises:
        ClusterError: the workers died too often.
    """
    job = {"crew": crew, "learning": ray.put((module, task)), "config": config, "folder": folder}
    trainer = TorchTrainer(
        work,
        train_loop_config=job,
        scaling_config=crew.scaling(),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if crew.on_gpu else "gloo"),
        run_config=RunConfig(
            name=FOLDER,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=crew.retries),
        ),
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise ClusterError(f"the workers died more than {crew.retries} times: {_cause(error)}") from error
    if result.return_value is not None:
        raise result.return_value


def work(job: Mapping[str, Any]) -> Exception | None:
    """What each worker does.

    Returns:
        An error that all workers have alike and would have again. Others are raised: Ray starts the workers anew.
    """
    crew: Crew = job["crew"]
    torch.set_num_threads(crew.threads)
    module, task = ray.get(job["learning"])
    if crew.on_gpu:
        module.to(ray.train.torch.get_device())
    world = RayWorld(crew.report_every)
    try:
        train(module, task, job["config"], job["folder"], progress=False, world=world)
    except (LieSimError, ValueError, TypeError) as error:
        return error
    return None


class RayWorld(ProcessGroup):
    """The workers, of whom Ray hears now and then: a report costs a second (Ray 2.60).

    Args:
        report_every: seconds between two reports, at least.
    """

    def __init__(self, report_every: float) -> None:
        super().__init__()
        self._every, self._due = report_every, time.monotonic() + report_every

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Tell Ray, if process 0 finds that it is time."""
        if self.first(lambda: time.monotonic() >= self._due):
            ray.train.report(dict(metrics))
            self._due = time.monotonic() + self._every


def _cause(error: TrainingFailedError) -> str:
    failures = list(getattr(error, "worker_failures", {}).values())
    return " ".join(str(failures[0] if failures else error).split())
