"""Why an energy takes the gate alone: jumps, energy that drifts, and sums of systems far apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lie_sim.models import AtomicPotential, LieTransformer, LieTransformerClassifier, LieTransformerConfig
from lie_sim.neighbors import neighbour_matrix
from lie_sim.pooling import SAGPool
from lie_sim.state import Particles

EXACT = 1e-12
"""Of energies of order 1 in float64."""
CUTOFF = 2.5
SMALL = {"dim": 3, "width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8, "cutoff": CUTOFF}
COUNT, STEPS, DT = 12, 60, 0.02


class PooledEnergy(torch.nn.Module):
    """Σ g_i ε(f_i tanh z_i) of a pooled LieTransformer, which the library itself refuses to make but for the gate."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        model = LieTransformer.default(**SMALL)
        self.backbone, self.head = model.backbone, torch.nn.Linear(8, 1)
        self.pool = SAGPool(8, mode=mode, temperature=0.3)
        self.double()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    def forward(self, q: Tensor, masses: Tensor | None = None) -> Tensor:
        """Energies of a batch."""
        if masses is None:
            masses = (1 + torch.arange(q.shape[1]).double() / q.shape[1]).expand(q.shape[:2])
        particles = Particles(masses=masses)
        features = self.backbone.features(q, particles)
        pooled = self.pool(features.points, features.pairs)
        return (pooled.weights * self.head(pooled.f).squeeze(-1)).sum(1)


def start() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    q, p = (torch.randn(1, COUNT, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return 1.5 * q, p


def roughness(energy: Callable[[Tensor], Tensor], steps: int = 1000) -> float:
    """Largest change of the energy in a step along a straight path, over the median change."""
    (q, p), grid = start(), torch.linspace(0, 1, steps, dtype=torch.float64)
    with torch.no_grad():
        change = energy(q + 2 * grid[:, None, None] * p).diff().abs()
    return float(change.max() / change.median())


def drift(energy: Callable[[Tensor], Tensor], steps: int = STEPS) -> float:
    """Largest change of H = p²/2 + q²/2 + E along a velocity Verlet trajectory; q²/2 holds the system together."""
    q, p = start()

    def force(q: Tensor) -> tuple[Tensor, Tensor]:
        q = q.detach().requires_grad_()
        value = energy(q).sum() + q.square().sum() / 2
        return value.detach(), -torch.autograd.grad(value, q)[0]

    value, f = force(q)
    total = []
    for _ in range(steps):
        p = p + DT / 2 * f
        q = q + DT * p
        value, f = force(q)
        p = p + DT / 2 * f
        total.append(value + p.square().sum() / 2)
    found = torch.stack(total)
    return float(found.max() - found.min())


def test_a_hard_choice_jumps_and_drifts_where_soft_ones_do_not() -> None:
    hard, soft, gate = (PooledEnergy(mode) for mode in ("hard", "soft", "gate"))
    assert roughness(hard) > 15
    assert max(roughness(soft), roughness(gate)) < 5
    assert drift(hard) > 20 * max(drift(soft), drift(gate))


def test_only_the_gate_adds_up() -> None:
    near = torch.randn(1, COUNT, 3, dtype=torch.float64)
    far = near.clone()
    far[:, 6:] += 1e3
    masses = 1 + torch.arange(COUNT).double()[None] / 3  # the heavy ones are all in the second system

    def excess(mode: str) -> float:
        model = PooledEnergy(mode)
        parts = model(near[:, :6], masses[:, :6]) + model(near[:, 6:], masses[:, 6:])
        return float((model(far, masses) - parts).detach().abs())

    assert excess("gate") < EXACT
    assert excess("soft") > 1e-2


def gated(**options: Any) -> LieTransformer:
    model = LieTransformer.default(**SMALL | options, pool="gate").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def test_the_gated_energy_of_systems_far_apart_is_the_sum() -> None:
    model, q = gated(), torch.randn(1, 8, 3, dtype=torch.float64)
    q = torch.cat([q[:, :4], q[:, 4:] + 1e3], 1)
    whole = Particles(masses=torch.ones(1, 8, dtype=torch.float64))
    half = Particles(masses=torch.ones(1, 4, dtype=torch.float64))
    parts = model.energy(q[:, :4], half) + model.energy(q[:, 4:], half)
    together = model.energy(q, whole, neighbour_matrix(q, whole, cutoff=CUTOFF))
    torch.testing.assert_close(together, parts, rtol=EXACT, atol=EXACT)


def test_the_gate_weighs_energies() -> None:
    model, q = gated(), torch.randn(1, 5, 3, dtype=torch.float64)
    particles = Particles(masses=torch.ones(1, 5, dtype=torch.float64))
    weighted = model(q, particles)
    assert model.gate is not None
    scores = model.gate(*_points_and_pairs(model, q, particles))
    model.gate = None
    torch.testing.assert_close(weighted, torch.sigmoid(scores) * model(q, particles), rtol=EXACT, atol=EXACT)


def _points_and_pairs(model: LieTransformer, q: Tensor, particles: Particles) -> tuple[Tensor, Any]:
    features = model.backbone.features(q, particles)
    return features.points, features.pairs


def test_the_gate_reaches_potentials_of_atoms() -> None:
    potential = AtomicPotential.default(elements=(1, 8), network={"pool": "gate", "cutoff": 3.0})
    water = Particles(masses=torch.ones(1, 3), species=torch.tensor([[8, 1, 1]]))
    q = torch.tensor([[[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]]])
    assert potential.network.gate is not None
    assert potential.energy(q, water).isfinite().all()


@pytest.mark.parametrize("pool", ["hard", "soft", "sag", "soft_sag"])
def test_an_energy_refuses_top_k_and_says_why(pool: str) -> None:
    with pytest.raises(ValueError, match=r"jump.*not the sum of theirs.*pool='gate'"):
        LieTransformerConfig(pool=pool)


def test_other_pools_and_readouts_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown pool 'best'; choose one of none, gate"):
        LieTransformerConfig(pool="best")
    with pytest.raises(ValueError, match="pool='gate' weighs the terms of readout='sum'"):
        LieTransformerConfig(pool="gate", readout="mean")
    with pytest.raises(ValueError, match="pool='gate' is for energies"):
        LieTransformerClassifier(LieTransformerConfig(pool="gate"), num_outputs=2)
