"""Lengths and directions whose first and second gradients stay finite at the zero vector.

    length(x) = |x|, with gradient 0 at x = 0            direction(x) = x/|x|, with direction(0) = e₁

Vectors shorter than tiny^(1/4) (3e-10 in float32, 1e-77 in float64) count as zero: below it 1/|x|³, which a
second gradient contains, would overflow.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def squared_length(x: Float[Tensor, "... n"]) -> Float[Tensor, "... 1"]:
    """|x|², last axis kept.

    Example:
        >>> squared_length(torch.tensor([3.0, 4.0]))
        tensor([25.])
    """
    return x.square().sum(-1, keepdim=True)


def is_zero(squared: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """True where a squared length is too small for 1/|x|³ to be a finite number.

    Example:
        >>> is_zero(torch.tensor([0.0, 1e-6]))
        tensor([ True, False])
    """
    threshold: float = torch.finfo(squared.dtype).tiny ** 0.5
    return squared <= threshold


def length(x: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """|x| over the last axis; its gradient at x = 0 is 0.

    Example:
        >>> x = torch.zeros(3, requires_grad=True)
        >>> length(x).backward()
        >>> x.grad
        tensor([0., 0., 0.])
    """
    squared = squared_length(x)[..., 0]
    zero = is_zero(squared)
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def direction(x: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """x/|x|; the first basis vector, with zero gradient, where x = 0.

    Example:
        >>> direction(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
        tensor([[0., 1.],
                [1., 0.]])
    """
    zero = is_zero(squared_length(x))
    first = torch.zeros_like(x)
    first[..., 0] = 1.0
    safe = torch.where(zero, first, x)
    return safe / squared_length(safe).sqrt()
