"""Constants that stay in float64 when their module is converted."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Exact(nn.Module):
    """A constant that stays in float64 when its module is converted, for √2 rounded to float32 breaks a symmetry.

    Args:
        value: the constant.

    Example:
        >>> import torch
        >>> root = Exact(torch.tensor(2.0, dtype=torch.float64).sqrt()).float()
        >>> float(root(torch.zeros(1, dtype=torch.float64))) == 2**0.5
        True
    """

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value.double(), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Exact:
        value = self.value
        super()._apply(fn, recurse)
        self.value = value.to(self.value.device)
        return self

    def forward(self, like: Tensor) -> Tensor:
        """The constant in the dtype of another tensor."""
        return self.value.to(like.dtype)
