"""The door with torchdiffeq's signature: its methods untouched, ours on (q, p), no wrong gradient either way."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torchdiffeq
from torch import Tensor, nn

from lie_sim import GeneralHamiltonian, Hamiltonian, Particles, PhaseState
from lie_sim.integrators import SystemDynamics, get_method, integrate, odeint, odeint_adjoint
from lie_sim.models.base import EnergyModel
from lie_sim.systems import HeavyTop, Springs

ROUND_OFF = 1e-12
TORCHDIFFEQ_METHODS = ["dopri5", "bosh3", "euler", "midpoint", "rk4", "explicit_adams"]


class Pendulum(nn.Module):
    """H = p²/2 − g cos q, with a gradient to g."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def force(self, q: Tensor) -> Tensor:
        return -self.g * q.sin()

    def velocity(self, p: Tensor) -> Tensor:
        return p

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.velocity(state[1]), self.force(state[0])


def springs() -> tuple[PhaseState, SystemDynamics]:
    system = Springs(num_particles=3)
    state, particles = system.sample(2, generator=torch.Generator().manual_seed(1))
    return state, SystemDynamics(system, particles)


def pendulum_start() -> tuple[Tensor, Tensor]:
    return torch.tensor([1.0, -0.4], dtype=torch.float64), torch.tensor([0.2, 0.5], dtype=torch.float64)


GRID = torch.linspace(0, 1, 6, dtype=torch.float64)


@pytest.mark.parametrize("method", [None, *TORCHDIFFEQ_METHODS])
def test_methods_of_torchdiffeq_pass_through_untouched(method: str | None) -> None:
    state, dynamics = springs()
    y0 = (state.q, state.p)
    ours = odeint(dynamics, y0, GRID, method=method, rtol=1e-5, atol=1e-6)
    theirs = torchdiffeq.odeint(dynamics, y0, GRID, method=method, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_options_and_events_pass_through() -> None:
    func, y0 = Pendulum(), pendulum_start()
    options = {"step_size": 0.05}
    ours = odeint(func, y0, GRID, method="rk4", options=options)
    assert torch.equal(ours[0], torchdiffeq.odeint(func, y0, GRID, method="rk4", options=options)[0])
    time, _ = odeint(func, y0, GRID[:2], method="dopri5", event_fn=lambda t, y: t - 0.7)
    assert float(time) == pytest.approx(0.7, abs=1e-6)


def test_adjoint_of_torchdiffeq_passes_through() -> None:
    gradients = []
    for solve in (odeint_adjoint, torchdiffeq.odeint_adjoint):
        func = Pendulum()
        q, _ = solve(func, pendulum_start(), GRID, method="dopri5", adjoint_rtol=1e-6)
        q[-1].sum().backward()
        gradients.append(func.g.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("name", ["leapfrog", "yoshida4", "pefrl"])
def test_splitting_equals_the_stepper(name: str) -> None:
    state, dynamics = springs()
    q, p = odeint(dynamics, (state.q, state.p), GRID, method=name, options={"step_size": 0.02})
    expected = integrate(dynamics, state.q, state.p, step_size=0.02, num_steps=50, save_every=10, method=name)
    assert q.shape == (6, 2, 3, 2)
    assert (q.transpose(0, 1) - expected[0]).abs().max() < ROUND_OFF
    assert (p.transpose(0, 1) - expected[1]).abs().max() < ROUND_OFF


def test_default_is_one_step_per_interval_on_any_grid() -> None:
    state, dynamics = springs()
    grid = torch.tensor([0.0, 0.01, 0.03, 0.035], dtype=torch.float64)
    q, p = odeint(dynamics, (state.q, state.p), grid, method="leapfrog")
    now = (state.q, state.p)
    for k, h in enumerate(grid.diff().tolist(), start=1):
        trajectory = integrate(dynamics, *now, step_size=h, num_steps=1)
        now = (trajectory[0][:, -1], trajectory[1][:, -1])
        assert (q[k] - now[0]).abs().max() < ROUND_OFF
        assert (p[k] - now[1]).abs().max() < ROUND_OFF


def test_uneven_grid_converges_to_the_exact_springs() -> None:
    state, dynamics = springs()
    grid = torch.tensor([0.0, 0.3, 0.37, 1.0], dtype=torch.float64)
    q, _ = odeint(dynamics, (state.q, state.p), grid, method="pefrl", options={"step_size": 0.002})
    exact, _ = dynamics.system.trajectory(state, dynamics.particles, grid)
    assert (q.transpose(0, 1) - exact).abs().max() < 1e-8


def test_time_can_run_backwards() -> None:
    state, dynamics = springs()
    solve = partial(odeint, dynamics, method="yoshida4", options={"step_size": 0.02})
    q, p = solve((state.q, state.p), GRID)
    q, p = solve((q[-1], p[-1]), GRID.flip(0))
    assert (q[-1] - state.q).abs().max() < ROUND_OFF
    assert (p[-1] - state.p).abs().max() < ROUND_OFF


def test_bound_hamiltonian_and_its_vector_field_are_the_same(pair_potential: EnergyModel) -> None:
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.randn(1, 3, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    bound = Hamiltonian(pair_potential).bind(Particles(masses=torch.ones(1, 3, dtype=torch.float64)))
    solve = partial(odeint, y0=(q, p), t=GRID, method="leapfrog")
    with torch.no_grad():
        assert torch.equal(solve(bound)[0], solve(bound.vector_field)[0])


@pytest.mark.parametrize("solve", [odeint, odeint_adjoint])
def test_gradient_of_a_splitting_method_is_that_of_its_steps(solve: object) -> None:
    """By either door: derivatives by a parameter, the state and the times equal finite differences."""
    func = Pendulum()

    def run(g: Tensor, q: Tensor, p: Tensor, t: Tensor) -> Tensor:
        func.force = lambda x: -g * x.sin()
        return solve(func, (q, p), t, method="leapfrog", options={"step_size": 0.1})[0]

    inputs = [func.g.detach(), *pendulum_start(), GRID]
    assert torch.autograd.gradcheck(run, [x.clone().requires_grad_(True) for x in inputs])


def test_adjoint_door_reaches_the_parameters_of_a_module() -> None:
    """Cutting the adjoint's augmented state into (q, p) would give another number, without a warning."""
    results = []
    for solve in (odeint, odeint_adjoint):
        func = Pendulum()
        q, _ = solve(func, pendulum_start(), GRID, method="leapfrog")
        q[-1].sum().backward()
        results.append(float(func.g.grad))
    assert results[0] == results[1] != 0


def test_functions_that_cannot_be_split_are_refused() -> None:
    y0 = pendulum_start()
    with pytest.raises(TypeError, match=r"function has no force and no velocity; .* torchdiffeq's methods"):
        odeint(lambda t, y: (y[1], -y[0]), y0, GRID, method="leapfrog")
    mixed = GeneralHamiltonian(lambda q, p, particles: (q * p).sum((1, 2)))
    for func in (mixed, mixed.vector_field):
        with pytest.raises(TypeError, match="GeneralHamiltonian does not have"):
            odeint(func, y0, GRID, method="pefrl")


def test_other_methods_of_an_object_are_not_mistaken_for_its_vector_field() -> None:
    class Damped(Pendulum):
        def damped(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return self.velocity(state[1]), self.force(state[0]) - state[1]

    with pytest.raises(TypeError, match="no force"):
        odeint(Damped().damped, pendulum_start(), GRID, method="leapfrog")


def test_wrong_arguments_are_named() -> None:
    func, (q, p) = Pendulum(), pendulum_start()
    solve = partial(odeint, func, method="leapfrog")
    with pytest.raises(TypeError, match=r"leapfrog needs y0 = \(q, p\).* got \(2,\)"):
        solve(q, GRID)
    with pytest.raises(TypeError, match=r"needs y0 = \(q, p\)"):
        solve((q, p, p), GRID)
    with pytest.raises(
        ValueError, match="leapfrog has no option stepsize; its options are step_size, fixed_point, compile"
    ):
        solve((q, p), GRID, options={"stepsize": 0.1})
    with pytest.raises(ValueError, match="step_size must be positive"):
        solve((q, p), GRID, options={"step_size": -0.1})
    for name in ("fixed_point", "compile"):
        with pytest.raises(ValueError, match=f"{name} must be True or False, got 'no'"):
            solve((q, p), GRID, options={name: "no"})
    with pytest.raises(ValueError, match="leapfrog draws no noise, so the systems need no names"):
        solve((q, p), GRID, options={"trajectory": torch.zeros(1, dtype=torch.int64)})
    with pytest.raises(ValueError, match="events are looked for at every step"):
        solve((q, p), GRID, event_fn=lambda t, y: t)
    with pytest.raises(ValueError, match="strictly increasing or decreasing"):
        solve((q, p), torch.tensor([0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="leave out adjoint_rtol"):
        odeint_adjoint(func, (q, p), GRID, method=get_method("pefrl"), adjoint_rtol=1e-3)
    with pytest.raises(ValueError, match="adjoint_method='leapfrog' would give wrong gradients"):
        odeint_adjoint(func, (q, p), GRID, method="dopri5", adjoint_method="leapfrog")


def test_unknown_method_lists_both_families() -> None:
    with pytest.raises(ValueError, match="dopri5") as caught:
        odeint(Pendulum(), pendulum_start(), GRID, method="leapfrogg")
    assert "lie_sim adds: symplectic_euler, leapfrog, position_verlet" in str(caught.value)


def test_near_misses_are_named() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'leapfrog'\?"):
        odeint(Pendulum(), pendulum_start(), GRID, method="leapforg")
    coarse = torch.tensor([1e8, 1e8 + 1], dtype=torch.float32)
    with pytest.raises(ValueError, match=r"torch.float32 may be too coarse .* give t in float64"):
        odeint(Pendulum(), pendulum_start(), coarse, method="leapfrog")


@pytest.mark.parametrize("name", ["baoab", "nose_hoover_chain", "csvr"])
def test_thermostats_say_what_shape_they_need(name) -> None:
    class Well:
        masses = torch.ones(1, dtype=torch.float64)

        def force(self, q):
            return -q

        def velocity(self, p):
            return p

    flat = torch.zeros(3, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"positions of shape \(B, N, d\), got \(3, 1\)"):
        odeint(Well(), (flat, flat), torch.tensor([0.0, 1.0], dtype=torch.float64), method=name)


def test_poses_go_through_the_same_door() -> None:
    """(g, μ) of a rigid body have two shapes; gradients in constant memory equal those of autograd."""
    top = HeavyTop()
    g, mu = top.sample(2, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    expected = integrate(
        top, g, mu, step_size=0.05, num_steps=20, save_every=10, method="rigid_body_splitting"
    )
    slopes = []
    for adjoint in ("autograd", "reversible", "checkpoint"):
        mu.requires_grad_(True)
        poses, momenta = odeint(
            top, (g, mu), t, method="rigid_body_splitting", options={"step_size": 0.05}, adjoint=adjoint
        )
        assert poses.shape == (3, 2, 3, 3)
        assert (momenta.transpose(0, 1) - expected[1]).abs().max() < ROUND_OFF
        slopes.append(torch.autograd.grad((poses[-1] * poses[1]).sum() + momenta[-1].square().sum(), mu)[0])
    assert (slopes[1] - slopes[0]).abs().max() < ROUND_OFF
    assert (slopes[2] - slopes[0]).abs().max() < ROUND_OFF
