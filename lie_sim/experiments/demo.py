"""The demonstration: four ways to predict springs, the same data and CPU time for each that learns.

    LieTransformer       our model: soft frames, one block
    paper's preset       the architecture of the LieTransformer paper, T(2), 841,641 parameters
    fully connected      a Hamiltonian neural network without symmetries
    free motion          straight lines

All learn from the forces along 400 chunks of five points. The baselines run in a second process beside the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from lie_sim.data import Trajectories
from lie_sim.experiments.base import curve
from lie_sim.experiments.dynamics import score_rollout
from lie_sim.experiments.results import write_figures
from lie_sim.experiments.springs import POINTS, SpringsConfig, SpringsExperiment, free_motion_scores
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import (
    EnergyModel,
    FullyConnected,
    FullyConnectedConfig,
    LieTransformer,
    paper_preset,
    parameter_count,
)
from lie_sim.report import ReportData, Table, write_report
from lie_sim.training import TrainingConfig, fit_scales, train

OURS, PAPER, CONNECTED, FREE = "LieTransformer", "paper's preset, T(2)", "fully connected", "free motion"
COMPARISON = "comparison.json"
"""The table, in the run directory; everything else there is of our model's run."""


@dataclass(frozen=True)
class DemoConfig:
    """Options of the demonstration.

    Args:
        cpu_seconds: training time of each model.
        num_train: training systems.
        num_validation: validation systems.
        num_test: test systems.
        long_steps: steps of the long rollout.
        seed: of data and weights.
    """

    cpu_seconds: float = 30.0
    num_train: int = 400
    num_validation: int = 100
    num_test: int = 100
    long_steps: int = 100
    seed: int = 0

    def experiment(self) -> SpringsExperiment:
        """Our model's experiment."""
        training = TrainingConfig(
            max_steps=0,
            max_cpu_seconds=self.cpu_seconds,
            validate_every=200,
            checkpoint_every=200,
            seed=self.seed,
        )
        return SpringsExperiment(
            SpringsConfig(
                num_train=self.num_train,
                num_validation=self.num_validation,
                num_test=self.num_test,
                long_steps=self.long_steps,
                data_seed=self.seed,
                training=training,
            )
        )


@dataclass(frozen=True)
class Score:
    """One row of the table, and its error against time."""

    parameters: int
    cpu_seconds: float
    short: float
    long: float
    diverged_share: float
    times: torch.Tensor
    errors: torch.Tensor


def run_demo(
    directory: str | Path, config: DemoConfig | None = None, *, progress: bool = True
) -> dict[str, dict[str, float]]:
    """Train, compare and write the report.

    Args:
        directory: the run directory; a run that is there is continued.
        config: options; None takes the defaults.
        progress: show progress bars.

    Returns:
        For each model its parameters, training CPU seconds, 5-point and long errors (``mse5`` and
        ``mse<long_steps>``) and diverged share.
    """
    config, folder = config or DemoConfig(), Path(directory)
    with _one_thread(), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        baselines = {name: pool.submit(_baseline, name, config) for name in (PAPER, CONNECTED)}
        experiment = config.experiment()
        result = experiment.run(folder, progress=progress)
        assert isinstance(result.module, Hamiltonian)
        scores = {OURS: _score(result.module, experiment, result.cpu_seconds)}
        scores |= {name: future.result() for name, future in baselines.items()}
    scores[FREE] = _free_motion(experiment)
    rows = {name: _row(score, config.long_steps) for name, score in scores.items()}
    write_figures(folder / COMPARISON, rows)
    report = _with_comparison(ReportData.load(folder / "report_data.json"), scores, config)
    report.save(folder / "report_data.json")
    write_report(report, folder)
    return rows


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, so that CPU seconds mean the same for every model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _baseline(name: str, config: DemoConfig) -> Score:
    """Train and score a baseline; runs in a process of its own."""
    torch.set_num_threads(1)
    experiment = config.experiment()
    torch.manual_seed(config.seed)
    model = _baseline_model(name, experiment.train_chunks)
    training = replace(experiment.training, learning_rate=1e-3)  # the paper's
    result = train(Hamiltonian(model), experiment.task(), training, progress=False)
    assert isinstance(result.module, Hamiltonian)
    return _score(result.module, experiment, result.cpu_seconds)


def _baseline_model(name: str, chunks: Trajectories) -> EnergyModel:
    scaled = fit_scales(paper_preset("springs-T2"), chunks)
    if name == PAPER:
        return LieTransformer(scaled)
    return FullyConnected(
        FullyConnectedConfig(num_particles=6, num_attributes=1, energy_scale=scaled.energy_scale)
    )


def _score(hamiltonian: Hamiltonian, experiment: SpringsExperiment, cpu_seconds: float) -> Score:
    short = score_rollout(hamiltonian, experiment.chunks("test", POINTS))
    long = score_rollout(hamiltonian, experiment.chunks("test", experiment.config.long_steps + 1))
    return Score(
        parameters=parameter_count(hamiltonian),
        cpu_seconds=cpu_seconds,
        short=short.mean,
        long=long.mean,
        diverged_share=long.diverged_share,
        times=long.error.times,
        errors=long.error.mean,
    )


def _free_motion(experiment: SpringsExperiment) -> Score:
    short = free_motion_scores(experiment.chunks("test", POINTS))
    long = free_motion_scores(experiment.chunks("test", experiment.config.long_steps + 1))
    return Score(0, 0.0, short.mean, long.mean, 0.0, long.error.times, long.error.mean)


def _row(score: Score, long_steps: int) -> dict[str, float]:
    return {
        "parameters": score.parameters,
        "cpu_seconds": score.cpu_seconds,
        "mse5": score.short,
        f"mse{long_steps}": score.long,
        "diverged_share": score.diverged_share,
    }


def _with_comparison(report: ReportData, scores: dict[str, Score], config: DemoConfig) -> ReportData:
    """The report of our run with all models in its table and its error plot."""
    long = f"{len(scores[OURS].times) - 1}-step MSE"
    columns = [
        "model",
        "5-point MSE",
        long,
        "diverged",
        "parameters",
        "training CPU s",
    ]  # a phone shows the first ones
    rows: list[list[str | int | float | None]] = [
        [name, s.short, s.long, s.diverged_share, s.parameters, round(s.cpu_seconds, 1)]
        for name, s in scores.items()
    ]
    curves = {name: curve(score.times, score.errors) for name, score in scores.items()}
    return replace(
        report,
        comparison=Table(columns=columns, rows=rows),
        error_curves=curves,
        notes={**report.notes, "comparison": _caption(config)},
    )


def _caption(config: DemoConfig) -> str:
    return (
        f"Every model that learns has had {config.cpu_seconds:g} CPU seconds, one thread, and the same "
        f"{config.num_train} training systems; MSE is that of (q, p). Paper's preset: the architecture of Hutchinson "
        "et al., trained for the same CPU time, a small part of its published budget of about 0.9 CPU hours. Fully "
        "connected: a Hamiltonian neural network without symmetries. Free motion: straight lines, as if nothing pulled."
    )
