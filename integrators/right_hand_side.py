"""Is what the user gave the same equation as the parts of it that a method calls?

    f(t, (q, p)) = (v(p), F(q))      at q, at momenta and a time away from the start

A splitting calls force and velocity only. A function that adds something to them (damping, a drive) would be
integrated without it; so its value is compared once, where damping shows even if the system begins at rest.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.integrators.dynamics import SeparableDynamics, SystemDynamics
from lie_sim.integrators.vector_field import VectorField

_LATER = 0.618
"""Part of the time span at which the function is asked."""


def check_function(
    func: Any, dynamics: Any, t: Tensor, q: Tensor, p: Tensor, *, must_be_one: bool = False
) -> None:
    """Refuse a function that is more than what the method takes for the right-hand side.

    Args:
        func: what the user gave; called as ``func(t, (q, p))``, unless it is a class of ours.
        dynamics: what the method made of it.
        t: the times of the run, shape (T,) or (T, B).
        q: positions at the start.
        p: momenta at the start.
        must_be_one: whether func has to be a function of (t, (q, p)); else one that is called otherwise, such as a
            potential with a force and a velocity, is let pass.

    Raises:
        TypeError: they differ by more than the root of the machine precision.
    """
    if not _computes_something_itself(func) or not q.numel():
        return
    with torch.no_grad():
        p = _away_from(p)
        later = (t[0] + _LATER * (t[-1] - t[0])).reshape(-1)[0]
        if isinstance(dynamics, VectorField):
            ours = dynamics(q, p)
        elif isinstance(dynamics, SeparableDynamics):
            ours = (dynamics.velocity(p), dynamics.force(q))
        else:
            return
        theirs = func(later, (q, p)) if must_be_one else _value(func, later, q, p)
    if theirs is not None:
        _compare(type(func).__name__, ours, theirs)


def _away_from(p: Tensor) -> Tensor:
    """Other momenta of the same size, none of them 0."""
    size = p.abs().nan_to_num(0.0).max().clamp(min=1.0)
    pattern = 0.5 + 0.25 * torch.cos(torch.arange(p.numel(), dtype=p.dtype, device=p.device))
    return p + size * pattern.reshape(p.shape)


def _value(func: Any, t: Tensor, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor] | None:
    """f(t, (q, p)); None if func is no function of that kind."""
    try:
        inspect.signature(func.forward if isinstance(func, nn.Module) else func).bind(t, (q, p))
        found = func(t, (q, p))
    except Exception:  # whatever a function says to arguments that are not its own
        return None
    if (
        not isinstance(found, tuple | list)
        or len(found) != 2
        or not all(isinstance(x, Tensor) for x in found)
    ):
        return None
    return found[0], found[1]


def _compare(name: str, ours: tuple[Tensor, Tensor], theirs: Any) -> None:
    for part, mine, other in zip(("velocity(p)", "force(q)"), ours, theirs, strict=True):
        size = mine.abs().nan_to_num(0.0).max()
        if mine.shape != other.shape or bool(
            ((mine - other).abs() > torch.finfo(mine.dtype).eps ** 0.5 * size).any()
        ):
            raise TypeError(
                f"{name}, called as f(t, (q, p)), does not return (velocity(p), force(q)): its part {part} differs, so "
                "the method would integrate another equation (without damping or a drive, say); put everything into "
                "force and velocity, or use one of torchdiffeq's methods"
            )


def _computes_something_itself(func: Any) -> bool:
    """Whether calling it is not, by our own definition, the same as its force and velocity."""
    owner = getattr(func, "__self__", func)
    for ours in (Hamiltonian, GeneralHamiltonian, SystemDynamics):
        if isinstance(owner, ours):
            names = [name for name in ("__call__", "forward", "vector_field") if hasattr(ours, name)]
            return any(getattr(type(owner), name) is not getattr(ours, name) for name in names)
    if isinstance(owner, nn.Module) and type(owner).forward is nn.Module.forward:
        return False
    return callable(func)
