"""The real solar system: learn gravity from twenty years of planet positions, predict the next twenty.

Training data are the daily positions and momenta of JPL DE421; the model is asked for accelerations
along them, each body's error in units of its own acceleration. It then starts from the ephemeris' state at the
end of the training years and runs on with a symplectic step of one day.

    position error of a body = |q_model(t) − q_DE421(t)|, AU;  compared with the true Newtonian force, same integrator

Reference: Folkner, Williams, Boggs, IPN Progress Report 42-178 (2009), for DE421.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.data import Trajectories, solar_trajectories
from lie_sim.errors import ConfigError
from lie_sim.experiments.base import Evaluation, Experiment, curve, register_experiment
from lie_sim.experiments.dynamics import energy_curves, energy_note, score_rollout
from lie_sim.experiments.symmetry import before_and_after
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import get_method
from lie_sim.integrators.stepper import refuse_adaptive
from lie_sim.models import EnergyModel, LieTransformer, LieTransformerConfig
from lie_sim.report import EquivarianceRow, ReportData, Table, TrajectoryView
from lie_sim.systems import SolarSystem
from lie_sim.systems.baselines import circular_orbits, constant_velocity
from lie_sim.systems.solar import FIRST_DAY, LAST_DAY, julian_date
from lie_sim.training import TrainingConfig, dynamics_task, fit_scales
from lie_sim.training.tasks import TensorTask

WINDOW = 7
"""Days that a force target is read off."""
_FRAMES = 400


def solar_model() -> LieTransformerConfig:
    """One attention block that weighs sources and energies by mass, as every gravitating body does."""
    return LieTransformerConfig(
        dim=3,
        use_masses=False,
        source_weight="masses",
        readout_weight="masses",
        radial="coulomb",
        softening=1e-4,
        num_frames=0,
        width=16,
        num_heads=4,
        num_layers=1,
        norm="none",
        kernel_hidden=16,
    )


def solar_training() -> TrainingConfig:
    """About three CPU minutes, in float64 and with relative errors.

    The outer planets feel a ten-thousandth of what Mercury does. The data have no noise, so a large rate
    that falls to zero and short memories (of the squared gradients and of the averaged weights) lead furthest.
    """
    return TrainingConfig(
        dtype="float64",
        weight="relative",
        batch_size=64,
        max_steps=6000,
        learning_rate=2e-2,
        min_learning_rate_ratio=0.0,
        weight_decay=0.0,
        betas=(0.9, 0.95),
        ema_decay=0.99,
    )


@dataclass(frozen=True)
class SolarConfig:
    """Options of the solar-system experiment.

    Args:
        train_start: first day of the training data (calendar date; the ephemeris covers 1900 to 2199).
        train_end: last day of it, and start of the prediction.
        test_end: last day of the prediction.
        step_days: time step of data and prediction.
        method: integrator of the prediction.
        validation_share: share of the training years, their last part, that is kept for validation.
        model: the potential.
        training: the training run.
    """

    train_start: str = "1980-01-01"
    train_end: str = "2000-01-01"
    test_end: str = "2020-01-01"
    step_days: float = 1.0
    method: str = "leapfrog"
    validation_share: float = 0.1
    model: LieTransformerConfig = field(default_factory=solar_model)
    training: TrainingConfig = field(default_factory=solar_training)

    def __post_init__(self) -> None:
        try:
            refuse_adaptive(get_method(self.method), "the solar experiment")
            start, end, last = map(julian_date, (self.train_start, self.train_end, self.test_end))
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if not FIRST_DAY <= start < end < last <= LAST_DAY:
            raise ConfigError(
                "train_start, train_end and test_end must follow each other, between 1899-12-04 and 2200-02-01; "
                f"got {self.train_start}, {self.train_end} and {self.test_end}"
            )
        if not 0 < self.step_days <= last - end:
            raise ConfigError(
                f"step_days must be positive and at most the {last - end:g} days of the prediction, "
                f"got {self.step_days}"
            )
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share must be from 0 to below 1, got {self.validation_share}")


@register_experiment
class SolarExperiment(Experiment[SolarConfig]):
    """Fit the planets of 1980–2000, predict 2000–2020."""

    name = "solar"
    Config = SolarConfig
    evaluation_only: ClassVar[frozenset[str]] = frozenset({"test_end", "method"})
    """Options that training and its data do not depend on; they may change in a run that is there."""

    @cached_property
    def _windows(self) -> tuple[Trajectories, Trajectories]:
        config = self.config
        path = solar_trajectories(config.train_start, config.train_end, step_days=config.step_days)
        windows = path.windows(WINDOW)
        kept = max(1, round(config.validation_share * len(windows)))
        return windows[: len(windows) - kept], windows[len(windows) - kept :]

    @cached_property
    def future(self) -> Trajectories:
        """What the planets did after the training years; S = 1."""
        return solar_trajectories(
            self.config.train_end, self.config.test_end, step_days=self.config.step_days
        )

    def task(self) -> TensorTask:
        """Relative acceleration errors along the training years."""
        return dynamics_task(self.config.training, *self._windows)

    def build(self) -> Hamiltonian:
        """An untrained Hamiltonian with the scales of the training data."""
        torch.manual_seed(self.config.training.seed)
        return Hamiltonian(LieTransformer(fit_scales(self.config.model, self._windows[0])))

    def evaluate(self, module: nn.Module, *, progress: bool = True) -> Evaluation:
        """Twenty years ahead: position errors of the model, Newton, circles and straight lines."""
        assert isinstance(module, Hamiltonian)
        truth, system = self.future, SolarSystem()
        precise = copy.deepcopy(module).double()  # the caller's module stays as it is
        learned = score_rollout(precise, truth, method=self.config.method, progress=progress)
        newton = score_rollout(system, truth, method=self.config.method)
        start = truth.state(0)
        predictions = {
            "LieTransformer": learned.predicted.q.to(truth.q),  # from the device of the module
            "Newton, same integrator and step": newton.predicted.q,
            "circular orbits": circular_orbits(start, truth.particles, truth.times),
            "constant velocity": constant_velocity(start, truth.particles, truth.times),
        }
        errors = {name: position_error(q, truth.q) for name, q in predictions.items()}
        rms = {name: float(error.square().mean().sqrt()) for name, error in errors.items()}
        ours, theirs = errors["LieTransformer"], errors["Newton, same integrator and step"]
        per_body = ours.square().mean(0).sqrt() / theirs.square().mean(0).sqrt()
        results = {
            "rms_error_au": rms["LieTransformer"],
            "newton_rms_error_au": rms["Newton, same integrator and step"],
            "error_over_newton": rms["LieTransformer"] / rms["Newton, same integrator and step"],
            "error_over_newton_worst_body": float(per_body.max()),
            "error_over_newton_median_body": float(per_body.median()),
            "circular_rms_error_au": rms["circular orbits"],
            "constant_velocity_rms_error_au": rms["constant velocity"],
        }
        gap = position_error(predictions["LieTransformer"], newton.predicted.q)
        results["distance_to_newton_rms_au"] = float(gap.square().mean().sqrt())
        report = ReportData(
            title="Solar system",
            subtitle=f"Gravity learned from {self.config.train_start} to {self.config.train_end}, "
            f"planets predicted to {self.config.test_end}",
            summary={
                "position error, all bodies": f"{rms['LieTransformer']:.2e} AU",
                "Newton, same integrator": f"{results['newton_rms_error_au']:.2e} AU",
                "error / Newton": f"{results['error_over_newton']:.2f}",
                "worst body, error / Newton": f"{results['error_over_newton_worst_body']:.2f}",
            },
            trajectories=self._views(truth, predictions["LieTransformer"][0]),
            error_curves={name: curve(truth.times, error.square().mean(1)) for name, error in errors.items()},
            energy_curves=energy_curves(system, truth, learned, newton),
            equivariance=self._symmetries(precise.potential, truth),
            comparison=_table(system.bodies, errors),
            time_unit="day",
            notes={
                "error": "It is that of the positions, in AU², over all bodies.",
                "energy": energy_note(truth, learned, method=self.config.method),
                "comparison": "Root mean square distance to the true position of each body, in AU. Newton's law is "
                "integrated with the same method and step; circular orbits keep the first distance from the Sun; "
                "constant velocity is a straight line.",
            },
        )
        return Evaluation(results=results, report=report)

    def _symmetries(self, trained: EnergyModel, truth: Trajectories) -> list[EquivarianceRow]:
        days = torch.linspace(0, truth.num_times - 1, 64).long()
        q, particles = truth.q[0, days], truth.particles.expand(len(days))
        return before_and_after(self.build().potential, trained, ["T(3)", "SE(3)", "E(3)"], q, particles)

    def _views(self, truth: Trajectories, predicted: Float[Tensor, "T N 3"]) -> list[TrajectoryView]:
        """Inner planets over their last two years, all bodies over the whole time."""
        names = list(SolarSystem().bodies)
        inner, days = slice(0, 5), min(truth.num_times - 1, 730)
        stride = max(1, truth.num_times // _FRAMES)
        return [
            _view("inner planets, last two years", truth, predicted, inner, slice(-days - 1, None, 2), names),
            _view("all bodies", truth, predicted, slice(0, len(names)), slice(0, None, stride), names),
        ]


def position_error(q: Float[Tensor, "1 T N 3"], truth: Float[Tensor, "1 T N 3"]) -> Float[Tensor, "T N"]:
    """|q − truth| of every body at every time."""
    distance: Tensor = (q - truth).norm(dim=-1)
    return distance[0]


def _view(
    label: str, truth: Trajectories, predicted: Tensor, bodies: slice, times: slice, names: list[str]
) -> TrajectoryView:
    masses = truth.particles.masses[0, bodies].numpy()
    return TrajectoryView(
        label=label,
        times=truth.times[times].numpy(),
        true=truth.q[0, times, bodies].numpy(),
        predicted=predicted[times, bodies].numpy(),
        sizes=1 + np.log10(masses / masses.min()),
        names=names[bodies],
        time_unit="day",
        length_unit="AU",
    )


def _table(bodies: tuple[str, ...], errors: dict[str, Tensor]) -> Table:
    """Root-mean-square position error of every body and prediction, AU."""
    rows: list[list[str | int | float | None]] = []
    for index, body in enumerate(bodies):
        rows.append([body, *(float(error[:, index].square().mean().sqrt()) for error in errors.values())])
    rows.append(["all", *(float(error.square().mean().sqrt()) for error in errors.values())])
    return Table(columns=["rms position error, AU", *errors], rows=rows)
