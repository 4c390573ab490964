"""Events: stop each system where a function of its state changes sign.

    g(t_b + τ, Φ_τ(z_b)) = 0,      0 < τ ≤ h,      z_b the last state before the change of sign

The sign is watched at every step; a system whose event has come waits with steps of length 0 while the others go on.
Then all events are located together, on the discrete map itself: Φ_τ is one step of length τ, halved and
narrowed until τ is exact to rounding. The time carries a first derivative by the implicit function theorem,

    dτ = − dg|_τ / ġ,      ġ = d g(t_b + τ, Φ_τ(z_b)) / dτ

Shape letters: B batch, N particles, d space dimension.
Reference: Chen, Amos, Nickel, "Learning neural event functions for ordinary differential equations", ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lie_sim.integrators.method import Memory, Method

MOST_STEPS = 1_000_000
_HALVINGS = 60
"""A double has 53 bits: after so many halvings the bracket is as narrow as it can be."""

EventFunction = Callable[[Tensor, tuple[Tensor, Tensor]], Tensor]
_Layout = tuple[tuple[str, torch.Size], ...]


@dataclass
class _Watch:
    """State and time of each system, and those before the step in which its event came.

    A memory gains names and length in the first steps: ``remembered`` keeps each layout apart, with its systems.
    """

    q: Tensor
    p: Tensor
    t: Tensor
    value: Tensor
    memory: Memory
    running: Tensor
    found: Tensor
    before: tuple[Tensor, Tensor, Tensor, Tensor]
    remembered: dict[_Layout, tuple[Tensor, Memory]]


def find_events(
    method: Method,
    dynamics: Any,
    y0: tuple[Tensor, Tensor],
    t: Tensor,
    event_fn: EventFunction,
    *,
    step_size: float | Tensor | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Integrate every system to its event, or to the last time.

    Args:
        method: a method of this package.
        dynamics: what ``method.dynamics`` returned.
        y0: q and p at the start, each (B, N, d).
        t: start and latest end, shape (2,) or (2, B).
        event_fn: ``(t, (q, p)) -> (B,)``, with t of shape (B,); its first change of sign is the event.
        step_size: h > 0, one for all or one per system, the longest step: the time to the latest end is cut into the
            smallest whole number of equal steps that are no longer. An event function that changes its sign
            twice within one step is not seen.

    Returns:
        Event times, shape (B,), inf where there was none; and q and p at the start and at the end, (2, B, N, d).

    Raises:
        ValueError: no step size, not two times, or event values of another shape than (B,).
    """
    start, end, h = _checked(t, y0[0], step_size)
    if method.adaptive:
        raise ValueError(
            f"{method.name} has no events: its steps end at times of their own; use leapfrog, or another method "
            "with equal steps"
        )
    if method.stochastic:
        raise ValueError(
            f"{method.name} has no events: a shorter last step would be another path of its noise"
        )
    watch = _watched(method, dynamics, y0, start, end, h, event_fn)
    tau, (q, p) = _located(method, dynamics, watch, event_fn)
    event_t = torch.where(watch.found, watch.before[2] + tau, math.inf)
    q, p = _choose(watch.found, q, watch.q), _choose(watch.found, p, watch.p)
    return event_t, (torch.stack([y0[0], q]), torch.stack([y0[1], p]))


def _checked(t: Tensor, q: Tensor, step_size: float | Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if step_size is None:
        raise ValueError('events are looked for at every step: give options={"step_size": h}')
    if t.ndim not in (1, 2) or len(t) != 2:
        raise ValueError(
            f"with event_fn, t is the start and the latest end, shape (2,) or (2, B); got {tuple(t.shape)}"
        )
    times = t.to(torch.float64).reshape(2, -1).expand(2, q.shape[0])
    length = times[1] - times[0]
    h = torch.as_tensor(step_size, dtype=torch.float64, device=q.device).expand(q.shape[0])
    if not bool((h > 0).all()) or bool((length == 0).any()) or not bool(times.isfinite().all()):
        raise ValueError(
            "step_size must be positive, the times finite, and the latest end must differ from the start"
        )
    count = (length.detach().abs() / h * (1 - 1e-12)).ceil().clamp(min=1)  # an end on the grid stays on it
    if count.numel() and float(count.max()) > MOST_STEPS:
        raise ValueError(
            f"{float(count.max()):.6g} steps to the latest end are more than {MOST_STEPS:,}: bring it nearer"
        )
    return times[0], times[1], length / count


def _watched(
    method: Method,
    dynamics: Any,
    y0: tuple[Tensor, Tensor],
    start: Tensor,
    end: Tensor,
    h: Tensor,
    event_fn: EventFunction,
) -> _Watch:
    q, p = y0
    value = _values(event_fn, start, q, p).detach()
    none = torch.zeros_like(value, dtype=torch.bool)
    q, p, memory = method.advance(dynamics, q, p, step_size=h, num_steps=0)
    watch = _Watch(q, p, start, value, memory, ~none, none, (q, p, start, h), {})
    counts = ((end - start) / h).detach().round()
    for number in range(1, int(counts.max()) + 1 if counts.numel() else 1):
        step = torch.where(watch.running, h, 0.0)
        q, p, memory = method.advance(
            dynamics, watch.q, watch.p, step_size=step, num_steps=1, memory=watch.memory or None
        )
        last = number >= counts
        t = torch.where(watch.running, torch.where(last, end, start + number * h), watch.t)
        _observe(watch, (q, p, memory), t, step, last, event_fn)
        if not bool(watch.running.any()):
            break
    return watch


def _observe(
    watch: _Watch,
    state: tuple[Tensor, Tensor, Memory],
    t: Tensor,
    step: Tensor,
    last: Tensor,
    event_fn: EventFunction,
) -> None:
    q, p, memory = state
    value = _values(event_fn, t, q, p).detach()
    old = watch.value
    crossed = watch.running & torch.where(old > 0, value <= 0, (old < 0) & (value >= 0))  # products underflow
    before = (watch.q, watch.p, watch.t, step)
    q0, p0, t0, h = (_choose(crossed, new, kept) for new, kept in zip(before, watch.before, strict=True))
    watch.before = (q0, p0, t0, h)
    if bool(crossed.any()):
        _remember(watch, crossed)
    watch.found = watch.found | crossed
    watch.running = watch.running & ~crossed & ~last
    watch.q, watch.p, watch.t, watch.value, watch.memory = q, p, t, value, memory


def _remember(watch: _Watch, crossed: Tensor) -> None:
    """Keep what these systems remembered before the step in which they crossed."""
    layout = tuple((name, value.shape) for name, value in sorted(watch.memory.items()))
    which, kept = watch.remembered.get(layout, (crossed, watch.memory))
    chosen = {name: _choose(crossed, value, kept[name]) for name, value in watch.memory.items()}
    watch.remembered[layout] = (which | crossed, chosen)


def _located(
    method: Method, dynamics: Any, watch: _Watch, event_fn: EventFunction
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The times after the bracket's start, and the states there; both with their gradients."""
    q, p, t, h = watch.before
    with torch.no_grad():
        first = _values(event_fn, t, q, p)
        low, high = torch.zeros_like(h), h.clone()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            x, y = _step(method, dynamics, watch, middle)
            value = _values(event_fn, t + middle, x, y)
            same = torch.where(first > 0, value > 0, value < 0)
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    tau = high.detach()
    if torch.is_grad_enabled():
        tau = _with_gradient(method, dynamics, watch, tau, event_fn)
    return tau, _step(method, dynamics, watch, tau)


def _step(method: Method, dynamics: Any, watch: _Watch, tau: Tensor) -> tuple[Tensor, Tensor]:
    """One step of each system that has an event, from before it and with what it remembered there."""
    q, p = x, y = watch.before[:2]
    for which, memory in watch.remembered.values():
        step = torch.where(which, tau, 0.0)
        moved = method.advance(dynamics, q, p, step_size=step, num_steps=1, memory=dict(memory))
        x, y = _choose(which, moved[0], x), _choose(which, moved[1], y)
    return x, y


def _with_gradient(
    method: Method, dynamics: Any, watch: _Watch, tau: Tensor, event_fn: EventFunction
) -> Tensor:
    t = watch.before[2]
    free = tau.clone().requires_grad_(True)
    x, y = _step(method, dynamics, watch, free)
    value = _values(event_fn, t + free, x, y)
    if not value.requires_grad:
        return tau
    # without any event the state does not depend on tau
    (rate,) = torch.autograd.grad(value.sum(), free, retain_graph=True, materialize_grads=True)
    x, y = _step(method, dynamics, watch, tau)
    value = _values(event_fn, t + tau, x, y)
    usable = watch.found & (rate != 0)
    shift = torch.where(usable, (value - value.detach()) / torch.where(usable, rate, 1.0), 0.0)
    first_order: Tensor = _FirstOrder.apply(tau - shift)
    return first_order


class _FirstOrder(torch.autograd.Function):
    """Identity; a second derivative, which the linearised time would get wrong, raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope


def _values(event_fn: EventFunction, t: Tensor, q: Tensor, p: Tensor) -> Tensor:
    values = event_fn(t, (q, p))
    if values.shape != q.shape[:1]:
        raise ValueError(
            f"event_fn must return one number per system, shape ({q.shape[0]},); got {tuple(values.shape)}"
        )
    return values.to(torch.float64)


def _choose(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(which.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
