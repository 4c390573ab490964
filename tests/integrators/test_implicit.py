"""Gauss methods: order, structure and gradients, and that all of it rests on solving the stages to round-off."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from lie_sim import GeneralHamiltonian, Hamiltonian, Particles
from lie_sim.errors import ConvergenceError
from lie_sim.integrators import Gauss4, ImplicitMidpoint, Method, get_method, integrate
from lie_sim.integrators.fixed_point import FixedPointSolver
from lie_sim.models.base import EnergyModel

ORDER_TOLERANCE = 0.1  # on the slope of log(error) over a factor of 4 in the step, above round-off
SYMPLECTIC_DEFECT = 1e-13  # measured: up to 3e-17 (loop), 1e-16 (Jacobian)
REVERSAL_ERROR = 1e-12  # 200 steps of round-off; measured: up to 6e-16
INVARIANT_ERROR = 1e-13  # 100 steps; measured: up to 3e-16
SOLUTION_ERROR = 1e-14  # one step against a direct solution; measured: up to 4e-16
BATCH_ERROR = 1e-14  # what matrix products round differently in another batch; measured: 0
NAMES = ("implicit_midpoint_h", "gauss4", "gauss6")
ALL = pytest.mark.parametrize("name", NAMES)
LOOSE = 1e-2  # a tolerance that two or three iterations meet


class HenonHeiles:
    """V = (x² + y²)/2 + x²y − y³/3, unit mass; any shape (B, …, 2)."""

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x - 2 * x * y, -y - x.square() + y.square()], -1)

    def velocity(self, p: Tensor) -> Tensor:
        return p


class Product:
    """H = Σ (q² + 1)(p² + 1)/2 for each pair (q, p): not separable, every motion periodic."""

    def __init__(self) -> None:
        self.calls = 0

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.calls += 1
        q, p = state
        return (q.square() + 1) * p, -(p.square() + 1) * q


class Coupled:
    """H = |p|²/2 + |q|²/2 + (q·p)²/4 + |q|⁴/4: not separable, invariant under rotations."""

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        q, p = state
        mixed, square = (q * p).sum(-1, keepdim=True), q.square().sum(-1, keepdim=True)
        return p + mixed * q / 2, -q - mixed * p / 2 - square * q


SYSTEMS = {"henon_heiles": HenonHeiles(), "product": Product()}
START = ((0.3, -0.2), (0.1, 0.25))
DURATION = 8.0


def start() -> tuple[Tensor, Tensor]:
    q, p = (torch.tensor(part, dtype=torch.float64).reshape(1, 1, 2) for part in START)
    return q, p


def rate(system: Any, z: np.ndarray) -> np.ndarray:
    q, p = torch.tensor(z).reshape(2, 1, 1, 2).unbind()
    dq, dp = get_method("gauss4").dynamics(system)(q, p)
    return torch.cat([dq, dp]).flatten().numpy()


@pytest.fixture(scope="module", params=SYSTEMS)
def problem(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A system and its state at the end, by an independent solver."""
    system = SYSTEMS[request.param]
    z = [*START[0], *START[1]]
    solution = solve_ivp(lambda _, z: rate(system, z), (0, DURATION), z, "DOP853", rtol=3e-14, atol=1e-15)
    return system, torch.tensor(solution.y[:, -1])


def run(system: Any, q: Tensor, p: Tensor, h: Any, steps: int, method: str | Method) -> tuple[Tensor, Tensor]:
    q, p = integrate(system, q, p, step_size=h, num_steps=steps, save_every=steps, method=method)
    return q[:, -1], p[:, -1]


def final_error(name: str, steps: int, problem: tuple[Any, Tensor]) -> float:
    q, p = run(problem[0], *start(), DURATION / steps, steps, name)
    return float((torch.cat([q, p]).flatten() - problem[1]).norm())


@ALL
def test_order_is_as_declared(name: str, problem: tuple[Any, Tensor]) -> None:
    finest = 128
    slope = math.log2(final_error(name, finest // 4, problem) / final_error(name, finest, problem)) / 2
    declared = get_method(name).order
    assert abs(slope - declared) < ORDER_TOLERANCE, f"{name}: slope {slope:.3f}, declared {declared}"


@ALL
def test_step_of_a_linear_system_is_the_diagonal_pade_approximant(name: str) -> None:
    """Gauss methods turn exp(z) into its diagonal Padé approximant (Hairer, Wanner, section IV.3)."""

    class Oscillator:
        def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return state[1], -state[0]

    one = torch.ones(1, 1, 1, dtype=torch.float64)
    q, p = run(Oscillator(), one, 0 * one, 0.7, 1, name)
    z = -0.7j
    numerator = {
        "implicit_midpoint_h": 1 + z / 2,
        "gauss4": 1 + z / 2 + z**2 / 12,
        "gauss6": 1 + z / 2 + z**2 / 10 + z**3 / 120,
    }[name]
    exact = numerator / numerator.conjugate()
    assert abs(complex(q, p) - exact) < SOLUTION_ERROR


def loop_defect(method: Method) -> float:
    """Change of ∮ p·dq around a curve of initial states: the symplectic form of the map itself, no derivative."""
    angle = torch.arange(128, dtype=torch.float64) * (2 * math.pi / 128)
    circle = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    q, p = 0.5 * circle + 0.2, 0.5 * circle.roll(1, -1) * torch.tensor([-1.0, 0.6]) + 0.1

    def area(q: Tensor, p: Tensor) -> float:
        waves = torch.fft.fftfreq(len(q), 1 / len(q), dtype=torch.float64)[:, None, None]
        return float((p * torch.fft.ifft(1j * waves * torch.fft.fft(q, dim=0), dim=0).real).sum()) / len(q)

    return abs(area(*run(Coupled(), q, p, 0.2, 3, method)) - area(q, p))


@ALL
def test_step_is_symplectic(name: str) -> None:
    assert get_method(name).symplectic
    defect = loop_defect(get_method(name))
    assert defect < SYMPLECTIC_DEFECT, f"{defect:.1e} > {SYMPLECTIC_DEFECT:.1e}"


@ALL
def test_symplecticity_test_notices_an_unsolved_stage(name: str) -> None:
    defect = loop_defect(get_method(name, tolerance=LOOSE))
    assert defect > 1e4 * SYMPLECTIC_DEFECT, f"{defect:.1e}"


@ALL
def test_derivative_of_a_step_is_symplectic(name: str) -> None:
    def step(z: Tensor) -> Tensor:
        q, p = z.reshape(2, 1, 1, 2).unbind()
        return torch.cat(run(Coupled(), q, p, 0.3, 2, name)).flatten()

    z = torch.tensor([*START[0], *START[1]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(step, z)
    omega = torch.kron(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(2)).double()
    defect = float((jacobian.T @ omega @ jacobian - omega).abs().max())
    assert defect < SYMPLECTIC_DEFECT, f"{defect:.1e} > {SYMPLECTIC_DEFECT:.1e}"


def reversal_error(method: Method) -> float:
    q0, p0 = start()
    dynamics = method.dynamics(Coupled())
    q, p, memory = method.advance(dynamics, q0, p0, step_size=0.1, num_steps=100)
    q, p, _ = method.advance(dynamics, q, p, step_size=-0.1, num_steps=100, memory=memory)
    return float(torch.maximum((q - q0).abs().max(), (p - p0).abs().max()))


@ALL
def test_step_back_undoes_step_forth(name: str) -> None:
    error = reversal_error(get_method(name))
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"
    assert reversal_error(get_method(name, tolerance=LOOSE)) > 1e3 * REVERSAL_ERROR


@ALL
def test_angular_momentum_is_conserved(name: str) -> None:
    def error(method: Method) -> float:
        q, p = start()
        end_q, end_p = run(Coupled(), q, p, 0.2, 100, method)
        first, last = (
            (q[..., 0] * p[..., 1] - q[..., 1] * p[..., 0]).item() for q, p in ((q, p), (end_q, end_p))
        )
        return abs(last - first)

    assert error(get_method(name)) < INVARIANT_ERROR, f"{error(get_method(name)):.1e}"
    assert error(get_method(name, tolerance=LOOSE)) > 1e3 * INVARIANT_ERROR


def batch(size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, p = 0.4 * torch.randn(2, size, 3, 2, generator=generator, dtype=torch.float64)
    return q, p


@ALL
def test_every_system_is_solved_on_its_own(name: str) -> None:
    """Steps of its own and, at other speeds of convergence, the result it has alone."""
    q, p = batch()
    h = torch.tensor([0.02, 0.1, 0.0, -0.2], dtype=torch.float64)
    together = run(Coupled(), q, p, h, 5, name)
    for i in range(len(q)):
        alone = run(Coupled(), q[i : i + 1], p[i : i + 1], float(h[i]), 5, name)
        for ours, theirs in zip(together, alone, strict=True):
            error = float((ours[i] - theirs[0]).abs().max())
            assert error <= BATCH_ERROR, f"system {i}: {error:.1e}"
    assert bool((together[0][2] == q[2]).all())
    assert bool((together[1][2] == p[2]).all())


@ALL
def test_continued_run_is_the_uninterrupted_one(name: str) -> None:
    method, (q, p) = get_method(name), batch()
    dynamics = method.dynamics(Coupled())
    whole = method.advance(dynamics, q, p, step_size=0.1, num_steps=9)
    memory = None
    for steps in (1, 3, 0, 5):
        q, p, memory = method.advance(dynamics, q, p, step_size=0.1, num_steps=steps, memory=memory)
    assert torch.equal(q, whole[0])
    assert torch.equal(p, whole[1])
    assert all(torch.equal(memory[key], whole[2][key]) for key in whole[2])


@ALL
def test_systems_that_do_not_converge_are_reported(name: str) -> None:
    q, p = batch()
    h = torch.tensor([0.1, 100.0, 0.1, 0.1], dtype=torch.float64)
    with pytest.raises(ConvergenceError, match=r"1 of 4 systems \(batch indices 1\) .* use a smaller step"):
        run(Product(), q, p, h, 2, name)


@ALL
def test_failed_systems_can_be_marked_while_the_others_go_on(name: str) -> None:
    q, p = (x.requires_grad_(True) for x in batch())
    h = torch.tensor([0.1, 100.0, 0.1, 0.1], dtype=torch.float64)
    method = get_method(name, on_failure="nan")
    end, _ = run(Product(), q, p, h, 3, method)
    others = [0, 2, 3]
    assert bool(end[1].isnan().all())
    expected, _ = run(Product(), q[others], p[others], 0.1, 3, name)
    assert (end[others] - expected).abs().max() <= BATCH_ERROR
    (gradient,) = torch.autograd.grad(end[others].square().sum(), q)
    (wanted,) = torch.autograd.grad(expected.square().sum(), q)
    assert (gradient[others] - wanted[others]).abs().max() < 1e-13


@pytest.mark.parametrize("depth", [0, 6])
def test_acceleration_converges_where_plain_iteration_diverges(depth: int) -> None:
    """x = A x + 1 with eigenvalues ±3i."""
    matrix = 3 * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    solver = FixedPointSolver(depth=depth, max_iterations=20)
    weight = torch.ones(1, 1, 2, 1, dtype=torch.float64)

    def solve() -> Tensor:
        return solver.solve(lambda x: matrix @ x + 1, torch.zeros_like(weight), weight)[0]

    if not depth:
        with pytest.raises(ConvergenceError):
            solve()
        return
    exact = torch.linalg.solve(torch.eye(2) - matrix, torch.ones(2, dtype=torch.float64))
    assert (solve().flatten() - exact).abs().max() < SOLUTION_ERROR


@ALL
def test_system_at_rest_converges_though_its_force_is_rounding_error_only(name: str) -> None:
    class Well:
        def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            q, p = state
            return p, 1e3 * (torch.sin(0.1 / q) - math.sin(0.1 / 3))

    q = torch.full((1, 1, 1), 3.0, dtype=torch.float64)
    end, _ = run(Well(), q, torch.zeros_like(q), 0.05, 50, name)
    assert abs(end.item() - 3) < 1e-12


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_follows_the_inputs(dtype: torch.dtype, name: str) -> None:
    q, p = (x.to(dtype) for x in batch())
    end, _ = run(Coupled(), q, p, 0.1, 10, name)
    exact, _ = run(Coupled(), *batch(), 0.1, 10, name)
    assert end.dtype == dtype
    assert (end - exact).abs().max() < 20 * torch.finfo(dtype).eps  # ten steps; measured: 0.8 (float32)


def test_smooth_motion_needs_few_evaluations() -> None:
    """A third of what iterating from the slope at the start takes (20 with h = 0.02)."""
    counted, method = Product(), ImplicitMidpoint()
    dynamics, (q, p) = method.dynamics(counted), batch(64)
    q, p, memory = method.advance(dynamics, q, p, step_size=0.02, num_steps=10)
    counted.calls = 0
    method.advance(dynamics, q, p, step_size=0.02, num_steps=100, memory=memory)
    assert counted.calls <= 700  # measured: 499


@ALL
def test_gradients_are_those_of_the_solution(name: str) -> None:
    """To second order, against finite differences: state and step sizes."""

    def steps(q: Tensor, p: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return run(Coupled(), q, p, h, 2, name)

    q, p = batch(2)
    inputs = [x[:, :1].clone().requires_grad_(True) for x in (q, p)]
    inputs.append(torch.tensor([0.1, 0.3], dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(steps, inputs)
    assert torch.autograd.gradgradcheck(steps, inputs)


def test_gradients_of_gradients_reach_every_leaf_behind_the_field() -> None:
    """Two constants, one of them behind an operation that was done before the run; both mixed with the state."""

    class Springs:
        def __init__(self, k: Tensor, m: Tensor) -> None:
            self.k, self.m = k, m

        def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            q, p = state
            return p / self.m + self.k * q**2 * p, -self.k * (q + q * p**2)

    def steps(q: Tensor, k: Tensor, log_m: Tensor) -> Tensor:
        return run(Springs(k, log_m.exp()), q, q.cos(), 0.2, 2, "gauss4")[0]

    inputs = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([[[0.4]], [[-0.3]]], 1.3, 0.2)
    ]
    assert torch.autograd.gradcheck(steps, inputs)
    assert torch.autograd.gradgradcheck(steps, inputs)


def test_a_gradient_near_the_smallest_number_is_no_obstacle() -> None:
    """Its inverse, the scale of the equation for u, is infinite."""
    q, p = (x.float().requires_grad_(True) for x in batch(2))
    end, _ = run(Coupled(), q, p, 0.1, 2, "gauss4")
    (tiny,) = torch.autograd.grad(end.sum() * 1e-40, q, retain_graph=True)
    (slope,) = torch.autograd.grad(end.sum(), q)
    assert (
        tiny - 1e-40 * slope
    ).abs().max() < 1e-41  # a few of the smallest numbers, 1.4e-45, is out of reach


def test_a_leaf_that_acts_only_later_is_not_lost() -> None:
    """A wall out of reach at the start: known if the dynamics is a module, refused otherwise."""

    class Wall:
        def __init__(self) -> None:
            self.k = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

        def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            q, p = state
            return p, -self.k * (q - 1).relu() if bool((q > 1).any()) else 0 * q

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        vector_field = Wall.vector_field

    q = torch.zeros(1, 1, 1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="did not depend on at the start of the run"):
        run(Wall(), q, q.detach() + 1, 0.1, 20, "gauss4")[0].sum().backward()
    module = Module()

    def end() -> Tensor:
        return run(module, q, q.detach() + 1, 0.1, 20, "gauss4")[0].sum()

    (slope,) = torch.autograd.grad(end(), module.k)
    with torch.no_grad():
        module.k += 1e-5
        above = end()
        module.k -= 2e-5
        expected = (above - end()) / 2e-5
    assert float(slope) == pytest.approx(float(expected), rel=1e-6)


def test_gradient_reaches_the_parameters_of_a_learned_hamiltonian() -> None:
    """The derivative along a direction in parameter space equals a central difference."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    learned = GeneralHamiltonian(lambda q, p, _: net(torch.cat([q, p], -1)).sum((1, 2)))
    H = learned.bind(Particles(masses=torch.ones(2, 3, dtype=torch.float64)))
    q, p = batch(2)

    def loss() -> Tensor:
        return run(H, q, p, 0.3, 3, "gauss4")[0].square().sum()

    parameters = [x for x in net.parameters() if x.ndim > 1]
    gradients = torch.autograd.grad(loss(), parameters)
    epsilon, slopes = 1e-5, []
    with torch.no_grad():
        for sign in (1, -2):
            for parameter in parameters:
                parameter += sign * epsilon * parameter.sin().sign()
            slopes.append(loss().item())
    expected = (slopes[0] - slopes[1]) / (2 * epsilon)
    got = sum(float((g * x.detach().sin().sign()).sum()) for g, x in zip(gradients, parameters, strict=True))
    assert got == pytest.approx(expected, rel=1e-7)


def test_backward_gives_the_same_whatever_the_grad_mode_of_the_state(pair_potential: EnergyModel) -> None:
    """With and without a graph the forward pass has the same bits."""
    q, p = batch(2)
    H = Hamiltonian(pair_potential).bind(Particles(masses=torch.ones(2, 3, dtype=torch.float64)))
    with torch.no_grad():
        plain = run(H, q, p, 0.1, 3, "gauss4")
    recorded = run(H, q, p, 0.1, 3, "gauss4")
    assert recorded[0].requires_grad
    assert torch.equal(plain[0], recorded[0])


def test_padding_without_mass_stays_and_has_no_gradient(pair_potential: EnergyModel) -> None:
    masses = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)
    H = Hamiltonian(pair_potential).bind(Particles(masses=masses))
    q, p = (x[:1].requires_grad_(True) for x in batch(2))
    end, _ = run(H, q, p, 0.1, 2, "gauss4")
    gradient = torch.autograd.grad(end[:, :2].sum(), p)[0]
    assert torch.equal(end[:, 2], q[:, 2])
    assert bool(gradient.isfinite().all())
    assert bool((gradient[:, 2] == 0).all())


def test_wrong_options_and_systems_are_refused() -> None:
    for options, message in (
        ({"tolerance": 2.0}, "tolerance must be between 0 and 1"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"on_failure": "ignore"}, 'on_failure must be "raise" or "nan"'),
        ({"toll": 1e-3}, "its options are tolerance, max_iterations, on_failure"),
    ):
        with pytest.raises(ValueError, match=message):
            get_method("gauss4", **options)
    with pytest.raises(TypeError, match="function has no vector_field"):
        Gauss4().dynamics(lambda t, y: y)
