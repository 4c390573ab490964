"""Gauss–Legendre and Tao's methods: order, structure and gradients on energies that cannot be split."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim import GeneralHamiltonian, Particles
from lie_sim.errors import ConvergenceError
from lie_sim.integrators import get_method, integrate, odeint

IMPLICIT = ["implicit_midpoint_h", "gauss4", "gauss6"]
EXTENDED = ["tao2", "tao4"]
ORDER_TOLERANCE = 0.1
SYMPLECTIC_DEFECT = 1e-13
REVERSAL_ERROR = 1e-12
DURATION, START = 4.0, (0.4, -0.3)
STEPS = {"implicit_midpoint_h": 128, "gauss4": 32, "gauss6": 24, "tao2": 1024, "tao4": 1024}


def twisted(q: Tensor, p: Tensor, _: Particles) -> Tensor:
    """H = (1 + q²)(1 + p²)/2, which no splitting into T(p) + V(q) gives."""
    return ((1 + q.square()) * (1 + p.square())).sum((1, 2)) / 2


def system(batch: int = 1) -> GeneralHamiltonian:
    return GeneralHamiltonian(twisted).bind(Particles(masses=torch.ones(batch, 1, dtype=torch.float64)))


def start() -> tuple[Tensor, Tensor]:
    q, p = (torch.full((1, 1, 1), value, dtype=torch.float64) for value in START)
    return q, p


@pytest.fixture(scope="module")
def truth() -> Tensor:
    def rate(_: float, z: np.ndarray) -> list[float]:
        q, p = z
        return [(1 + q * q) * p, -(1 + p * p) * q]

    return torch.tensor(solve_ivp(rate, (0, DURATION), START, "DOP853", rtol=3e-14, atol=1e-15).y[:, -1])


def error(name: str, steps: int, truth: Tensor) -> float:
    q, p = integrate(
        system(), *start(), step_size=DURATION / steps, num_steps=steps, save_every=steps, method=name
    )
    return float((torch.stack([q[0, -1, 0, 0], p[0, -1, 0, 0]]) - truth).norm())


@pytest.mark.parametrize("name", [*IMPLICIT, *EXTENDED])
def test_order_is_as_declared(name, truth) -> None:
    fine = STEPS[name]
    slope = math.log2(error(name, fine // 2, truth) / error(name, fine, truth))
    assert abs(slope - get_method(name).order) < ORDER_TOLERANCE, f"{name}: slope {slope:.3f}"


def defect(step, size: int) -> float:
    z = torch.tensor([0.3, -0.2, 0.35, -0.25][: 2 * size], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(step, z)
    omega = torch.kron(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(size)).double()
    return float((jacobian.T @ omega @ jacobian - omega).abs().max())


@pytest.mark.parametrize("name", IMPLICIT)
def test_step_is_symplectic_if_it_is_solved(name) -> None:
    def one_step(method):
        def step(z: Tensor) -> Tensor:
            q, p = z.reshape(2, 1, 1, 1).unbind()
            q, p, _ = method.advance(method.dynamics(system()), q, p, step_size=0.3, num_steps=1)
            return torch.cat([q, p]).flatten()

        return step

    found = defect(one_step(get_method(name)), 1)
    assert get_method(name).symplectic
    assert found < SYMPLECTIC_DEFECT, f"{found:.1e}"


@pytest.mark.parametrize("name", EXTENDED)
def test_doubled_step_is_symplectic_and_the_single_one_is_not(name) -> None:
    method = get_method(name, omega=5.0)

    def doubled(z: Tensor) -> Tensor:
        q, x, p, y = z.reshape(4, 1, 1, 1).unbind()
        q, p, memory = method.advance(
            method.dynamics(system()), q, p, step_size=0.2, num_steps=2, memory={"q2": x, "p2": y}
        )
        return torch.cat([q, memory["q2"], p, memory["p2"]]).flatten()

    def single(z: Tensor) -> Tensor:
        q, p = z.reshape(2, 1, 1, 1).unbind()
        q, p, _ = method.advance(method.dynamics(system()), q, p, step_size=0.2, num_steps=2)
        return torch.cat([q, p]).flatten()

    assert defect(doubled, 2) < SYMPLECTIC_DEFECT
    assert not method.symplectic
    assert defect(single, 1) > 1e6 * SYMPLECTIC_DEFECT


@pytest.mark.parametrize("name", [*IMPLICIT, *EXTENDED])
def test_a_step_back_undoes_a_step_forth(name) -> None:
    method, (q0, p0) = get_method(name), start()
    dynamics = method.dynamics(system())
    q, p, memory = method.advance(dynamics, q0, p0, step_size=0.05, num_steps=100)
    q, p, _ = method.advance(dynamics, q, p, step_size=-0.05, num_steps=100, memory=memory)
    assert float(torch.maximum((q - q0).abs().max(), (p - p0).abs().max())) < REVERSAL_ERROR


@pytest.mark.parametrize("name", [*IMPLICIT, *EXTENDED])
def test_batch_equals_single_steps_of_each_system_and_steps_of_length_0(name) -> None:
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.rand(3, 1, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    method = get_method(name)
    steps = torch.tensor([0.1, 0.0, -0.05], dtype=torch.float64)
    x, y, _ = method.advance(method.dynamics(system(3)), q, p, step_size=steps, num_steps=10)
    assert torch.equal(x[1], q[1])
    assert torch.equal(y[1], p[1])
    for row in (0, 2):
        a, b, _ = method.advance(
            method.dynamics(system()),
            q[row : row + 1],
            p[row : row + 1],
            step_size=float(steps[row]),
            num_steps=10,
        )
        assert float((a[0] - x[row]).abs().max()) < REVERSAL_ERROR
        assert float((b[0] - y[row]).abs().max()) < REVERSAL_ERROR


@pytest.mark.parametrize("name", [*IMPLICIT, *EXTENDED])
def test_a_continued_run_is_the_same_to_the_bit(name) -> None:
    method, (q, p) = get_method(name), start()
    dynamics = method.dynamics(system())
    whole = method.advance(dynamics, q, p, step_size=0.1, num_steps=20)
    q, p, memory = method.advance(dynamics, q, p, step_size=0.1, num_steps=9)
    parts = method.advance(dynamics, q, p, step_size=0.1, num_steps=11, memory=memory)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


@pytest.mark.parametrize("name", [*IMPLICIT, *EXTENDED])
def test_gradients_are_those_of_the_solved_steps(name) -> None:
    t = torch.tensor([0.0, 0.2], dtype=torch.float64)

    def run(q: Tensor, p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return odeint(system(), (q, p), t, method=name, options={"step_size": 0.1})

    inputs = [x.requires_grad_(True) for x in (*start(), t)]
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("name", IMPLICIT)
def test_no_convergence_is_said_and_may_be_confined(name) -> None:
    q = torch.tensor([0.1, 50.0], dtype=torch.float64).reshape(2, 1, 1)
    method = get_method(name, max_iterations=8, tolerance=1e-3)
    with pytest.raises(ConvergenceError, match=r"1 of 2 systems \(batch indices 1\) did not converge"):
        integrate(
            system(2),
            q,
            q,
            step_size=0.5,
            num_steps=3,
            method=get_method(name, max_iterations=8, tolerance=1e-3),
        )
    method = get_method(method, on_failure="nan")
    x, _ = integrate(system(2), q, q, step_size=0.5, num_steps=3, method=method)
    assert bool(x[0].isfinite().all())
    assert bool(x[1, -1].isnan().all())


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(TypeError, match=r"call vector_field\(t, \(q, p\)\)"):
        integrate(lambda t, y: y, *start(), step_size=0.1, num_steps=1, method="gauss4")
    with pytest.raises(ValueError, match="omega must be finite"):
        get_method("tao2", omega=-1.0)
    with pytest.raises(ValueError, match="tolerance must be between 0 and 1"):
        get_method("gauss4", tolerance=2.0)
