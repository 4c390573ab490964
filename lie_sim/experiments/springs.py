"""Springs: the benchmark of the LieTransformer paper, learned from chunks of five points.

Six particles in the plane, every pair joined by a spring; each training system contributes one chunk of five
points (a horizon of 0.04). Tests: chunks of five points and of 101 points of unseen systems.

Reference: Hutchinson et al., arXiv:2012.10885, section 5.3; Finzi et al., arXiv:2002.12880.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from lie_sim.checkpoint import load_model
from lie_sim.data import DatasetConfig, Trajectories, generate_split
from lie_sim.data.dataset import split_seed
from lie_sim.data.derivatives import momentum_slopes
from lie_sim.errors import ConfigError
from lie_sim.experiments.base import Evaluation, Experiment, curve, register_experiment
from lie_sim.experiments.dynamics import (
    STATE_ERROR,
    RolloutScores,
    energy_curves,
    energy_note,
    score_rollout,
)
from lie_sim.experiments.model_choice import ModelConfig
from lie_sim.experiments.symmetry import before_and_after
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import EnergyModel, LieTransformerConfig, SE3TransformerConfig, model_class_of
from lie_sim.report import EquivarianceRow, ReportData, Table, TrajectoryView
from lie_sim.state import Particles
from lie_sim.systems import Springs
from lie_sim.training import TrainingConfig, dynamics_task, fit_scales
from lie_sim.training.tasks import TensorTask

POINTS = 5
"""Points of a training chunk, as in the paper."""


def springs_model() -> LieTransformerConfig:
    """Our model for springs: one attention block over soft frames."""
    return LieTransformerConfig(
        dim=2,
        num_attributes=1,
        num_layers=1,
        width=32,
        num_heads=8,
        num_frames=2,
        kernel_hidden=32,
        norm="none",
    )


def springs_se3_model() -> SE3TransformerConfig:
    """Two blocks over vectors of the plane."""
    return SE3TransformerConfig(dim=2, num_attributes=1, num_layers=2, lmax=1, width=16, num_heads=4)


@dataclass(frozen=True)
class SpringsConfig:
    """Options of the springs experiment.

    Args:
        num_train: training systems, one chunk each.
        train_points: points of a chunk, up to the 500 of a trajectory; the papers have 5.
        noise: standard deviation of an error added to every training and validation coordinate and momentum, once.
        start_from: run directory or model folder whose weights the training begins with; "" for new ones.
        num_validation: validation systems.
        num_test: test systems.
        long_steps: steps of the long rollout, more than the five points of a chunk; they name its results.
        data_seed: of all data.
        model: the potential.
        training: the training run.
    """

    num_train: int = 400
    train_points: int = POINTS
    noise: float = 0.0
    start_from: str = ""
    num_validation: int = 200
    num_test: int = 500
    long_steps: int = 100
    data_seed: int = 0
    model: ModelConfig = field(default_factory=springs_model)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        longest = len(Springs().default_times()) - 1
        if not POINTS < self.long_steps <= longest:
            raise ConfigError(f"long_steps must be from {POINTS + 1} to {longest}, got {self.long_steps}")
        if not 2 <= self.train_points <= longest + 1:
            raise ConfigError(f"train_points must be from 2 to {longest + 1}, got {self.train_points}")
        if self.training.rollout_points > self.train_points:
            raise ConfigError(
                f"training.rollout_points = {self.training.rollout_points} needs chunks of as many points: "
                f"set train_points (now {self.train_points}) to at least that"
            )
        if not 0 <= self.noise < float("inf"):
            raise ConfigError(f"noise must be finite and not negative, got {self.noise}")


@register_experiment
class SpringsExperiment(Experiment[SpringsConfig]):
    """Learn a spring system from trajectories, predict unseen ones.

    Example:
        >>> experiment = SpringsExperiment(SpringsConfig(num_train=8, num_validation=4, num_test=4))
        >>> experiment.build().potential.config.num_attributes
        1
    """

    name = "springs"
    Config = SpringsConfig
    models: ClassVar = {"lie_transformer": springs_model, "se3_transformer": springs_se3_model}
    evaluation_only: ClassVar[frozenset[str]] = frozenset({"num_test", "long_steps"})
    """Options that training and its data do not depend on; they may change in a run that is there."""

    @cached_property
    def dataset(self) -> DatasetConfig:
        """What is generated."""
        config = self.config
        return DatasetConfig(
            train=config.num_train, val=config.num_validation, test=config.num_test, seed=config.data_seed
        )

    def chunks(self, split: str, num_points: int) -> Trajectories:
        """One random aligned chunk of every trajectory of a split."""
        seed = split_seed(self.config.data_seed, f"chunks of {num_points} from {split}")
        return generate_split(self.dataset, split).chunks(
            num_points, generator=torch.Generator().manual_seed(seed)
        )

    def observed(self, split: str) -> Trajectories:
        """Chunks of a split as training sees them: ``train_points`` points, with noise."""
        config, chunks = self.config, self.chunks(split, self.config.train_points)
        if not config.noise:
            return chunks
        generator = torch.Generator().manual_seed(split_seed(config.data_seed, f"noise of {split}"))
        error = config.noise * torch.randn(2, *chunks.q.shape, generator=generator, dtype=chunks.q.dtype)
        return replace(chunks, q=chunks.q + error[0], p=chunks.p + error[1])

    @cached_property
    def train_chunks(self) -> Trajectories:
        """The training data; by default as the paper has them."""
        return self.observed("train")

    def task(self) -> TensorTask:
        """Forces along the chunks, or rollouts over them, as the training options say."""
        return dynamics_task(self.config.training, self.train_chunks, self.observed("val"))

    def build(self) -> Hamiltonian:
        """A Hamiltonian with the scales of the training data and new weights, or those of ``start_from``."""
        torch.manual_seed(self.config.training.seed)
        data = self.train_chunks
        slopes = momentum_slopes(data.p, data.dt) if self.config.noise else None
        model = fit_scales(self.config.model, data, slopes)
        hamiltonian = Hamiltonian(model_class_of(model)(model))
        return self._started(hamiltonian) if self.config.start_from else hamiltonian

    def _started(self, hamiltonian: Hamiltonian) -> Hamiltonian:
        """The trained module of another run, if it is of the same architecture; its scales are kept."""
        folder = Path(self.config.start_from)
        found = load_model(folder / "model" if (folder / "model").is_dir() else folder)
        ours, theirs = ({k: x.shape for k, x in m.state_dict().items()} for m in (hamiltonian, found))
        if not isinstance(found, Hamiltonian) or ours != theirs:
            raise ConfigError(
                f"start_from: {folder} holds a model of another architecture; give the same model options"
            )
        return found.train()

    def evaluate(self, module: torch.nn.Module, *, progress: bool = True) -> Evaluation:
        """Short and long rollouts, energies and symmetries on the test systems."""
        assert isinstance(module, Hamiltonian)
        short = score_rollout(module, self.chunks("test", POINTS))
        long_truth = self.chunks("test", self.config.long_steps + 1)
        long = score_rollout(module, long_truth, progress=progress)
        free = free_motion_scores(long_truth)
        results = {
            "mse5": short.mean,
            f"mse{self.config.long_steps}": long.mean,
            f"mse{self.config.long_steps}_last": long.last,
            "diverged_share": long.diverged_share,
        }
        horizon = long_truth.dt * (self.config.train_points - 1)
        learned = type(module.potential).__name__
        views = trajectory_views(long_truth, long, train_horizon=horizon)
        report = ReportData(
            title="Springs",
            subtitle="Six particles in the plane, every pair joined by a spring; predicted from unseen initial states",
            summary={
                "5-point test error": f"{short.mean:.2e}",
                f"{self.config.long_steps}-step test error": f"{long.mean:.2e}",
                "diverged systems": f"{long.diverged_share:.1%}",
                "test systems": str(self.config.num_test),
            },
            trajectories=views,
            first_trajectory=len(views) // 2,
            error_curves={
                learned: curve(long.error.times, long.error.mean),
                "free motion": curve(long.error.times, free.error.mean),
            },
            energy_curves=energy_curves(Springs(), long_truth, long, score_rollout(Springs(), long_truth)),
            equivariance=self._symmetries(module.potential, long_truth),
            comparison=Table(
                columns=["model", "5-point MSE", f"{self.config.long_steps}-step MSE", "diverged"],
                rows=[
                    [learned, short.mean, long.mean, long.diverged_share],
                    ["free motion", free_motion_scores(self.chunks("test", POINTS)).mean, free.mean, 0.0],
                ],
            ),
            train_horizon=horizon,
            notes={
                "trajectories": f"Systems are ranked by their error over {self.config.long_steps} steps: "
                "1 is the smallest, and the one in the middle is shown first.",
                "error": STATE_ERROR,
                "energy": energy_note(long_truth, long, method="pefrl"),
                "comparison": f"MSE is that of (q, p), over {POINTS} points and over {self.config.long_steps + 1}. "
                f"The model learned from {self.config.num_train} systems; free motion is straight lines, as if "
                "nothing pulled.",
            },
        )
        return Evaluation(results=results, report=report)

    def _symmetries(self, trained: EnergyModel, truth: Trajectories) -> list[EquivarianceRow]:
        q, particles = truth.q[:64, 0], truth[:64].particles
        return before_and_after(self.build().potential, trained, ["T(2)", "SE(2)", "E(2)"], q, particles)


def free_motion_scores(truth: Trajectories) -> RolloutScores:
    """Errors of the prediction that nothing pulls: straight lines."""
    return score_rollout(Springs(), replace(truth, particles=_without_springs(truth)))


def _without_springs(truth: Trajectories) -> Particles:
    particles = truth.particles
    assert particles.attributes is not None
    return replace(particles, attributes=torch.zeros_like(particles.attributes))


def trajectory_views(
    truth: Trajectories, scores: RolloutScores, *, train_horizon: float, count: int = 7
) -> list[TrajectoryView]:
    """Test systems to animate, by their error: the best, the worst and some between; the median is in the middle."""
    order = scores.error.per_system.double().nanmean(-1).nan_to_num(torch.inf).argsort()
    ranks = torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()
    views = []
    for rank in ranks.tolist():
        index = int(order[rank])
        views.append(
            TrajectoryView(
                label=f"#{index} · rank {rank + 1} of {len(order)}",
                times=truth.times.numpy(),
                true=truth.q[index].numpy(),
                predicted=scores.predicted.q[index].double().cpu().numpy(),
                sizes=truth.particles.masses[index].numpy(),
                train_horizon=train_horizon,
            )
        )
    return views
