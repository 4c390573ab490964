"""Events: each system stops at its own, at the right time, with the right gradient; the others go on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lie_sim.integrators import SystemDynamics, odeint
from lie_sim.systems import HeavyTop, Springs

G = 9.81
TIME_ERROR = 1e-12


class Falling:
    """A ball under gravity, along one axis: q of shape (B, 1, 1). Leapfrog is exact on it."""

    def force(self, q: Tensor) -> Tensor:
        return torch.full_like(q, -G) + 0 * q

    def velocity(self, p: Tensor) -> Tensor:
        return p


def ground(t: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
    return state[0][:, 0, 0]


def drop(heights: Tensor, until: float = 5.0, **options):
    q = heights.reshape(-1, 1, 1)
    t = torch.tensor([0.0, until], dtype=torch.float64)
    return odeint(
        Falling(),
        (q, torch.zeros_like(q)),
        t,
        method="leapfrog",
        options={"step_size": 0.1},
        event_fn=ground,
        **options,
    )


def test_every_ball_lands_at_its_own_time() -> None:
    heights = torch.tensor([1.0, 20.0, 7.0], dtype=torch.float64)
    when, (q, p) = drop(heights)
    expected = (2 * heights / G).sqrt()
    assert float((when - expected).abs().max()) < TIME_ERROR
    assert q.shape == (2, 3, 1, 1)
    assert torch.equal(q[0, :, 0, 0], heights)
    assert float(q[1].abs().max()) < 1e-11
    assert float((p[1, :, 0, 0] + G * expected).abs().max()) < 1e-10


def test_a_ball_that_does_not_land_in_time_is_at_infinity_and_at_its_last_place() -> None:
    when, (q, _) = drop(torch.tensor([1.0, 1000.0], dtype=torch.float64), until=2.0)
    assert math.isinf(float(when[1]))
    assert math.isfinite(float(when[0]))
    assert float(q[1, 1, 0, 0]) == pytest.approx(1000 - G * 2, abs=1e-9)


def test_batch_equals_single() -> None:
    heights = torch.tensor([3.0, 11.0], dtype=torch.float64)
    together, _ = drop(heights)
    alone = torch.cat([drop(height[None])[0] for height in heights])
    assert float((together - alone).abs().max()) < TIME_ERROR


def test_gradient_of_the_event_time_and_state() -> None:
    """dt/dheight = 1/√(2 g h) and dp/dheight = −√(g/2h), by the implicit function theorem."""
    heights = torch.tensor([2.0, 5.0], dtype=torch.float64, requires_grad=True)
    when, (_, p) = drop(heights)
    (slope,) = torch.autograd.grad(when.sum(), heights, retain_graph=True)
    assert torch.allclose(slope, 1 / (2 * G * heights).sqrt(), rtol=1e-9)
    (slope,) = torch.autograd.grad(p[1].sum(), heights)
    assert torch.allclose(slope, -(G / (2 * heights)).sqrt(), rtol=1e-9)


def test_time_may_run_backwards() -> None:
    q, p = torch.zeros(1, 1, 1, dtype=torch.float64) - 1, torch.full((1, 1, 1), -6.0, dtype=torch.float64)
    t = torch.tensor([2.0, 0.0], dtype=torch.float64)
    when, (x, _) = odeint(
        Falling(), (q, p), t, method="leapfrog", options={"step_size": 0.05}, event_fn=ground
    )
    assert 0 < float(when) < 2
    assert float(x[1].abs().max()) < 1e-11


def test_what_is_impossible_is_named() -> None:
    q = torch.ones(2, 1, 1, dtype=torch.float64)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="events are looked for at every step"):
        odeint(Falling(), (q, q), t, method="leapfrog", event_fn=ground)
    options = {"method": "leapfrog", "options": {"step_size": 0.1}}
    with pytest.raises(ValueError, match=r"one number per system, shape \(2,\)"):
        odeint(Falling(), (q, q), t, event_fn=lambda t, y: y[0].sum(), **options)
    with pytest.raises(ValueError, match="start and the latest end"):
        odeint(Falling(), (q, q), t[:1], event_fn=ground, **options)
    with pytest.raises(ValueError, match="bring it nearer"):
        odeint(Falling(), (q, q), t * 1e9, event_fn=ground, **options)


def test_an_event_at_the_latest_end_is_found() -> None:
    """Times are counted in steps, not added up."""
    for end in (1.0, 3.0, 7.0, 10.0):
        q = torch.ones(2, 1, 1, dtype=torch.float64)
        when, _ = odeint(
            Falling(),
            (q, q),
            torch.tensor([0.0, end], dtype=torch.float64),
            method="leapfrog",
            options={"step_size": 0.1},
            event_fn=lambda t, y, end=end: t - end,
        )
        assert float((when - end).abs().max()) < TIME_ERROR


def test_the_end_has_a_gradient_in_the_times() -> None:
    t = torch.tensor([0.0, 0.5], dtype=torch.float64, requires_grad=True)
    q = torch.full((1, 1, 1), 100.0, dtype=torch.float64)
    when, (x, _) = odeint(
        Falling(), (q, 0 * q), t, method="leapfrog", options={"step_size": 0.1}, event_fn=ground
    )
    assert math.isinf(float(when))
    (slope,) = torch.autograd.grad(x[1].sum(), t)
    assert float((slope - torch.tensor([G * 0.5, -G * 0.5], dtype=torch.float64)).abs().max()) < 1e-9


def test_a_second_derivative_of_the_event_raises_instead_of_being_wrong() -> None:
    heights = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    when, _ = drop(heights)
    (slope,) = torch.autograd.grad(when.sum(), heights, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        torch.autograd.grad(slope.sum(), heights)


def test_methods_with_a_memory_are_located_on_their_own_path() -> None:
    """A thermostat's chain goes on from before the event; one with noise is refused."""
    state, particles = Springs(num_particles=3).sample(2, generator=torch.Generator().manual_seed(0))
    dynamics, t = (
        SystemDynamics(Springs(num_particles=3), particles),
        torch.tensor([0.0, 2.0], dtype=torch.float64),
    )
    options = {"method": "nose_hoover_chain", "options": {"step_size": 0.1}}
    when, (q, _) = odeint(dynamics, (state.q, state.p), t, event_fn=lambda t, y: t - 1.23, **options)
    assert float((when - 1.23).abs().max()) < TIME_ERROR
    grid = torch.tensor([0.0, 1.2, 1.23], dtype=torch.float64)
    expected, _ = odeint(dynamics, (state.q, state.p), grid, **options)
    assert float((q[1] - expected[-1]).abs().max()) < 1e-10
    with pytest.raises(ValueError, match="baoab has no events"):
        odeint(
            dynamics,
            (state.q, state.p),
            t,
            method="baoab",
            options={"step_size": 0.1},
            event_fn=lambda t, y: t - 1,
        )


def test_poses_have_events_too() -> None:
    g, mu = HeavyTop().sample(2, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    when, (poses, momenta) = odeint(
        HeavyTop(),
        (g, mu),
        t,
        method="rigid_body_splitting",
        options={"step_size": 0.1},
        event_fn=lambda t, y: t - 0.37,
    )
    assert float((when - 0.37).abs().max()) < TIME_ERROR
    assert (poses.shape, momenta.shape) == ((2, 2, 3, 3), (2, 2, 3))
