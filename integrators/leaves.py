"""Which tensors a system's force and velocity depend on: found in the autograd graph, not guessed.

A custom backward pass must name every tensor it returns gradients for; one that is missed would have its gradient
silently dropped. The graph of the first step shows most of them. What acts only later (a wall that is reached on the
way) is known beforehand if it is a parameter or buffer of a module, or a tensor of the particles or neighbours that
the system is bound to, or lies behind one of these; anything else is refused when it appears.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lie_sim.integrators.clock import Clocked
from lie_sim.integrators.surroundings import no_random_numbers
from lie_sim.integrators.vector_field import VectorField

_BOUND = ("particles", "_particles", "_neighbours")
"""Where a system keeps the particles and neighbours that it is bound to."""


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
    """The leaves behind some values, and behind all that a system holds, which may act only later in a run."""
    found = {id(leaf): leaf for leaf in leaves_behind([*values, *held_tensors(dynamics)])}
    for probe in probes:
        found.pop(id(probe), None)
    return tuple(found.values())


def require_known(dynamics: Any, values: list[Tensor], known: tuple[Tensor, ...]) -> None:
    """Refuse values that depend on a leaf which is not among the known ones: its gradient would be dropped.

    Raises:
        RuntimeError: there is one.
    """
    names = {id(x) for x in known}
    unknown = [x for x in leaves_behind(values) if id(x) not in names]
    if unknown:
        raise RuntimeError(
            f"the force of {type(_system(dynamics)).__name__} depends on a tensor of shape {tuple(unknown[0].shape)} "
            "that it did not depend on at the start of the run, so its gradient would be lost: make the dynamics a "
            "torch.nn.Module with that tensor among its parameters or buffers, bind it as one of the particles' "
            'tensors, or use an explicit method with adjoint="autograd"'
        )


def held_tensors(dynamics: Any) -> list[Tensor]:
    """Parameters and buffers of a system and tensors of what it is bound to, as far as they have gradients.

    Example:
        >>> from lie_sim import GeneralHamiltonian, Particles
        >>> H = GeneralHamiltonian(lambda q, p, particles: (q * p).sum((1, 2)))
        >>> H = H.bind(Particles(masses=torch.ones(1, 1), attributes=torch.ones(1, 1, 3, requires_grad=True)))
        >>> [tuple(x.shape) for x in held_tensors(H)]
        [(1, 1, 3)]
    """
    system = _system(dynamics)
    parts: list[Any] = [system]
    found: list[Any] = []
    if isinstance(system, nn.Module):
        parts = list(system.modules())
        found += [*system.parameters(), *system.buffers()]
    bound = [vars(part).get(name) for part in parts if hasattr(part, "__dict__") for name in _BOUND]
    found += [x for container in bound if container is not None for x in vars(container).values()]
    return [x for x in found if isinstance(x, Tensor) and x.requires_grad]


def _system(dynamics: Any) -> Any:
    """What was wrapped for the method's use, if it was."""
    owner = dynamics.owner if isinstance(dynamics, VectorField) else dynamics
    return owner.system if isinstance(owner, Clocked) else owner


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
