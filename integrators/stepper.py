"""Run a splitting method.

    (q, p) ← Π_i  exp(a_i h {·, T}) exp(b_i h {·, V})  (q, p)

The force is evaluated only after q has changed and neighbouring flows of the same kind are joined across step
borders, so leapfrog costs one force per step, and one more per run. Everything is done by differentiable
operations: with gradients enabled, autograd gives the exact derivative of the discrete map, with respect to
the initial state, the step size and every parameter behind the force.

Shape letters: B batch, T saved times, N particles, d space dimension.
Reference: Hairer, Lubich, Wanner, "Geometric Numerical Integration", Springer 2006, section II.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics, separable_dynamics
from lie_sim.integrators.methods import SplittingMethod, Stage, get_method

StepSize = float | Float[Tensor, ""] | Float[Tensor, " B"]


def integrate(
    dynamics: SeparableDynamics,
    q: Float[Tensor, "B N d"],
    p: Float[Tensor, "B N d"],
    *,
    step_size: StepSize,
    num_steps: int,
    method: str | SplittingMethod = "leapfrog",
    save_every: int = 1,
    create_graph: bool | None = None,
) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
    """Integrate a separable Hamiltonian system with a constant step.

    Args:
        dynamics: a Hamiltonian bound to its particles, or any object with ``force(q)`` and ``velocity(p)``.
        q: initial positions, shape (B, N, d).
        p: initial momenta, shape (B, N, d).
        step_size: h in the unit of time, one for all or one per system, shape (B,); negative runs backwards.
        num_steps: number of steps, a multiple of ``save_every``.
        method: name of a splitting method, or the method itself.
        save_every: keep every so many-th state.
        create_graph: whether the result can be differentiated; None follows ``torch.is_grad_enabled()``.

    Returns:
        Positions and momenta at the steps 0, save_every, 2·save_every, …, num_steps, each (B, T, N, d);
        T = num_steps / save_every + 1.

    Raises:
        TypeError: the energy is not separable.
        ValueError: the method, the step size or the number of steps is impossible.

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
    chosen, force = get_method(method), None
    keep = torch.is_grad_enabled() if create_graph is None else create_graph
    with torch.set_grad_enabled(keep):
        saved = [(q, p)]
        for _ in range(num_steps // save_every):
            q, p, force = advance(
                dynamics, q, p, step_size=step_size, num_steps=save_every, method=chosen, force=force
            )
            saved.append((q, p))
        return torch.stack([q for q, _ in saved], dim=1), torch.stack([p for _, p in saved], dim=1)


def advance(
    dynamics: SeparableDynamics,
    q: Float[Tensor, "..."],
    p: Float[Tensor, "..."],
    *,
    step_size: StepSize,
    num_steps: int,
    method: str | SplittingMethod = "leapfrog",
    force: Float[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."], Float[Tensor, "..."] | None]:
    """Do ``num_steps`` steps and return only the last state: the building block of every longer run.

    Args:
        dynamics: as in :func:`integrate`.
        q: positions, any shape; (B, …) if the step sizes differ.
        p: momenta, shape of q.
        step_size: h, one for all or one per system, shape (B,).
        num_steps: number of steps.
        method: name of a splitting method, or the method itself.
        force: the force at q if it is known already, as returned by the previous call.

    Returns:
        q, p, and the force at q where the method has it, else None.
    """
    dynamics = separable_dynamics(dynamics)
    h = _broadcastable_step(step_size, q)
    for stage in _joined_stages(get_method(method), num_steps):
        if stage.is_kick:
            if force is None:
                force = dynamics.force(q)
            p = _add(p, force, stage.coefficient * h)
        else:
            q, force = _add(q, dynamics.velocity(p), stage.coefficient * h), None
    return q, p, force


def check_step_counts(num_steps: int, save_every: int) -> None:
    """Refuse step counts that would leave the last state unsaved."""
    if num_steps < 0 or save_every < 1:
        raise ValueError(f"num_steps must be >= 0 and save_every >= 1, got {num_steps} and {save_every}")
    if num_steps % save_every:
        raise ValueError(
            "num_steps must be a multiple of save_every, so that the last state is saved; got "
            f"{num_steps} and {save_every}: use num_steps={num_steps - num_steps % save_every + save_every}"
        )


def _joined_stages(method: SplittingMethod, num_steps: int) -> Iterator[Stage]:
    """The flows of several steps; where a step ends with the kind the next begins with, the two are one."""
    first, *inner, last = method.stages
    if num_steps < 1:
        return
    if first.is_kick != last.is_kick:
        for _ in range(num_steps):
            yield from method.stages
        return
    joint = Stage(is_kick=first.is_kick, coefficient=last.coefficient + first.coefficient)
    yield first
    for _ in range(num_steps - 1):
        yield from inner
        yield joint
    yield from inner
    yield last


def _broadcastable_step(step_size: StepSize, q: Tensor) -> float | Tensor:
    if not isinstance(step_size, Tensor):
        if not math.isfinite(step_size):
            raise ValueError(f"step_size must be finite, got {step_size}")
        return float(step_size)
    if step_size.ndim > 0 and step_size.shape != q.shape[:1]:
        raise ValueError(
            f"step_size must be one number or one per system, shape ({q.shape[0]},); "
            f"got {tuple(step_size.shape)}"
        )
    if not bool(step_size.isfinite().all()):
        raise ValueError(f"every step_size must be finite, got {step_size.tolist()}")
    return step_size.to(q).reshape(-1, *(1,) * (q.ndim - 1)) if step_size.ndim else step_size.to(q)


def _add(x: Tensor, rate: Tensor, duration: float | Tensor) -> Tensor:
    """Return x + duration · rate by one operation."""
    if isinstance(duration, Tensor):
        return torch.addcmul(x, rate, duration)
    return torch.add(x, rate, alpha=duration)
