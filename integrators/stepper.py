"""Run a method with a constant step.

    (q, p, memory)_{k+1} = Φ_h^{save_every} (q, p, memory)_k

Shape letters: B batch, T saved times, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
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

    Returns:
        Positions and momenta at the steps 0, save_every, 2·save_every, …, num_steps, each (B, T, N, d);
        T = num_steps / save_every + 1.

    Raises:
        TypeError: the system lacks what the method needs; the energy is not separable, say.
        ValueError: the method, the step size or the number of steps is impossible; the method is adaptive.

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
    dynamics, memory = chosen.dynamics(dynamics), None
    keep = torch.is_grad_enabled() if create_graph is None else create_graph
    with torch.set_grad_enabled(keep):
        saved = [(q, p)]
        for _ in range(num_steps // save_every):
            q, p, memory = chosen.advance(
                dynamics, q, p, step_size=step_size, num_steps=save_every, memory=memory
            )
            saved.append((q, p))
        return torch.stack([q for q, _ in saved], dim=1), torch.stack([p for _, p in saved], dim=1)


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
        num_steps: number of steps.
        method: name of a method of this package, or the method itself.
        memory: what the previous call returned; None at the start of a run.

    Returns:
        q, p, and what the method carries to the next call, such as the force at q.
    """
    chosen = get_method(method)
    return chosen.advance(
        chosen.dynamics(dynamics), q, p, step_size=step_size, num_steps=num_steps, memory=memory
    )


def refuse_adaptive(method: Method, name: str) -> None:
    """Refuse a method whose steps end at times of their own, where states at equal distances in time are meant."""
    if method.adaptive:
        raise ValueError(
            f"{name} gives states at multiples of step_size, but steps of {method.name} end at times of their own, "
            "other ones for each system: ask odeint for states at given times, or advance, whose "
            'memory["time"] says when'
        )


def check_step_counts(num_steps: int, save_every: int) -> None:
    """Refuse step counts that would leave the last state unsaved."""
    if num_steps < 0 or save_every < 1:
        raise ValueError(f"num_steps must be >= 0 and save_every >= 1, got {num_steps} and {save_every}")
    if num_steps % save_every:
        raise ValueError(
            "num_steps must be a multiple of save_every, so that the last state is saved; got "
            f"{num_steps} and {save_every}: use num_steps={num_steps - num_steps % save_every + save_every}"
        )
