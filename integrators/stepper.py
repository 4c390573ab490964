"""Run a method with a constant step.

    (q, p, memory)_{k+1} = Φ_h^{save_every} (q, p, memory)_k

Shape letters: B batch, T saved times, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.integrators.method import Memory, Method, StepSize
from lie_sim.integrators.registry import get_method


def integrate(
    dynamics: Any,
    q: Float[Tensor, "B ..."],
    p: Float[Tensor, "B ..."],
    *,
    step_size: StepSize,
    num_steps: int,
    method: str | Method = "leapfrog",
    save_every: int = 1,
    create_graph: bool | None = None,
    trajectory: Int[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, "B T ..."], Float[Tensor, "B T ..."]]:
    """Integrate a system with a constant step.

    Args:
        dynamics: a Hamiltonian bound to its particles, or any object with the functions that the method calls;
            ``force(q)`` and ``velocity(p)`` for a splitting method.
        q: initial positions, shape (B, N, d), or what else the method moves, such as poses (B, N, 4, 4).
        p: initial momenta, shape (B, N, d).
        step_size: h in the unit of time, one for all or one per system, shape (B,); negative runs backwards.
        num_steps: number of steps, a multiple of ``save_every``.
        method: name of a method of this package, or the method itself.
        save_every: keep every so many-th state.
        create_graph: whether the result can be differentiated; None follows ``torch.is_grad_enabled()``.
        trajectory: whole numbers that name the systems, int64, shape (B,): the noise of a stochastic method depends
            on them, and not on the place of a system in its batch. None takes 0 … B − 1.

    Returns:
        Positions and momenta at the steps 0, save_every, 2·save_every, …, num_steps, each (B, T, N, d);
        T = num_steps / save_every + 1. In memory, large ones without a graph are in the order (T, B, N, d).

    Raises:
        TypeError: the system lacks what the method needs; the energy is not separable, say.
        ValueError: the method, the step size, the number of steps or ``trajectory`` is impossible; the method is
            adaptive.

    Example:
        >>> from lie_sim.systems import Springs
        >>> from lie_sim.integrators import SystemDynamics
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> dynamics = SystemDynamics(system, particles)
        >>> q, p = integrate(dynamics, state.q, state.p, step_size=0.01, num_steps=100, save_every=10)
        >>> q.shape
        torch.Size([2, 11, 3, 2])
    """
    check_step_counts(num_steps, save_every)
    chosen = get_method(method)
    refuse_adaptive(chosen, "integrate")
    dynamics, memory = chosen.dynamics(dynamics), chosen.named_start(trajectory, q)
    keep = torch.is_grad_enabled() if create_graph is None else create_graph
    with torch.set_grad_enabled(keep):
        saved = _Saved(num_steps // save_every + 1)
        saved.add(q, p)
        for _ in range(num_steps // save_every):
            q, p, memory = chosen.advance(
                dynamics, q, p, step_size=step_size, num_steps=save_every, memory=memory
            )
            saved.add(q, p)
        return saved.stacked()


def advance(
    dynamics: Any,
    q: Float[Tensor, "..."],
    p: Float[Tensor, "..."],
    *,
    step_size: StepSize,
    num_steps: int,
    method: str | Method = "leapfrog",
    memory: Memory | None = None,
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."], Memory]:
    """Do ``num_steps`` steps and return only the last state: the building block of every longer run.

    Args:
        dynamics: as in :func:`integrate`.
        q: positions, any shape that the method takes; (B, …) if the step sizes differ.
        p: momenta.
        step_size: h, one for all or one per system, shape (B,); of an adaptive method the first step, the time that
            each system has reached being ``memory["time"]``.
        num_steps: number of steps, from 0.
        method: name of a method of this package, or the method itself.
        memory: what the previous call returned; None at the start of a run.

    Returns:
        q, p, and what the method carries to the next call, such as the force at q.

    Raises:
        TypeError: the system lacks what the method needs.
        ValueError: the method, the step size or the number of steps is impossible, or the memory holds something
            that the method would ignore.
    """
    chosen = get_method(method)
    check_step_counts(num_steps, 1)
    chosen.check_memory(memory)
    return chosen.advance(
        chosen.dynamics(dynamics), q, p, step_size=step_size, num_steps=num_steps, memory=memory
    )


WRITTEN_AT_ONCE = 2**12
"""Numbers in a state from which on it is faster to write it into place than to keep it and stack all at the end."""


class _Saved:
    """States side by side along the axis of time; large ones without a graph are written into place as they come."""

    def __init__(self, count: int) -> None:
        self._count, self._number = count, 0
        self._places: tuple[Tensor, ...] | None = None
        self._states: list[tuple[Tensor, Tensor]] = []

    def add(self, q: Tensor, p: Tensor) -> None:
        """The next state."""
        if torch.is_grad_enabled() or self._number == 0 or q.numel() < WRITTEN_AT_ONCE:
            self._states.append(
                (q, p)
            )  # the dtype of the first may be that of the user, not that of the steps
        else:
            self._places = self._places or tuple(x.new_empty(self._count, *x.shape) for x in (q, p))
            for place, x in zip(self._places, (q, p), strict=True):
                place[self._number].copy_(x)
        self._number += 1

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Positions and momenta of all states, each (B, T, …)."""
        if self._places is None:
            q, p = (torch.stack(part, dim=1) for part in zip(*self._states, strict=True))
            return q, p
        for place, x in zip(self._places, self._states[0], strict=True):
            place[0].copy_(x)
        return self._places[0].transpose(0, 1), self._places[1].transpose(0, 1)


def refuse_adaptive(method: Method, name: str) -> None:
    """Refuse a method whose steps end at times of their own, where states at equal distances in time are meant."""
    if method.adaptive:
        raise ValueError(
            f"{name} gives states at multiples of step_size, but steps of {method.name} end at times of their own, "
            "other ones for each system: ask odeint for states at given times, or advance, whose "
            'memory["time"] says when'
        )


def check_step_counts(
    num_steps: int, save_every: int, *, names: tuple[str, str] = ("num_steps", "save_every")
) -> None:
    """Refuse step counts that would leave the last state unsaved; ``names`` are what the caller calls them."""
    steps, every = names
    if num_steps < 0 or save_every < 1:
        raise ValueError(f"{steps} must be >= 0 and {every} >= 1, got {num_steps} and {save_every}")
    if num_steps % save_every:
        raise ValueError(
            f"{steps} must be a multiple of {every}, so that the last state is saved; got "
            f"{num_steps} and {save_every}: use {steps}={num_steps - num_steps % save_every + save_every}"
        )
