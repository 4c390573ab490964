"""Which tensors a system's force and velocity depend on: found in the autograd graph, not guessed.

A custom backward pass must name every tensor it returns gradients for; one that is missed would have its gradient
silently dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lie_sim.integrators.surroundings import no_random_numbers
from lie_sim.integrators.vector_field import VectorField


def graph_leaves(dynamics: Any, q: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    """Leaf tensors that ``dynamics.force(q)`` and ``dynamics.velocity(p)`` are differentiable in, q and p apart.

    Raises:
        ValueError: they draw random numbers.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> state, particles = Springs().sample(1, generator=torch.Generator().manual_seed(0))
        >>> _ = particles.masses.requires_grad_(True)
        >>> leaves = graph_leaves(SystemDynamics(Springs(), particles), state.q, state.p)
        >>> len(leaves), leaves[0] is particles.masses
        (1, True)
    """
    with torch.enable_grad():
        probes = [x.detach().requires_grad_(True) for x in (q, p)]
        with no_random_numbers(q.device):
            values = [dynamics.force(probes[0]), dynamics.velocity(probes[1])]
    return known_leaves(dynamics, values, probes)


def known_leaves(dynamics: Any, values: list[Tensor], probes: list[Tensor]) -> tuple[Tensor, ...]:
    """The leaves behind some values, and all parameters of a module, which may act only later in a run."""
    found = {id(leaf): leaf for leaf in leaves_behind(values)}
    system = _system(dynamics)
    if isinstance(system, nn.Module):
        found |= {id(x): x for x in system.parameters() if x.requires_grad}
    for probe in probes:
        found.pop(id(probe), None)
    return tuple(found.values())


def require_known(dynamics: Any, values: list[Tensor], known: tuple[Tensor, ...]) -> None:
    """Refuse values that depend on a leaf which is not among the known ones: its gradient would be dropped.

    The leaves of a module are known from its parameters, so only other objects are looked at.

    Raises:
        RuntimeError: there is one.
    """
    if isinstance(_system(dynamics), nn.Module):
        return
    names = {id(x) for x in known}
    unknown = [x for x in leaves_behind(values) if id(x) not in names]
    if unknown:
        raise RuntimeError(
            f"the force depends on a tensor of shape {tuple(unknown[0].shape)} that it did not depend on at the start "
            "of the run, so its gradient would be lost: make the dynamics a torch.nn.Module with that tensor among its "
            'parameters, or use an explicit method with adjoint="autograd"'
        )


def _system(dynamics: Any) -> Any:
    """What was wrapped for the method's use, if it was."""
    return dynamics.owner if isinstance(dynamics, VectorField) else dynamics


def leaves_behind(tensors: list[Tensor]) -> list[Tensor]:
    """Every leaf of the graph, each once, in the order found; a tensor that is a leaf itself included."""
    found: dict[int, Tensor] = {id(x): x for x in tensors if x.requires_grad and x.grad_fn is None}
    waiting = [x.grad_fn for x in tensors if x.grad_fn is not None]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found.setdefault(id(leaf), leaf)
        waiting.extend(parent for parent, _ in node.next_functions if parent is not None)
    return list(found.values())
