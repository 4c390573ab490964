"""Trials of a search as tasks of Ray Tune, which decides which of them are worth going on with.

A trial is a run directory. When it begins again it first tells Ray what it had found before, so that the scheduler
knows what it knew; none of Ray's own files is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from torch import nn
from tqdm import tqdm

from lie_sim.distributed.tune import FAILED
from lie_sim.errors import LieSimError
from lie_sim.experiments.results import RESULTS
from lie_sim.files import write_atomically
from lie_sim.training import TrainingConfig, TrainingResult, read_metrics, train
from lie_sim.training.run_state import checkpoints, newest_facts
from lie_sim.training.tasks import Task as Learning
from lie_sim.training.world import World

_LOSS, _TIME = "validation", "step"


@dataclass(frozen=True)
class Task:
    """A trial, as a worker needs it.

    Args:
        experiment: with the options of this trial.
        folder: its run directory.
        threads: of torch.
    """

    experiment: Any
    folder: Path
    threads: int


class TrialWorld(World):
    """A process whose validations Ray hears of.

    Args:
        metric: name of the number that is to be small.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Tell Ray of a validation; NaN counts as infinity."""
        if self.metric in metrics:
            _tell(metrics[self.metric], metrics["step"])


def run_trials(
    trials: Sequence[Task],
    *,
    folder: Path,
    stop_early: bool,
    max_steps: int,
    grace_steps: int,
    at_once: int | None,
    retries: int,
    progress: bool,
) -> None:
    """Run every trial to its end, or until it is not worth going on with.

    Args:
        trials: all of the search, also those that are done.
        folder: of the search.
        stop_early: by asynchronous successive halving; otherwise every trial has all its steps.
        max_steps: of a trial.
        grace_steps: no trial is stopped before.
        at_once: how many run at the same time; None for as many as there are processors.
        retries: how often a trial may lose its process.
        progress: show a bar.
    """
    halving = ASHAScheduler(
        time_attr=_TIME, max_t=max_steps, grace_period=grace_steps, stop_last_trials=False
    )
    with tqdm(total=len(trials), disable=not progress, unit="trial") as bar:
        tuner = tune.Tuner(
            tune.with_resources(_run_trial, {"cpu": trials[0].threads}),
            param_space={
                "trial": tune.grid_search(list(range(len(trials)))),
                "trials": ray.put(list(trials)),
            },
            tune_config=tune.TuneConfig(
                metric=_LOSS,
                mode="min",
                scheduler=halving if stop_early else FIFOScheduler(),
                max_concurrent_trials=at_once,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[_Counter(bar)],
            ),
        )
        tuner.fit()


class _Counter(tune.Callback):
    """Trials that are done, as a bar."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bar.update()


def _run_trial(parameters: Mapping[str, Any]) -> None:
    trial: Task = ray.get(parameters["trials"])[parameters["trial"]]
    torch.set_num_threads(trial.threads)
    (trial.folder / FAILED).unlink(missing_ok=True)  # it may succeed now
    if (trial.folder / RESULTS).exists():
        facts = newest_facts(trial.folder / "checkpoints")
        _tell(facts["best_metric"], facts["step"])
        return
    try:
        trial.experiment.run(trial.folder, progress=False, fit=_fit)
    except (LieSimError, ValueError) as error:
        trial.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(trial.folder / FAILED, f"{type(error).__name__}: {error}\n".encode())
        _tell(None, trial.experiment.training.max_steps)


def _tell(validation: float | None, step: int) -> None:
    finite = validation is not None and math.isfinite(validation)
    tune.report({_LOSS: validation if finite else math.inf, _TIME: step})


def _fit(
    module: nn.Module, task: Learning, config: TrainingConfig, folder: Path, *, progress: bool
) -> TrainingResult:
    """Say what the trial had found when it stopped, and go on."""
    world, found = TrialWorld(task.metric), checkpoints(folder / "checkpoints")
    done = int(found[-1].stem.removeprefix("step_")) if found else 0
    for row in read_metrics(folder / "metrics.jsonl") if done else []:
        if row["step"] <= done:
            world.report(row)
    return train(module, task, config, folder, progress=progress, world=world)
