"""The k highest scores of each set, the same ones whatever the order of the particles.

    kept_i = [z_i ≥ z_(k)]      z_(k): the k-th largest

Particles that a symmetry maps onto each other have the same score. A sort keeps those of them that come first, which
depends on the numbering; here all that share the k-th place are kept, so a set may keep more than k. Scores
that differ by rounding count as equal.

Shape letters: B batch, N scores.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROUNDING = 64
"""Units of the last place of the largest score within which scores are equal: sums in another order differ so."""


def check_ratio(ratio: float) -> None:
    """Refuse a share that is not above 0 and at most 1.

    Raises:
        ValueError: it says which share.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")


def kept_count(ratio: float, sizes: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """⌈ratio · N⌉ of every set.

    Example:
        >>> kept_count(0.5, torch.tensor([1, 4, 5]))
        tensor([1, 2, 3])
    """
    check_ratio(ratio)
    return torch.ceil(ratio * sizes.double() - 1e-9).long()


def hard_top_k(
    scores: Float[Tensor, "B N"], k: int | Int[Tensor, " B"], *, mask: Bool[Tensor, "B N"] | None = None
) -> Bool[Tensor, "B N"]:
    """True for the k highest scores of each row, and for those that equal the k-th.

    Args:
        scores: shape (B, N).
        k: how many, one number or one of each row, shape (B,); a row with no more than k scores keeps all.
        mask: which scores exist, shape (B, N); None means all of them.

    Raises:
        ValueError: a k is not positive.

    Example:
        >>> hard_top_k(torch.tensor([[3.0, 1.0, 2.0, 2.0]]), 2)
        tensor([[ True, False,  True,  True]])
    """
    exists = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    count = exists.sum(1)
    wanted = torch.as_tensor(k, device=scores.device).expand(count.shape)
    if bool(((wanted < 1) & (count > 0)).any()):
        raise ValueError(f"k must be at least 1, got {k}")
    if not scores.shape[1]:
        return exists
    scores = scores.detach()
    place = torch.minimum(wanted, count).clamp(min=1)[:, None] - 1
    ordered = scores.masked_fill(~exists, -math.inf).sort(dim=1, descending=True).values
    largest = torch.where(exists & scores.isfinite(), scores, 0.0).abs().amax(1, keepdim=True)
    threshold = ordered.gather(1, place) - _ROUNDING * torch.finfo(scores.dtype).eps * largest
    # Not "≥": NaN, which would be hidden, is kept, and so is all beside it.
    return exists & ~(scores < threshold)
