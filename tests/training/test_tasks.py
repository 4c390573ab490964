"""Losses of the tasks against an exact model and against plain formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lie_sim import Hamiltonian, LieTransformer, Particles
from lie_sim.data import Trajectories, make_trajectories
from lie_sim.models import EnergyModel, LieTransformerClassifier, LieTransformerConfig
from lie_sim.systems import Springs
from lie_sim.training import (
    ClassificationTask,
    DerivativeTask,
    LabelledSets,
    RolloutTask,
    TrainingConfig,
    dynamics_task,
)

SPRINGS = Springs(num_particles=3)
CPU = torch.device("cpu")
TARGET_ERROR = 1e-16  # squared and relative: the Hermite targets are of order 8 in dt = 0.01
YOSHIDA_ERROR = 1e-12  # squared: (dt ω)⁴ with dt = 0.01
ROUNDING = 1e-9  # relative, float64 sums in another order


class Exact(EnergyModel):
    """The true potential, shared out equally, times a factor that can be trained."""

    name = "exact"

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, q: Tensor, particles: Particles, neighbours: Any = None) -> Tensor:
        return self.factor * (SPRINGS.potential(q, particles)[:, None] / q.shape[1]).expand(q.shape[:2])


def chunks(systems: int = 12, points: int = 5) -> Trajectories:
    times = torch.linspace(0, 0.01 * (points - 1), points, dtype=torch.float64)
    return make_trajectories(SPRINGS, systems, seed=0, times=times)


def everything(task: Any) -> dict[str, Tensor]:
    return task.batch(torch.arange(task.num_samples), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", ["none", "mass"])
def test_the_true_potential_has_no_loss_and_a_wrong_one_the_right_loss(weight: str) -> None:
    data = chunks()
    task = DerivativeTask(data, data, weight=weight, points_per_chunk=0)
    assert task.loss(Hamiltonian(Exact()), everything(task)).item() < TARGET_ERROR
    wrong = task.loss(Hamiltonian(Exact(1.5)), everything(task)).item()
    force = torch.stack([SPRINGS.force(data.q[:, k], data.particles) for k in range(5)], 1)
    if weight == "mass":
        force = force / data.particles.masses[:, None, :, None]
    expected = float((0.5 * force).square().mean() / force.var())
    assert wrong == pytest.approx(expected, rel=1e-7)  # the targets are good to 1e-8


def test_relative_weight_is_the_same_for_every_particle() -> None:
    """A wrong factor is the same relative error for each particle, however small its forces are."""
    data = chunks()
    task = DerivativeTask(data, data, weight="relative", points_per_chunk=0)
    assert task.loss(Hamiltonian(Exact(1.5)), everything(task)).item() == pytest.approx(0.25, rel=1e-7)


def test_validation_of_the_true_potential() -> None:
    data = chunks(points=8)
    found = DerivativeTask(data, data).validate(Hamiltonian(Exact()))
    assert found["validation_loss"] < TARGET_ERROR
    assert found["rollout_mse"] < YOSHIDA_ERROR


def with_padding(data: Trajectories) -> Trajectories:
    """One particle more in every system, which exists in the first third of them only (as a copy at rest)."""
    more = lambda x: torch.cat([x, x[..., :1, :]], -2)  # noqa: E731
    masses = torch.cat([data.particles.masses, data.particles.masses[:, :1]], 1)
    mask = torch.ones_like(masses, dtype=torch.bool)
    mask[len(data) // 3 :, -1] = False
    particles = Particles(masses, attributes=more(data.particles.attributes), mask=mask)
    return Trajectories(more(data.q), more(data.p), data.times, particles)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [DerivativeTask, RolloutTask])
def test_validation_in_parts_is_the_mean_over_all(
    monkeypatch: pytest.MonkeyPatch, make: type[Any], masked: bool
) -> None:
    """Also where the parts hold different numbers of particles, and where a part ends within a chunk."""
    data, module = chunks(), Hamiltonian(Exact(1.2))
    if masked:
        data = with_padding(data)
        options: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 1, "num_attributes": 1}
        module = Hamiltonian(LieTransformer.default(**options)).double()
    task = make(data, data)
    whole = task.validate(module)
    for size in (3, 5, 7):
        monkeypatch.setattr("lie_sim.training.dynamics._VALIDATION_BATCH", size)
        assert task.validate(module) == pytest.approx(whole, rel=ROUNDING)


def test_validation_of_forces_is_the_loss_at_all_points() -> None:
    data, module = with_padding(chunks()), Hamiltonian(LieTransformer.default(num_attributes=1)).double()
    task = DerivativeTask(data, data, points_per_chunk=0)
    expected = task.loss(module, everything(task)).item()
    assert task.validate(module)["validation_loss"] == pytest.approx(expected, rel=ROUNDING)


def test_validation_never_computes_more_points_at_once_than_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    class Watched(Exact):
        def forward(self, q: Tensor, particles: Particles, neighbours: Any = None) -> Tensor:
            sizes.append(len(q))
            return super().forward(q, particles, neighbours)

    monkeypatch.setattr("lie_sim.training.dynamics._VALIDATION_BATCH", 7)
    data = chunks()
    DerivativeTask(data, data).validate(Hamiltonian(Watched()))
    assert max(sizes) == 7


@pytest.mark.parametrize("count", [1, 2, 0])
def test_random_points_are_points_of_the_chosen_chunks(count: int) -> None:
    data = chunks()
    task = DerivativeTask(data, data, points_per_chunk=count)
    batch = task.batch(torch.tensor([7, 2]), torch.Generator().manual_seed(1))
    per_chunk = count or 5
    assert batch["q"].shape == (2 * per_chunk, 3, 2)
    for row, system in enumerate([7] * per_chunk + [2] * per_chunk):
        matches = (data.q[system] == batch["q"][row]).all(-1).all(-1)
        assert matches.sum() == 1
        assert torch.equal(batch["particles.masses"][row], data.particles.masses[system])
        assert torch.equal(batch["force"][row], task._train["force"][system, int(matches.nonzero())])
    assert len({tuple(q.flatten().tolist()) for q in batch["q"]}) == 2 * per_chunk  # without repetition


def test_padding_changes_nothing() -> None:
    data = chunks()
    pad = lambda x: torch.cat([x, torch.zeros_like(x[..., :1, :])], -2)  # noqa: E731
    masses = torch.cat([data.particles.masses, torch.zeros(12, 1, dtype=torch.float64)], 1)
    mask = masses > 0
    particles = Particles(masses, attributes=pad(data.particles.attributes), mask=mask)
    padded = Trajectories(pad(data.q), pad(data.p), data.times, particles)
    for weight in ("none", "mass"):
        plain, with_padding = (
            DerivativeTask(d, d, weight=weight, points_per_chunk=0) for d in (data, padded)
        )
        options: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 1, "num_attributes": 1}
        module = Hamiltonian(LieTransformer.default(**options)).double()
        losses = [task.loss(module, everything(task)) for task in (plain, with_padding)]
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=ROUNDING)
        gradients = [torch.autograd.grad(loss, module.parameters(), allow_unused=True) for loss in losses]
        finite = [g.isfinite().all() for g in gradients[1] if g is not None]
        assert finite
        assert all(finite)


def test_rollout_loss_is_the_mean_square_error_and_its_gradient_is_right() -> None:
    data = chunks(systems=4)
    task = RolloutTask(data, data, method="yoshida4", substeps=2)
    assert task.loss(Hamiltonian(Exact()), everything(task)).item() < YOSHIDA_ERROR
    module, step = Hamiltonian(Exact(1.5)), 1e-5
    loss = task.loss(module, everything(task))
    (gradient,) = torch.autograd.grad(loss, module.parameters())
    above, below = (
        task.loss(Hamiltonian(Exact(1.5 + sign * step)), everything(task)).item() for sign in (1, -1)
    )
    assert gradient.item() == pytest.approx((above - below) / (2 * step), rel=1e-6)  # O(step²)
    assert task.validate(module)["validation_loss"] == pytest.approx(loss.item(), rel=ROUNDING)


def test_dynamics_task_follows_the_configuration() -> None:
    data = chunks()
    derivative = dynamics_task(TrainingConfig(weight="mass", validation_systems=3), data, data)
    assert derivative.options() == {
        "task": "DerivativeTask",
        "weight": "mass",
        "points_per_chunk": 1,
        "dt": data.dt,
    }
    assert len(derivative._validation["q"]) == 3
    rollout = dynamics_task(TrainingConfig(loss="rollout", rollout_method="leapfrog"), data, data)
    assert rollout.options()["method"] == "leapfrog"


def test_digest_knows_every_number() -> None:
    data = chunks()
    before = RolloutTask(data, data).digest()
    other = Trajectories(data.q.clone(), data.p, data.times, data.particles)
    other.q[3, 2, 1, 0] += 1e-9
    assert RolloutTask(data, data).digest() == before
    assert RolloutTask(other, data).digest() != before
    assert RolloutTask(data, other).digest() != before


def test_bad_data_and_models_are_refused() -> None:
    data = chunks()
    with pytest.raises(ValueError, match="must be float64"):
        DerivativeTask(data.to(dtype=torch.float32), data)
    coarse = Trajectories(data.q, data.p, 2 * data.times, data.particles)
    for task in (RolloutTask, DerivativeTask):
        with pytest.raises(ValueError, match="share one time step"):
            task(data, coarse)
    with pytest.raises(ValueError, match="weight must be"):
        DerivativeTask(data, data, weight="charge")
    broken = Trajectories(data.q * float("nan"), data.p, data.times, data.particles)
    with pytest.raises(ValueError, match="training data 'q' contain NaN"):
        RolloutTask(broken, data)
    with pytest.raises(ValueError, match="validation data are empty"):
        RolloutTask(data, data[:0])
    with pytest.raises(TypeError, match=r"train Hamiltonian\(model\)"):
        RolloutTask(data, data).loss(Exact(), everything(RolloutTask(data, data)))
    learned = Hamiltonian(Exact(), masses="learned", num_attributes=1)
    with pytest.raises(ValueError, match="known masses"):
        DerivativeTask(data, data).loss(learned, everything(DerivativeTask(data, data)))


def test_classification_loss_and_accuracy() -> None:
    class Fixed(nn.Module):
        def forward(self, q: Tensor, particles: Particles) -> Tensor:
            return q.flatten(1)  # scores are the positions

    scores = torch.tensor([[[4.0, 0.0], [0.0, 4.0]], [[0.0, 0.0], [1.0, 2.0]]])
    labels = torch.tensor([[0, 1], [1, 0]])
    sets = LabelledSets(scores, Particles(torch.ones(2, 2)), labels)
    task = ClassificationTask(sets, sets, num_classes=2)
    logs = scores.reshape(4, 2).log_softmax(-1)
    expected = -float((logs[0, 0] + logs[1, 1] + logs[2, 1] + logs[3, 0]) / 4)
    assert float(task.loss(Fixed(), everything(task))) == pytest.approx(expected, rel=1e-6)  # float32
    found = task.validate(Fixed())
    assert found == pytest.approx({"validation_loss": expected, "error_rate": 0.5, "accuracy": 0.5}, rel=1e-6)
    with pytest.raises(ValueError, match="labels must be from 0 to 0"):
        ClassificationTask(sets, sets, num_classes=1)
    model = LieTransformerClassifier(
        LieTransformerConfig(readout="mean", width=8, num_heads=2), num_outputs=3
    )
    with pytest.raises(ValueError, match="need 4 outputs"):
        task.loss(model, everything(task))
