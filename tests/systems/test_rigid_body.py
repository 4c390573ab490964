"""Torques against finite differences and closed forms, conserved quantities of the equations, sampling, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lie_sim.groups import SE3, SO3
from lie_sim.systems import FreeRigidBody, HeavyTop, RigidBodySystem, SoftDipoles
from lie_sim.systems.rigid_body import angular_momentum, random_rotations, wrench

ROUND_OFF = 1e-13  # measured: up to 2e-15
DIFFERENCE_ERROR = 1e-8  # central differences with step 1e-5; measured: up to 1.2e-9
SYSTEMS: list[RigidBodySystem] = [
    FreeRigidBody(),
    HeavyTop(weight=1.5, centre=(0.6, 0.0, 0.8)),
    SoftDipoles(num_bodies=3),
]
ALL = pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)


def drawn(system: RigidBodySystem, num_systems: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    return system.sample(num_systems, generator=torch.Generator().manual_seed(seed))


class LearnedPotential(nn.Module):
    """Some function of the poses that a network might be."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def forward(self, g: Tensor) -> Tensor:
        return self.net(g[..., :3, :].flatten(-2)).sum((-2, -1))


def differences(potential: Any, g: Tensor, step: float = 1e-5) -> Tensor:
    """−dV/dε along R exp(ε e_a^) and x + ε e_a, by central differences."""
    columns = []
    for axis in range(3):
        turn = torch.zeros_like(g)
        turn[:] = torch.eye(g.shape[-1])
        values = []
        for sign in (1, -1):
            v = torch.zeros(3, dtype=g.dtype)
            v[axis] = sign * step
            turn[..., :3, :3] = SO3().exp(v)
            values.append([potential(_of_body(g, g @ turn, body)) for body in range(_bodies(g))])
        columns.append(_slope(values, step))
    for axis in range(3 if g.shape[-1] == 4 else 0):
        values = []
        for sign in (1, -1):
            moved = g.clone()
            moved[..., axis, 3] += sign * step
            values.append([potential(_of_body(g, moved, body)) for body in range(_bodies(g))])
        columns.append(_slope(values, step))
    result = torch.stack(columns, dim=-1)
    return result if g.ndim == 4 else result[:, 0]


def _bodies(g: Tensor) -> int:
    return g.shape[1] if g.ndim == 4 else 1


def _of_body(g: Tensor, changed: Tensor, body: int) -> Tensor:
    if g.ndim == 3:
        return changed
    chosen = g.clone()
    chosen[:, body] = changed[:, body]
    return chosen


def _slope(values: list[list[Tensor]], step: float) -> Tensor:
    plus, minus = (torch.stack(part, dim=1) for part in values)
    return -(plus - minus) / (2 * step)


@ALL
def test_wrench_is_the_left_trivialised_derivative(system: RigidBodySystem) -> None:
    g, _ = drawn(system)
    error = (system.wrench(g) - differences(system.potential, g)).abs().max().item()
    assert error < DIFFERENCE_ERROR, f"{error:.1e} > {DIFFERENCE_ERROR:.1e}"


def test_wrench_of_a_learned_potential() -> None:
    g, _ = drawn(SoftDipoles(num_bodies=2))
    potential = LearnedPotential()
    error = (wrench(potential, g) - differences(potential, g)).abs().max().item()
    assert error < DIFFERENCE_ERROR, f"{error:.1e} > {DIFFERENCE_ERROR:.1e}"


def test_wrench_of_a_learned_potential_trains_it() -> None:
    g, _ = drawn(SoftDipoles(num_bodies=2))
    potential = LearnedPotential()
    wrench(potential, g).square().sum().backward()
    assert all(parameter.grad is not None for parameter in list(potential.parameters())[:-1])
    with torch.no_grad():
        assert not wrench(potential, g).requires_grad


def test_torque_of_the_heavy_top_in_closed_form() -> None:
    top = HeavyTop(weight=1.5, centre=(0.6, 0.0, 0.8))
    g, _ = drawn(top)
    down = -g[..., 2, :]
    expected = torch.linalg.cross(top.weight * down.new_tensor(top.centre).expand_as(down), down)
    assert (top.wrench(g) - expected).abs().max() < ROUND_OFF


def test_dipoles_do_not_notice_a_rigid_motion_of_all() -> None:
    system = SoftDipoles(num_bodies=4)
    g, _ = drawn(system)
    motion = SE3().random((4, 1), 1, dtype=torch.float64)
    assert (system.potential(motion @ g) - system.potential(g)).abs().max() < ROUND_OFF
    order = [2, 0, 3, 1]
    assert (system.potential(g[:, order]) - system.potential(g)).abs().max() < ROUND_OFF


def test_dipoles_keep_total_momentum_and_angular_momentum() -> None:
    """Σ F = 0 and Σ (R τ + x × F) = 0."""
    system = SoftDipoles(num_bodies=4)
    g, _ = drawn(system)
    total = system.wrench(g)
    assert total[..., 3:].sum(1).abs().max() < ROUND_OFF
    assert angular_momentum(g, total).sum(1).abs().max() < ROUND_OFF


def test_energy_of_one_dipole_pair_by_hand() -> None:
    system = SoftDipoles(num_bodies=2, dipole=(0.0, 0.0, 1.0), softening=1e-6)
    g = torch.eye(4).double().repeat(1, 2, 1, 1)
    g[0, 1, 2, 3] = 2.0  # head to tail at the distance 2: −a/2 + s² (1 − 3)/8
    assert system.potential(g).item() == pytest.approx(-1 / 2 - 0.25 * 2 / 8, abs=1e-10)
    mu = torch.tensor([[[1.0, 2.0, 3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 2.0, 2.0]]]).double()
    assert system.kinetic_energy(mu).item() == pytest.approx(0.5 * (1 + 2 + 3) + 4.5)


@ALL
def test_sample_is_reproducible_and_on_the_group(system: RigidBodySystem) -> None:
    g, mu = drawn(system, seed=7)
    again = drawn(system, seed=7)
    assert torch.equal(g, again[0])
    assert torch.equal(mu, again[1])
    assert g.dtype == mu.dtype == torch.float64
    rotation = g[..., :3, :3]
    assert (rotation.mT @ rotation - torch.eye(3)).abs().max() < ROUND_OFF
    assert (torch.linalg.det(rotation) - 1).abs().max() < ROUND_OFF
    assert system.energy(g, mu).shape == (4,)


def test_random_rotations_are_uniform() -> None:
    """Second moments of Haar: E R_ij R_kl = δ_ik δ_jl / 3; 1e4 samples, five standard errors are 0.015."""
    r = random_rotations((10_000,), torch.Generator().manual_seed(0)).flatten(1)
    assert r.mean(0).abs().max() < 0.03
    assert (r.mT @ r / len(r) - torch.eye(9) / 3).abs().max() < 0.015


def test_casimirs_of_the_free_body_and_the_heavy_top() -> None:
    g, mu = drawn(FreeRigidBody())
    assert torch.allclose(FreeRigidBody().casimirs(g, mu)[:, 0], mu.square().sum(-1))
    casimirs = HeavyTop().casimirs(g, mu)
    assert torch.allclose(casimirs[:, 0], angular_momentum(g, mu)[:, 2])
    assert (casimirs[:, 1] - 1).abs().max() < ROUND_OFF


def test_impossible_options_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="three positive numbers"):
        FreeRigidBody(inertia=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="centre must be a direction"):
        HeavyTop(centre=(1.0, 1.0, 0.0))
    with pytest.raises(ValueError, match="dipole must be a direction"):
        SoftDipoles(dipole=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="mass and softening positive"):
        SoftDipoles(mass=0.0)
    with pytest.raises(ValueError, match=r"orientations .* or poses .* shape \(2, 2\)"):
        wrench(lambda g: g.sum((-2, -1)), torch.eye(2))
