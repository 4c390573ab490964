"""What a traced block of steps takes for granted about its dynamics: once that is another, the block is stale.

A block holds the tensors it was traced with, so it sees their numbers change in place; it does not see that another
tensor stands in their place, and it goes the way through the Python code that was taken then. Compared are, by
identity, what the dynamics is bound to, its submodules, parameters and buffers, and by value the modes of training
and evaluation, the times masses were changed in place, and the settings of autocast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lie_sim.integrators.surroundings import Autocast

_PHYSICS = ("particles", "_particles", "_neighbours", "potential", "system")
"""What a dynamics may be given anew."""


def taken_for_granted(dynamics: Any, device: torch.device) -> tuple[tuple[Any, ...], list[Any]]:
    """A key that changes with all of it, and what must be kept alive so that no identity in the key is used again.

    The dynamics itself is in neither: a table of blocks is expected to hold it weakly.

    Args:
        dynamics: what a block was traced from, or is to be.
        device: where it runs; autocast has settings of its own there.

    Example:
        >>> model = torch.nn.Linear(1, 1)
        >>> key, _ = taken_for_granted(model, torch.device("cpu"))
        >>> key == taken_for_granted(model.eval(), torch.device("cpu"))[0]
        False
    """
    physics = [getattr(dynamics, name, None) for name in _PHYSICS]
    attributes = getattr(dynamics, "__dict__", {}).values()
    kept: list[Any] = [*physics, *(x for x in attributes if isinstance(x, nn.Module | Tensor))]
    training = []
    for module in _modules([dynamics, *kept]):
        training.append(module.training)
        for table in (module._modules, module._parameters, module._buffers):
            kept += table.values()
    masses = map(_mass_version, physics)
    return (*map(id, kept), *training, *masses, *Autocast(device).settings), kept


def _modules(roots: list[Any]) -> Iterator[nn.Module]:
    """The modules among some objects and all below them, each once."""
    waiting = [x for x in roots if isinstance(x, nn.Module)]
    seen = set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            yield module
            waiting += [x for x in module._modules.values() if x is not None]


def _mass_version(physics: Any) -> int:
    """How often masses were changed in place: their inverse is part of a block."""
    masses = getattr(physics, "masses", None)
    return masses._version if isinstance(masses, Tensor) and not masses.is_inference() else 0
