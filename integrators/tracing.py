"""A function of tensors as the flat list of operations that it executes, those of autograd included.

Reference: the tracer is torch's own, ``torch.fx.experimental.proxy_tensor.make_fx``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def trace(function: Callable[..., Any], example: tuple[Tensor, ...]) -> GraphModule:
    """Record what a function does with arguments of these shapes.

    Args:
        function: of tensors.
        example: arguments; their numbers are of no consequence.

    Raises:
        ValueError: the function decides by numbers what it computes, as a force does that searches neighbours.

    Example:
        >>> import torch
        >>> trace(lambda x: (x + 1).sum(), (torch.zeros(3),))(torch.ones(3))
        tensor(6.)
    """
    try:
        traced = make_fx(function)(*(x.detach().clone() for x in example))
    except RuntimeError as error:
        if "tracing tensor" not in str(error):
            raise
        raise ValueError(
            "a compiled block does the same operations whatever the numbers are, and this force looks at numbers to "
            "decide what to do: it searches neighbours at every call, or iterates until something is small. If the "
            "neighbours stay the same during the run, give them, "
            "hamiltonian.bind(particles, neighbours=neighbour_matrix(q, particles, cutoff=…)); else leave compile out"
        ) from error
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced
