"""Events in a batch: time, state and gradient of each system are those that it has alone, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lie_sim.integrators import ConstrainedDynamics, DistanceConstraints, Method, get_method, odeint
from lie_sim.systems import HeavyTop

STEP, LAST_STEP = 0.1, 4
TIMES = torch.tensor([0.0, STEP * LAST_STEP], dtype=torch.float64)
STEPS_OF_EVENTS = [1, 2, LAST_STEP]
PARTICLES = ["leapfrog", "position_verlet", "implicit_midpoint_h", "gauss4", "tao2", "nose_hoover_chain"]
"""One of every kind of memory: a force, none, slopes that grow in number, a second copy, a chain."""
Event = Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]


class Wells:
    """Two particles, each in an anharmonic well: F = −20 q − 0.3 q³."""

    masses = torch.ones(2, dtype=torch.float64)

    def force(self, q: Tensor) -> Tensor:
        return -20 * q - 0.3 * q**3

    def velocity(self, p: Tensor) -> Tensor:
        return p


def starts() -> tuple[Tensor, Tensor]:
    """Systems whose first particle passes 0 in the steps above; the last one has no event by leapfrog."""
    first = torch.tensor([0.09, 0.5, 1.0, 0.01], dtype=torch.float64)
    speed = torch.tensor([-1.0, -3.0, 0.0, 6.0], dtype=torch.float64)
    second = torch.linspace(0.3, 1.5, 4, dtype=torch.float64)
    return torch.stack([first, second], 1)[..., None], torch.stack([speed, 0 * speed], 1)[..., None]


def crossing(t: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
    return state[0][:, 0, 0]


def outcome(
    dynamics: Any, q: Tensor, p: Tensor, method: str | Method, event: Event = crossing
) -> list[Tensor]:
    """Event times, the states there, and the gradients of a sum of these with respect to the start."""
    q, p = (x.clone().requires_grad_(True) for x in (q, p))
    options = {"step_size": STEP}
    when, (x, y) = odeint(dynamics, (q, p), TIMES, method=method, options=options, event_fn=event)
    total = torch.where(when.isfinite(), when, 0.0).sum() + x[1].square().sum() + 3 * y[1].sin().sum()
    return [part.detach() for part in (when, x[1], y[1], *torch.autograd.grad(total, (q, p)))]


def check_alone(
    dynamics: Any, q: Tensor, p: Tensor, method: str | Method, event: Event = crossing
) -> list[int | None]:
    """Compare every system with itself alone; returns the steps in which the events come."""
    together = outcome(dynamics, q, p, method, event)
    for i in range(len(q)):
        alone = outcome(dynamics, q[i, None], p[i, None], method, event)
        for name, a, b in zip(("t", "q", "p", "dq", "dp"), together, alone, strict=True):
            difference = float((a[i, None] - b).nan_to_num().abs().max())
            assert torch.equal(a[i, None], b), f"system {i}, {name}: {difference:.1e} > 0"
    return [math.ceil(t / STEP) if math.isfinite(t) else None for t in together[0].tolist()]


@pytest.mark.parametrize("method", PARTICLES)
def test_each_system_has_the_event_it_has_alone(method: str) -> None:
    """Wrong results before: a force from after the event kicked from before it (system 0: t wrong by 9 per cent)."""
    loose = {"tolerance": 1e-8} if method in ("gauss4", "implicit_midpoint_h") else {}  # for speed
    assert check_alone(Wells(), *starts(), get_method(method, **loose))[:3] == STEPS_OF_EVENTS


def test_rods_have_the_events_they_have_alone() -> None:
    rod = DistanceConstraints(torch.tensor([[0, 1]]), torch.ones(1, dtype=torch.float64))
    first = torch.tensor([[0.09, 0.2], [0.15, 0.1], [0.8, 0.3]], dtype=torch.float64)
    angle = torch.tensor([0.3, 0.9, 1.4], dtype=torch.float64)
    q = torch.stack([first, first + torch.stack([angle.cos(), angle.sin()], 1)], 1)
    p = torch.tensor([[-1.0, 0.0], [-1.0, 0.0], [6.0, 0.0]], dtype=torch.float64)[:, None].expand_as(q)
    assert check_alone(ConstrainedDynamics(Wells(), rod), q, p, "rattle") == [1, 2, None]


def test_poses_have_the_events_they_have_alone() -> None:
    g, mu = HeavyTop().sample(6, generator=torch.Generator().manual_seed(0))
    steps = check_alone(HeavyTop(), g, mu, "rigid_body_splitting", lambda t, state: state[0][:, 2, 0] - 0.03)
    assert steps == [None, 4, None, None, 1, None]


def test_an_event_function_may_be_as_small_as_it_likes() -> None:
    """The product of two values underflows: every state was an event."""
    q, p = starts()
    run = {"method": "leapfrog", "options": {"step_size": STEP}}
    expected, _ = odeint(Wells(), (q, p), TIMES, event_fn=crossing, **run)
    for scale in (1e-170, -1e-200, 1e200):
        when, _ = odeint(Wells(), (q, p), TIMES, event_fn=lambda t, y, k=scale: k * crossing(t, y), **run)
        assert torch.equal(when, expected), (scale, when, expected)


def test_without_any_event_times_are_infinite_and_gradients_those_of_the_end() -> None:
    q, p = (x[3:] for x in starts())
    when, x, _, slope, _ = outcome(Wells(), q, p, "leapfrog")
    start = q.clone().requires_grad_(True)
    end, last = odeint(Wells(), (start, p), TIMES, method="leapfrog", options={"step_size": STEP})
    (expected,) = torch.autograd.grad(end[1].square().sum() + 3 * last[1].sin().sum(), start)
    assert when.tolist() == [math.inf]
    assert float((x - end[1]).detach().abs().max()) < 1e-14
    assert float((slope - expected).abs().max()) < 1e-12
