"""A function of tensors whose partial derivatives are partial, whatever the tensors were computed from.

    y = f(x_1, …, x_n; θ),      x̄_i = (∂f/∂x_i)ᵀ ȳ,      θ̄ = (∂f/∂θ)ᵀ ȳ

Asked for the gradient of f with respect to a leaf θ, autograd also follows the paths through an x_i that was computed
from θ. Where the x_i are to be held fixed, those paths would be counted once here and once more by whoever receives
x̄_i. Here f sees copies of the x_i without a past; the graph outside joins the parts. The derivative is made in the
same way, so it can be differentiated again, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]


def isolated(function: Function, tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The values of a function, differentiable in the tensors and leaves, each with the others held fixed.

    Args:
        function: tensors → tuple of tensors, differentiable where gradients are recorded.
        tensors: its arguments.
        leaves: further tensors that it depends on and reaches by itself, such as weights.

    Example:
        >>> w = torch.tensor(3.0, requires_grad=True)
        >>> x = 2 * w
        >>> (y,) = isolated(lambda x: (w * x,), (x,), (w,))
        >>> [slope.item() for slope in torch.autograd.grad(y, (x, w))]  # w through x, and directly: 3 · 2 + 6
        [3.0, 12.0]
    """
    values: tuple[Tensor, ...] = _Isolated.apply(function, len(tensors), *tensors, *leaves)
    return values


def independent(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The same tensors as new variables, so that a derivative by one does not pass through another.

    They remain differentiable where gradients are recorded.
    """
    if torch.is_grad_enabled():
        return tuple(x.view_as(x) if x.requires_grad else x.detach().requires_grad_(True) for x in tensors)
    return tuple(x.detach().requires_grad_(True) for x in tensors)


def pulled_back(
    values: Sequence[Tensor], variables: Sequence[Tensor], slopes: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """(∂values/∂variables)ᵀ slopes; zeros where nothing depends on a variable."""
    pairs = [(x, slope) for x, slope in zip(values, slopes, strict=True) if x.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(x) for x in variables)
    values, slopes = zip(*pairs, strict=True)
    return torch.autograd.grad(
        values,
        tuple(variables),
        slopes,
        retain_graph=True,
        create_graph=torch.is_grad_enabled(),
        materialize_grads=True,
    )


class _Isolated(torch.autograd.Function):
    """One node of the graph outside."""

    @staticmethod
    def forward(ctx: Any, function: Function, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.count = function, count
        ctx.save_for_backward(*tensors)
        return tuple(x.detach() for x in function(*(x.detach() for x in tensors[:count])))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        arguments, leaves = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        function: Function = ctx.function

        def derivative(*given: Tensor) -> tuple[Tensor, ...]:
            free = independent(given[len(slopes) :])
            with torch.enable_grad():
                values = function(*free)
            return pulled_back(values, (*free, *leaves), given[: len(slopes)])

        return None, None, *isolated(derivative, (*slopes, *arguments), leaves)
