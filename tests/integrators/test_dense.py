"""States between the steps: exact at them, as accurate as declared between, no force calls of their own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lie_sim import PhaseState
from lie_sim.integrators import DenseOutput, SystemDynamics, odeint, odeint_dense
from lie_sim.systems import Springs


class Counted(SystemDynamics):
    calls = 0

    def force(self, q):
        self.calls += 1
        return super().force(q)


def springs() -> tuple[tuple[torch.Tensor, torch.Tensor], Counted]:
    state, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(0))
    return (state.q, state.p), Counted(Springs(num_particles=3), particles)


@pytest.mark.parametrize("end", [1.0, -1.0])
def test_at_the_steps_it_is_the_trajectory(end) -> None:
    y0, dynamics = springs()
    t = torch.linspace(0, end, 11, dtype=torch.float64)
    expected = odeint(dynamics, y0, t, method="leapfrog", options={"step_size": 0.02})
    dense = odeint_dense(dynamics, y0, 0.0, end, step_size=0.02)
    found = dense(t)
    assert max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)) < 1e-12
    assert dense(0.5 * end)[0].shape == y0[0].shape


def test_no_force_calls_beyond_those_of_the_steps() -> None:
    y0, dynamics = springs()
    odeint_dense(dynamics, y0, 0.0, 1.0, step_size=0.02)
    assert dynamics.calls == 51


def test_error_between_the_steps_has_the_declared_order() -> None:
    """Against the exact springs, the steps being almost exact: q of order 6, p of order 4."""
    y0, dynamics = springs()
    t = torch.linspace(0.011, 0.97, 37, dtype=torch.float64)
    exact = dynamics.system.trajectory(
        PhaseState(q=y0[0], p=y0[1]), dynamics.particles, torch.cat([t.new_zeros(1), t])
    )
    errors = []
    for h in (0.1, 0.05):
        found = odeint_dense(dynamics, y0, 0.0, 1.0, step_size=h, method="kahan_li8")(t)
        errors.append(
            [float((a.transpose(0, 1) - b[:, 1:]).abs().max()) for a, b in zip(found, exact, strict=True)]
        )
    slopes = [math.log2(a / b) for a, b in zip(*errors, strict=True)]
    assert 5.5 < slopes[0] < 6.7, slopes
    assert 3.6 < slopes[1] < 4.5, slopes


def test_what_is_impossible_is_named() -> None:
    y0, dynamics = springs()
    dense = odeint_dense(dynamics, y0, 0.0, 1.0, step_size=0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        dense(1.5)
    with pytest.raises(TypeError, match="dense output is for splitting methods"):
        odeint_dense(dynamics, y0, 0.0, 1.0, step_size=0.1, method="baoab")


def test_polynomials_are_met_exactly_between_steps_of_each_systems_own() -> None:
    """q = t⁵, p = t³, on uneven steps; the second system goes backwards."""
    times = torch.tensor([[0.0, 2.0], [0.5, 1.7], [0.6, 0.4], [2.0, -1.0]], dtype=torch.float64)
    x = times[..., None, None]
    path = DenseOutput(times, x**5, x**3, 5 * x**4, 20 * x**3, 3 * x**2)
    t = torch.tensor(
        [[0.0, 2.0], [0.55, 0.0], [1.9, 1.7], [2.0, -1.0]], dtype=torch.float64, requires_grad=True
    )
    q, p = path(t)
    assert (q[..., 0, 0] - t**5).abs().max() < 1e-13
    assert (p[..., 0, 0] - t**3).abs().max() < 1e-13
    (rate,) = torch.autograd.grad(q.sum(), t)
    assert (rate - 5 * t**4).abs().max() < 1e-12
    assert path.covers(torch.tensor([[2.1, 0.0], [1.0, 2.1]])).tolist() == [[False, True], [True, False]]
    with pytest.raises(ValueError, match=r"between \[0, 2\] and \[2, -1\]"):
        path(t + 0.5)


@pytest.mark.parametrize("own_times", [False, True])
def test_no_systems_have_states_at_any_time(own_times: bool) -> None:
    state, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(0))
    dynamics = SystemDynamics(Springs(num_particles=3), particles[:0])
    path = odeint_dense(dynamics, (state.q[:0], state.p[:0]), 0.0, 1.0, step_size=0.1)
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    if own_times:
        path, t = replace(path, times=path.times[:, None].expand(-1, 0)), t[:, None].expand(-1, 0)
    q, p = path(t)
    assert q.shape == p.shape == (2, 0, 3, 2)
    assert path(t[:0])[0].shape == (0, 0, 3, 2)
