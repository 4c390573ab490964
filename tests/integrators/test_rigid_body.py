"""The rigid-body splitting: the structure it keeps, each claim beside a method that must fail it; bodies that move."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lie_sim.groups import SE3, SO3, rotations
from lie_sim.groups.affine import assemble
from lie_sim.integrators import Method, RigidBodyDynamics, RigidBodySplitting, advance, get_method, methods
from lie_sim.systems import FreeRigidBody, HeavyTop, RigidBodySystem, SoftDipoles
from lie_sim.systems.rigid_body import angular_momentum

ORDER_TOLERANCE = 0.1  # on the slope of log(error) over a factor of 4 in the step, above round-off
POISSON_DEFECT = 1e-13  # measured: up to 1e-15; rkmk4 1e-6 to 6e-5
REVERSAL_ERROR = 1e-12  # 100 steps; measured: up to 9e-15, rkmk4 7e-7
CONSERVED_ERROR = 1e-12  # up to 300 steps; measured: up to 2e-14
ROUND_OFF = 1e-13
ENERGY_TREND = 0.1  # of the largest error; measured: up to 0.04, crouch_grossman3 0.96
SPLITTINGS = [method for method in methods() if isinstance(method, RigidBodySplitting)]
ALL = pytest.mark.parametrize("method", SPLITTINGS, ids=lambda method: method.name)
FREE, TOP, DIPOLES = FreeRigidBody(), HeavyTop(weight=1.5, centre=(0.6, 0.0, 0.8)), SoftDipoles(num_bodies=3)
SYSTEMS = pytest.mark.parametrize("system", [FREE, TOP, DIPOLES], ids=lambda system: system.name)


def drawn(system: RigidBodySystem, num_systems: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    return system.sample(num_systems, generator=torch.Generator().manual_seed(seed))


def run(system: Any, g: Tensor, mu: Tensor, h: float, num_steps: int, method: Any) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return advance(system, g, mu, step_size=h, num_steps=num_steps, method=method)[:2]


def poisson_tensor(mu: Tensor, moving: bool) -> Tensor:
    """Brackets of (turn, π) or (turn, π, x, p) for one body: {η, π} = 1, {π, π} = π^, {x, p} = 1."""
    size = 12 if moving else 6
    tensor = torch.zeros(size, size, dtype=mu.dtype)
    for i in range(0, size, 6):
        tensor[i : i + 3, i + 3 : i + 6] = torch.eye(3)
        tensor[i + 3 : i + 6, i : i + 3] = -torch.eye(3)
    tensor[3:6, 3:6] = rotations.cross_matrix(mu[:3])
    return tensor


def poisson_defect(system: RigidBodySystem, method: Method, h: float = 0.3) -> float:
    """|J B(z) Jᵀ − B(z')| of two steps, in coordinates of turns R exp(η^), π, x, p at the two states."""
    g0, mu0 = (x[0] for x in drawn(system, 1))
    moving = g0.shape[-1] == 4
    g1, mu1 = (x[0] for x in run(system, g0[None], mu0[None], h, 2, method))
    bodies = g0.shape[0] if moving else 1

    def step(z: Tensor) -> Tensor:
        parts = z.reshape(bodies, -1, 3) if moving else z.reshape(-1, 3)
        turn, spin, *place = parts.unbind(-2)
        g = g0[..., :3, :3] @ SO3().exp(turn)
        mu = torch.cat([mu0[..., :3] + spin, *(mu0[..., 3:] + push for push in place[1:])], dim=-1)
        if moving:
            g = assemble(g, g0[..., :3, 3] + place[0])
        g, mu, _ = advance(system, g[None], mu[None], step_size=h, num_steps=2, method=method)
        turn = SO3().log(g1[..., :3, :3].mT @ g[0][..., :3, :3])
        rows = [turn, mu[0, ..., :3], *([g[0][..., :3, 3], mu[0, ..., 3:]] if moving else [])]
        return torch.stack(rows, dim=-2).flatten()

    origin = torch.zeros(bodies * (12 if moving else 6), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(step, origin)
    before, later = (
        torch.block_diag(*(poisson_tensor(body, moving) for body in mu.reshape(bodies, -1)))
        for mu in (mu0, mu1)
    )
    return float((jacobian @ before @ jacobian.T - later).abs().max())


@ALL
@SYSTEMS
def test_step_is_a_poisson_map(system: RigidBodySystem, method: Method) -> None:
    assert method.symplectic
    error = poisson_defect(system, method)
    assert error < POISSON_DEFECT, f"{error:.1e} > {POISSON_DEFECT:.1e}"


@SYSTEMS
def test_poisson_test_notices_rkmk4(system: RigidBodySystem) -> None:
    assert poisson_defect(system, get_method("rkmk4")) > 1e5 * POISSON_DEFECT


def test_map_of_the_free_momentum_is_lie_poisson() -> None:
    """J π^ Jᵀ = π'^ for π → π' alone; rkmk4 fails (measured: 4e-7)."""
    g, mu = drawn(FREE, 1)

    def defect(name: str) -> float:
        def step(pi: Tensor) -> Tensor:
            return advance(FREE, g, pi[None], step_size=0.6, num_steps=2, method=name)[1][0]

        jacobian = torch.autograd.functional.jacobian(step, mu[0])
        mapped = jacobian @ rotations.cross_matrix(mu[0]) @ jacobian.T
        return float((mapped - rotations.cross_matrix(step(mu[0]))).abs().max())

    assert defect("rigid_body_splitting") < POISSON_DEFECT
    assert defect("rkmk4") > 1e5 * POISSON_DEFECT


def reversal_error(system: RigidBodySystem, method: Any) -> float:
    g, mu = drawn(system)
    there = run(system, g, mu, 0.05, 50, method)
    back = run(system, *there, -0.05, 50, method)
    return float(torch.maximum((back[0] - g).abs().max(), (back[1] - mu).abs().max()))


@ALL
@SYSTEMS
def test_steps_back_undo_steps_forth(system: RigidBodySystem, method: Method) -> None:
    assert method.reversible
    error = reversal_error(system, method)
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"


def test_reversal_test_notices_rkmk4() -> None:
    assert reversal_error(TOP, "rkmk4") > 1e4 * REVERSAL_ERROR


@ALL
def test_free_body_keeps_its_angular_momentum(method: Method) -> None:
    g, mu = drawn(FREE, 8)
    later, momentum = run(FREE, g, mu, 0.1, 300, method)
    casimir = (FREE.casimirs(later, momentum) - FREE.casimirs(g, mu)).abs().max().item()
    spatial = (angular_momentum(later, momentum) - angular_momentum(g, mu)).abs().max().item()
    assert max(casimir, spatial) < CONSERVED_ERROR, f"{casimir:.1e}, {spatial:.1e} > {CONSERVED_ERROR:.1e}"


def test_conservation_test_notices_rkmk4() -> None:
    g, mu = drawn(FREE, 8)
    later, momentum = run(FREE, g, mu, 0.1, 100, "rkmk4")
    assert (FREE.casimirs(later, momentum) - FREE.casimirs(g, mu)).abs().max() > 1e4 * CONSERVED_ERROR


@ALL
def test_symmetries_of_the_potential_conserve_momenta(method: Method) -> None:
    g, mu = drawn(TOP, 8)
    error = (TOP.casimirs(*run(TOP, g, mu, 0.05, 100, method)) - TOP.casimirs(g, mu)).abs().max()
    assert error < CONSERVED_ERROR, f"{error:.1e}"
    g, mu = drawn(DIPOLES)
    later, momentum = run(DIPOLES, g, mu, 0.02, 100, method)
    assert (momentum - mu)[..., 3:].sum(1).abs().max() < CONSERVED_ERROR
    total = (angular_momentum(later, momentum) - angular_momentum(g, mu)).sum(1)
    assert total.abs().max() < CONSERVED_ERROR


def energy_errors(system: RigidBodySystem, h: float, saves: int, method: Any) -> Tensor:
    """Energy less its initial value, every tenth step, shape (saves, B)."""
    g, mu = drawn(system, 8)
    start, errors = system.energy(g, mu), []
    for _ in range(saves):
        g, mu = run(system, g, mu, h, 10, method)
        errors.append(system.energy(g, mu) - start)
    return torch.stack(errors)


def trend(errors: Tensor) -> float:
    """Growth of the fitted line over the run, over the largest error, averaged over the systems."""
    t = torch.linspace(-0.5, 0.5, len(errors), dtype=errors.dtype)
    slope = (t[:, None] * errors).sum(0) / t.square().sum()
    return float((slope / errors.abs().amax(0)).mean().abs())


@ALL
def test_energy_error_has_no_trend(method: Method) -> None:
    stages = len(method.weights)
    errors = energy_errors(TOP, 0.1 * stages, 120 // stages, method)
    assert errors.abs().max() < 0.02  # measured: 0.006 and 0.002
    assert trend(errors) < ENERGY_TREND, f"{trend(errors):.3f}"


def test_energy_test_notices_the_drift_of_crouch_grossman3() -> None:
    assert trend(energy_errors(TOP, 0.2, 40, "crouch_grossman3")) > 5 * ENERGY_TREND


@pytest.fixture(scope="module")
def exact() -> tuple[Tensor, Tensor]:
    """Dipoles at the time 1 by another family, with a step so short that its error does not count."""
    return run(DIPOLES, *drawn(DIPOLES, 1), 1 / 128, 128, "commutator_free4")


@ALL
def test_order_on_se3_is_as_declared(method: Method, exact: tuple[Tensor, Tensor]) -> None:
    g, mu = drawn(DIPOLES, 1)

    def error(num_steps: int) -> float:
        found = run(DIPOLES, g, mu, 1 / num_steps, num_steps, method)
        return float((found[0] - exact[0]).norm() + (found[1] - exact[1]).norm())

    slope = math.log2(error(8) / error(32)) / 2
    assert abs(slope - method.order) < ORDER_TOLERANCE, f"slope {slope:.3f}, declared {method.order}"


@ALL
def test_free_bodies_move_on_straight_lines(method: Method) -> None:
    masses = torch.tensor([[1.0, 2.0], [4.0, 0.5]], dtype=torch.float64)
    bodies = RigidBodyDynamics(lambda g: torch.zeros_like(g[:, 0, 0, 0]), inertia=FREE.inertia, masses=masses)
    g, mu = drawn(SoftDipoles(num_bodies=2))
    later, momentum = run(bodies, g, mu, 0.1, 50, method)
    line = g[..., :3, 3] + 5.0 * mu[..., 3:] / masses[..., None]
    assert (later[..., :3, 3] - line).abs().max() < ROUND_OFF
    assert torch.equal(momentum[..., 3:], mu[..., 3:])
    turned, spin = run(FREE, g[..., :3, :3].flatten(0, 1), mu[..., :3].flatten(0, 1), 0.1, 50, method)
    assert (later[..., :3, :3].flatten(0, 1) - turned).abs().max() < ROUND_OFF
    assert (momentum[..., :3].flatten(0, 1) - spin).abs().max() < ROUND_OFF


@ALL
def test_rigid_motion_of_everything_commutes_with_time(method: Method) -> None:
    g, mu = drawn(DIPOLES)
    motion = SE3().random((), 5, dtype=torch.float64)
    turn = motion[:3, :3]
    moved = torch.cat([mu[..., :3], mu[..., 3:] @ turn.T], dim=-1)
    later, momentum = run(DIPOLES, g, mu, 0.02, 50, method)
    found, pushed = run(DIPOLES, motion @ g, moved, 0.02, 50, method)
    assert (found - motion @ later).abs().max() < 1e-12  # measured: 3e-15
    assert (pushed[..., 3:] - momentum[..., 3:] @ turn.T).abs().max() < 1e-12


@ALL
def test_dipoles_are_batched_resumed_and_left_alone_by_a_step_of_zero(method: Method) -> None:
    g, mu = drawn(DIPOLES, 3)
    steps = torch.tensor([0.02, 0.0, -0.01], dtype=torch.float64)
    whole = advance(DIPOLES, g, mu, step_size=steps, num_steps=10, method=method)
    first = advance(DIPOLES, g, mu, step_size=steps, num_steps=3, method=method)
    rest = advance(DIPOLES, *first[:2], step_size=steps, num_steps=7, method=method, memory=first[2])
    for part in (0, 1):
        assert torch.equal(whole[part], rest[part])
        assert torch.equal(whole[part][1], (g, mu)[part][1])
    alone = run(DIPOLES, g[:1], mu[:1], 0.02, 10, method)
    assert (whole[0][:1] - alone[0]).abs().max() < ROUND_OFF
    assert (whole[1][:1] - alone[1]).abs().max() < ROUND_OFF
    assert torch.equal(whole[2]["wrench"], rest[2]["wrench"])


class CountedPotential(nn.Module):
    """A learned potential on poses V(R, x) that counts its evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1)).double(), 0

    def forward(self, g: Tensor) -> Tensor:
        self.calls += 1
        return self.net(g[..., :3, :].flatten(-2)).sum((-2, -1))


@ALL
def test_learned_potential_is_evaluated_once_per_basic_step(method: RigidBodySplitting) -> None:
    potential = CountedPotential()
    bodies = RigidBodyDynamics(potential, inertia=(1.0, 2.0, 3.0), masses=1.0)
    g, mu = drawn(DIPOLES)
    first = advance(bodies, g, mu, step_size=0.05, num_steps=7, method=method)
    later, *_ = advance(bodies, *first[:2], step_size=0.05, num_steps=3, method=method, memory=first[2])
    assert potential.calls == 10 * method.forces_per_step + 1
    later.square().sum().backward()
    assert all(parameter.grad is not None for parameter in list(potential.parameters())[:-1])


@ALL
def test_gradient_is_that_of_the_steps(method: Method) -> None:
    g, mu = drawn(SoftDipoles(num_bodies=2), 1)
    masses = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def end(g: Tensor, mu: Tensor, masses: Tensor) -> tuple[Tensor, Tensor]:
        dynamics = RigidBodyDynamics(SoftDipoles(num_bodies=2).potential, inertia=FREE.inertia, masses=masses)
        return advance(dynamics, g, mu, step_size=0.1, num_steps=1, method=method)[:2]

    inputs = tuple(x.clone().requires_grad_(True) for x in (g, mu, masses))
    assert torch.autograd.gradcheck(end, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["rigid_body_splitting", "rkmk4"])
def test_padding_stays_where_it_is(name: str) -> None:
    bodies = RigidBodyDynamics(
        lambda g: g[:, 0, 2, 3],
        inertia=torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]),
        masses=torch.tensor([1.0, 0.0]),
    )
    g, mu = drawn(SoftDipoles(num_bodies=2))
    later, momentum = run(bodies, g, mu, 0.1, 5, name)
    assert later.isfinite().all()
    assert momentum.isfinite().all()
    assert (later[:, 1] - g[:, 1]).abs().max() < ROUND_OFF


def test_single_precision_does_not_stretch_the_momentum() -> None:
    """Rounding of cos θ in every step would change |π| by 2e-8 per step, always with the same sign."""
    g, mu = (x.float() for x in drawn(FREE, 16))
    _, momentum = run(FREE, g, mu, 0.05, 2000, "rigid_body_splitting")
    change = (momentum.double().norm(dim=-1) / mu.double().norm(dim=-1) - 1).abs().max().item()
    assert change < 1e-5, f"{change:.1e}"  # measured: 4e-6; with cos θ: 3e-5


def test_single_precision_stays_single() -> None:
    g, mu = (x.float() for x in drawn(DIPOLES))
    later, momentum = run(DIPOLES, g, mu, 0.02, 20, "rigid_body_splitting")
    exact = run(DIPOLES, g.double(), mu.double(), 0.02, 20, "rigid_body_splitting")
    assert later.dtype == momentum.dtype == torch.float32
    assert (later - exact[0]).abs().max() < 1e-5  # measured: 1e-6


def test_what_is_no_rigid_body_is_refused() -> None:
    g, mu = drawn(FREE)
    with pytest.raises(TypeError, match=r"pass a rigid-body system .* got object"):
        run(object(), g, mu, 0.1, 1, "rigid_body_splitting")
    with pytest.raises(ValueError, match=r"g of shape \(B, …, 4, 4\); got \(2, 3, 3\)"):
        run(DIPOLES, g, mu, 0.1, 1, "rigid_body_splitting")
    with pytest.raises(ValueError, match=r"SO\(3\) have momenta of length 3, got mu of shape \(2, 2\)"):
        run(FREE, g, mu[:, :2], 0.1, 1, "rigid_body_splitting")
    with pytest.raises(ValueError, match=r"inertia must be finite and not negative"):
        RigidBodyDynamics(FREE.potential, inertia=(1.0, -2.0, 3.0))
    with pytest.raises(ValueError, match=r"three principal moments, shape \(…, 3\); got \(2,\)"):
        RigidBodyDynamics(FREE.potential, inertia=(1.0, 2.0))
    with pytest.raises(ValueError, match="sum to 1 and read the same backwards"):
        RigidBodySplitting("bad", 2, weights=(0.25, 0.75), citation="")
