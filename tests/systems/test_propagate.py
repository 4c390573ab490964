"""The composition method: its order, its convergence test and its refusal."""

import math

import pytest
import torch

from lie_sim.errors import LieSimError
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import SoftenedCharges
from lie_sim.systems.propagate import KAHAN_LI_8, ORDER, _autonomous, _integrate, solve

PARTICLES = Particles(masses=torch.tensor([[2.0]], dtype=torch.float64))
START = PhaseState(
    q=torch.tensor([[[1.0]]], dtype=torch.float64), p=torch.tensor([[[0.5]]], dtype=torch.float64)
)


def pull(q, particles):  # a pendulum: non-linear, so that all order conditions matter
    return -torch.sin(q)


def final(substeps: int, end: float = 4.0) -> torch.Tensor:
    times = torch.tensor([end], dtype=torch.float64)
    q, p = _integrate(_autonomous(pull), START, PARTICLES, times, substeps=substeps)
    return torch.cat([q, p]).flatten()


def test_error_falls_with_the_declared_order() -> None:
    truth = final(64)
    errors = [float((final(n) - truth).norm()) for n in (4, 8)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDER, abs=0.5), errors


def test_stages_are_symmetric_and_sum_to_one() -> None:
    assert KAHAN_LI_8[::-1] == KAHAN_LI_8
    assert sum(KAHAN_LI_8) == pytest.approx(1.0, abs=1e-15)


def test_solution_is_as_accurate_as_asked_and_reversible() -> None:
    times = torch.tensor([0.0, 0.3, 4.0], dtype=torch.float64)  # uneven on purpose
    q, p = solve(pull, START, PARTICLES, times, tolerance=1e-12)
    assert (torch.stack([q[0, -1], p[0, -1]]).flatten() - final(128)).abs().max() < 1e-11
    assert torch.equal(q[:, 0], START.q)
    back, _ = solve(pull, PhaseState(q=q[:, -1], p=p[:, -1]), PARTICLES, torch.tensor([-4.0]).double())
    assert (back[:, 0] - START.q).abs().max() < 1e-11


def test_hard_systems_are_refined_without_touching_easy_ones() -> None:
    system = SoftenedCharges(num_particles=2, softening=0.2)
    q = torch.tensor([[[0.0, 0, 0], [0.4, 0, 0]], [[0.0, 0, 0], [5.0, 0, 0]]], dtype=torch.float64)
    charges = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64).expand(2, 2, 1)
    particles = Particles(masses=torch.ones(2, 2, dtype=torch.float64), attributes=charges)
    state = PhaseState(q=q, p=torch.zeros_like(q))
    times = torch.linspace(0, 1, 6, dtype=torch.float64)
    both, _ = system.trajectory(state, particles, times)
    alone, _ = system.trajectory(PhaseState(q=q[1:], p=state.p[1:]), particles[1:], times)
    assert torch.equal(both[1:], alone)
    fine, _ = _integrate(_autonomous(system.force), state, particles, times, substeps=32)
    assert (both - fine).abs().max() < 1e-10


def test_no_convergence_is_an_error_with_advice() -> None:
    with pytest.raises(LieSimError, match=r"1 of 1 systems have not converged .* 2 steps .*larger softening"):
        solve(pull, START, PARTICLES, torch.tensor([40.0]).double(), max_substeps=2)
