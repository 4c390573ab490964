"""Runs of the stepper: exact trajectories, counted forces, gradients, energy over long times, bad input."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from lie_sim import GeneralHamiltonian, Hamiltonian, Particles, PhaseState
from lie_sim.integrators import (
    SplittingMethod,
    SystemDynamics,
    advance,
    integrate,
    separable_dynamics,
    splitting_methods,
)
from lie_sim.models.base import EnergyModel
from lie_sim.systems import Springs, System

ALL = pytest.mark.parametrize("method", splitting_methods(), ids=lambda method: method.name)
EXACT_SPRINGS_ERROR = {  # about five times what was measured
    "symplectic_euler": 6e-2,
    "leapfrog": 1e-2,
    "position_verlet": 1e-2,
    "yoshida4": 2e-5,
    "pefrl": 4e-8,
    "blanes_moan4": 5e-9,
    "yoshida6": 2e-9,
    "kahan_li6": 2e-10,
    "blanes_moan6": 2e-13,
    "kahan_li8": 1e-13,
}
ENERGY_TREND = 0.05  # of the largest error; measured: up to 0.01, explicit Euler 0.5
ROUND_OFF = 1e-13
MOMENTUM_ERROR = 1e-12  # 200 steps; measured: 3e-14


class CountedForces:
    """Dynamics that count how often the force is asked for."""

    def __init__(self, inner: SystemDynamics) -> None:
        self.inner, self.calls = inner, 0

    def force(self, q: Tensor) -> Tensor:
        self.calls += 1
        return self.inner.force(q)

    def velocity(self, p: Tensor) -> Tensor:
        return self.inner.velocity(p)


class MatrixSprings:
    """The same springs, F = −S q, without the checks that make long runs slow under test."""

    def __init__(self, dynamics: SystemDynamics) -> None:
        k, masses = dynamics.particles.attributes[..., 0], dynamics.particles.masses
        self.stiffness = 2 * (torch.diag_embed(k * k.sum(1, keepdim=True)) - k[:, :, None] * k[:, None])
        self.inverse_mass = 1 / masses[..., None]

    def force(self, q: Tensor) -> Tensor:
        return -self.stiffness @ q

    def velocity(self, p: Tensor) -> Tensor:
        return self.inverse_mass * p

    def energy(self, q: Tensor, p: Tensor) -> Tensor:
        """Energies (B, T) of trajectories (B, T, N, d)."""
        kinetic = p.square() * self.inverse_mass[:, None]
        return (kinetic + q * (self.stiffness[:, None] @ q)).sum((2, 3)) / 2


def springs(num_systems: int = 3, num_particles: int = 4) -> tuple[PhaseState, SystemDynamics]:
    system = Springs(num_particles=num_particles)
    state, particles = system.sample(num_systems, generator=torch.Generator().manual_seed(1))
    return state, SystemDynamics(system, particles)


@ALL
def test_springs_follow_the_exact_solution(method: SplittingMethod) -> None:
    state, dynamics = springs()
    q, p = integrate(
        dynamics, state.q, state.p, step_size=0.004, num_steps=500, save_every=100, method=method
    )
    times = torch.linspace(0, 2, 6, dtype=torch.float64)
    exact = dynamics.system.trajectory(state, dynamics.particles, times)
    error = max(float((ours - theirs).abs().max()) for ours, theirs in zip((q, p), exact, strict=True))
    assert error < EXACT_SPRINGS_ERROR[method.name], f"{method.name}: {error:.1e}"


@ALL
@pytest.mark.parametrize("save_every", [1, 5, 20])
def test_force_evaluations_are_as_declared(save_every: int, method: SplittingMethod) -> None:
    state, dynamics = springs()
    counted = CountedForces(dynamics)
    integrate(counted, state.q, state.p, step_size=0.01, num_steps=20, save_every=save_every, method=method)
    assert counted.calls == method.force_evaluations(20)


def test_leapfrog_needs_one_force_per_step_and_one_more() -> None:
    state, dynamics = springs()
    counted = CountedForces(dynamics)
    integrate(counted, state.q, state.p, step_size=0.01, num_steps=50)
    assert counted.calls == 51


@ALL
def test_gradient_of_the_discrete_map(method: SplittingMethod) -> None:
    """Against finite differences: initial state, one step size per system, masses and spring constants."""
    state, dynamics = springs(num_systems=2, num_particles=2)
    masses, attributes = dynamics.particles.masses, dynamics.particles.attributes
    step_size = torch.tensor([0.05, 0.08], dtype=torch.float64)

    def run(q: Tensor, p: Tensor, h: Tensor, masses: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        bound = SystemDynamics(dynamics.system, Particles(masses=masses, attributes=attributes))
        return integrate(bound, q, p, step_size=h, num_steps=4, save_every=2, method=method)

    inputs = [x.clone().requires_grad_(True) for x in (state.q, state.p, step_size, masses, attributes)]
    assert torch.autograd.gradcheck(run, inputs)


def test_gradient_with_a_force_made_by_automatic_differentiation() -> None:
    """A system without a closed form has a force that System.force cuts off from its inputs."""

    class AutogradSprings(Springs):
        force = System.force

    state, dynamics = springs(num_systems=1, num_particles=2)
    automatic = SystemDynamics(AutogradSprings(num_particles=2), dynamics.particles)
    q = state.q.clone().requires_grad_(True)
    gradients = []
    for system in (dynamics, automatic):
        end, _ = integrate(system, q, state.p, step_size=0.05, num_steps=3)
        gradients.append(torch.autograd.grad(end[:, -1].square().sum(), q)[0])
    assert (gradients[0] - gradients[1]).abs().max() < ROUND_OFF


def test_gradient_reaches_the_parameters_of_a_learned_potential(pair_potential: EnergyModel) -> None:
    """The derivative along a direction in parameter space equals a central difference."""
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(2, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    dynamics = Hamiltonian(pair_potential).bind(Particles(masses=torch.ones(2, 3, dtype=torch.float64)))
    parameters = list(pair_potential.parameters())

    def loss() -> Tensor:
        end, _ = integrate(dynamics, q, p, step_size=0.1, num_steps=3, create_graph=True)
        return end[:, -1].square().sum()

    gradients = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    directions = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    epsilon = 1e-5
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=sign * epsilon)
            values.append(float(loss()))
    difference = (values[0] - values[1]) / (2 * epsilon)
    assert slope != 0
    assert abs(slope - difference) < 1e-6 * max(1.0, abs(slope)), f"{slope} != {difference}"


def test_no_graph_is_built_unless_wanted() -> None:
    state, dynamics = springs()
    run = partial(integrate, dynamics, state.q.requires_grad_(True), state.p, step_size=0.01, num_steps=4)
    with torch.no_grad():
        assert not run()[0].requires_grad
        assert run(create_graph=True)[0].requires_grad
        without = run()
    assert not run(create_graph=False)[0].requires_grad
    assert all(torch.equal(a, b) for a, b in zip(run(), without, strict=True)), (
        "the graph changed the numbers"
    )


def energy_trend(energy: Tensor) -> float:
    """How far the mean error of the second half is from that of the first, in units of the largest error."""
    error = energy[:, 1:] / energy[:, :1] - 1
    first, second = error.chunk(2, dim=1)
    return float(((second.mean(1) - first.mean(1)).abs() / error.abs().amax(1)).max())


@ALL
def test_energy_has_no_trend_over_ten_thousand_steps(method: SplittingMethod) -> None:
    state, dynamics = springs(num_systems=20)
    plain = MatrixSprings(dynamics)
    step = {6: 0.03, 8: 0.1}.get(method.order, 0.01)  # the error must stand out from round-off
    with torch.no_grad():
        q, p = integrate(
            plain, state.q, state.p, step_size=step, num_steps=10_000, save_every=10, method=method
        )
    trend = energy_trend(plain.energy(q, p))
    assert trend < ENERGY_TREND, f"{trend:.3f} > {ENERGY_TREND}"


def test_energy_trend_test_notices_euler() -> None:
    state, dynamics = springs(num_systems=20)
    plain, saved = MatrixSprings(dynamics), [(state.q, state.p)]
    for _ in range(300):
        q, p = saved[-1]
        saved.append((q + 0.001 * plain.velocity(p), p + 0.001 * plain.force(q)))
    q, p = (torch.stack(part, 1) for part in zip(*saved, strict=True))
    assert energy_trend(plain.energy(q, p)) > 5 * ENERGY_TREND


@ALL
def test_momentum_is_conserved(method: SplittingMethod) -> None:
    state, dynamics = springs()
    _, p = integrate(dynamics, state.q, state.p, step_size=0.01, num_steps=200, method=method)
    assert (p.sum(2) - p[:, :1].sum(2)).abs().max() < MOMENTUM_ERROR


@ALL
def test_batch_equals_single_and_step_sizes_may_differ(method: SplittingMethod) -> None:
    state, dynamics = springs()
    step_size = torch.tensor([0.01, 0.02, -0.005], dtype=torch.float64)
    q, p = integrate(dynamics, state.q, state.p, step_size=step_size, num_steps=30, method=method)
    for i, h in enumerate(step_size.tolist()):
        row = slice(i, i + 1)
        single = SystemDynamics(dynamics.system, dynamics.particles[row])
        qi, pi = integrate(single, state.q[row], state.p[row], step_size=h, num_steps=30, method=method)
        assert (q[row] - qi).abs().max() < ROUND_OFF
        assert (p[row] - pi).abs().max() < ROUND_OFF * 10


@ALL
def test_saving_less_often_changes_nothing_but_round_off(method: SplittingMethod) -> None:
    state, dynamics = springs()
    often, _ = integrate(dynamics, state.q, state.p, step_size=0.01, num_steps=60, method=method)
    seldom, _ = integrate(
        dynamics, state.q, state.p, step_size=0.01, num_steps=60, save_every=20, method=method
    )
    assert seldom.shape == (3, 4, 4, 2)
    assert (often[:, ::20] - seldom).abs().max() < ROUND_OFF


@ALL
def test_continued_run_is_the_same_to_the_bit(method: SplittingMethod) -> None:
    state, dynamics = springs()
    whole, _ = integrate(
        dynamics, state.q, state.p, step_size=0.01, num_steps=20, save_every=10, method=method
    )
    options = {"step_size": 0.01, "num_steps": 10, "method": method}
    q, p, memory = advance(dynamics, state.q, state.p, **options)
    q, _, _ = advance(dynamics, q, p, memory=memory, **options)
    assert torch.equal(q, whole[:, -1])


def test_dtype_is_that_of_the_state() -> None:
    state, dynamics = springs()
    single = SystemDynamics(dynamics.system, dynamics.particles.to(dtype=torch.float32))
    q, p = integrate(single, state.q.float(), state.p.float(), step_size=0.01, num_steps=3)
    assert q.dtype == p.dtype == torch.float32
    h = torch.full((3,), 0.01, dtype=torch.float64)
    assert (
        integrate(single, state.q.float(), state.p.float(), step_size=h, num_steps=3)[0].dtype
        == torch.float32
    )


@pytest.mark.parametrize("num_systems", [3, 600])
def test_states_are_the_same_with_and_without_a_graph(num_systems: int) -> None:
    """Large ones are written into place where no graph is recorded; the first may be of another dtype."""
    state, dynamics = springs(num_systems)
    run = partial(integrate, dynamics, step_size=0.1, num_steps=6, save_every=2)
    expected, found = run(state.q, state.p), run(state.q, state.p, create_graph=False)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    short = state.q.float(), state.p.float()
    with torch.no_grad():
        assert run(*short)[0].dtype == run(*short, create_graph=True)[0].dtype == torch.float64


def test_no_steps_return_the_start() -> None:
    state, dynamics = springs()
    q, p = integrate(dynamics, state.q, state.p, step_size=0.01, num_steps=0)
    assert torch.equal(q[:, 0], state.q)
    assert torch.equal(p[:, 0], state.p)


def test_energies_that_cannot_be_split_are_refused() -> None:
    state, dynamics = springs()
    mixed = GeneralHamiltonian(lambda q, p, particles: (q * p).sum((1, 2))).bind(dynamics.particles)
    with pytest.raises(TypeError):
        integrate(mixed, state.q, state.p, step_size=0.1, num_steps=1)
    with pytest.raises(TypeError, match=r"separable energy .* which GeneralHamiltonian does not have"):
        separable_dynamics(mixed)
    with pytest.raises(TypeError, match=r"Springs has no velocity; pass a Hamiltonian .* SystemDynamics"):
        separable_dynamics(dynamics.system)


def test_a_hamiltonian_with_its_own_vector_field_is_refused(pair_potential: EnergyModel) -> None:
    """Damping put into the vector field would be ignored silently."""

    class Damped(Hamiltonian):
        def vector_field(self, t, state):
            velocity, force = super().vector_field(t, state)
            return velocity, force - 0.1 * state[1]

    damped = Damped(pair_potential).bind(Particles(masses=torch.ones(1, 2)))
    for candidate in (damped, damped.vector_field):
        with pytest.raises(TypeError, match="replaces vector_field or forward"):
            separable_dynamics(candidate)


def test_impossible_numbers_are_refused() -> None:
    state, dynamics = springs()
    run = partial(advance, dynamics, state.q, state.p)
    with pytest.raises(ValueError, match=r"multiple of save_every.* got 7 and 3: use num_steps=9"):
        integrate(dynamics, state.q, state.p, step_size=0.1, num_steps=7, save_every=3)
    with pytest.raises(ValueError, match="num_steps must be >= 0"):
        integrate(dynamics, state.q, state.p, step_size=0.1, num_steps=-1)
    with pytest.raises(ValueError, match="step_size must be finite, got nan"):
        run(step_size=float("nan"), num_steps=1)
    with pytest.raises(ValueError, match=r"one per system, shape \(3,\); got \(2,\)"):
        run(step_size=torch.tensor([0.1, 0.1]), num_steps=1)
    with pytest.raises(ValueError, match="every step_size must be finite"):
        run(step_size=torch.tensor([0.1, 0.1, float("inf")]), num_steps=1)
    with pytest.raises(ValueError, match="num_steps must be >= 0"):
        run(step_size=0.1, num_steps=-3)
    with pytest.raises(
        ValueError, match="baoab has no memory of trajectories; it remembers trajectory, step, force"
    ):
        run(step_size=0.1, num_steps=1, method="baoab", memory={"trajectories": torch.arange(3)})
