r"""A smooth choice of k among N: every score gets a weight between 0 and 1, and the weights sum to k.

    g_i = σ((z_i − θ)/τ),      θ(z):  Σ_i a_i g_i = k

    s_i = g_i (1 − g_i),    ∂θ/∂z_i = a_i s_i / S,    ∂θ/∂a_i = τ g_i / S,    ∂θ/∂k = −τ / S,    S = Σ_j a_j s_j

As τ → 0 it becomes the choice of the k largest. θ is found by a Newton iteration kept within a bracket, and its
derivative is that of the implicit function, exact to any order. Since θ hangs on all scores, so do all weights: a sum
Σ g_i ε_i is smooth, but the sum of two systems far apart is not that of each. For energies there is
:func:`local_gate`, whose θ is a constant.

Shape letters: B batch, N scores.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd import Function

_MAX_ITERATIONS = 100


def soft_top_k(
    scores: Float[Tensor, "B N"],
    k: float | Float[Tensor, " B"] | Int[Tensor, " B"],
    *,
    temperature: float,
    mask: Bool[Tensor, "B N"] | None = None,
    amounts: Float[Tensor, "B N"] | None = None,
) -> Float[Tensor, "B N"]:
    """Weights in [0, 1] that sum to k in every row and grow with the score, differentiable to any order.

    Args:
        scores: z, shape (B, N).
        k: sum of the weights, one number or one of each row, shape (B,); a row that holds no more keeps all.
        temperature: τ, in the unit of the scores.
        mask: which scores exist, shape (B, N); None means all of them. The others get 0.
        amounts: a ≥ 0, how much of each there is, shape (B, N): then Σ a g = k. None means 1.

    Raises:
        ValueError: the temperature or a k is not positive.

    Example:
        >>> weights = soft_top_k(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 2, temperature=0.1)
        >>> [round(weight, 3) for weight in weights[0].tolist()]
        [0.0, 0.007, 0.993, 1.0]
    """
    check_temperature(temperature)
    z = scores.double()
    a = torch.ones_like(z) if amounts is None else amounts.double()
    a = a if mask is None else torch.where(mask, a, 0.0)
    total = a.sum(1)
    wanted = torch.as_tensor(k, dtype=z.dtype, device=z.device).expand(total.shape)
    if bool((~(wanted > 0) & (total > 0)).any()):
        raise ValueError(f"k must be positive, got {k}")
    complete = wanted >= total
    found: Tensor = _Threshold.apply(z, a, torch.where(complete, total / 2, wanted), temperature)
    weights = torch.where(complete[:, None], 1.0, torch.sigmoid((z - found[:, None]) / temperature))
    return (weights if mask is None else torch.where(mask, weights, 0.0)).to(scores.dtype)


def local_gate(
    scores: Float[Tensor, "*shape"], *, temperature: float, threshold: float | Tensor = 0.0
) -> Float[Tensor, "*shape"]:
    """σ((z − θ)/τ) with a given θ: each weight hangs on its own score alone.

    Raises:
        ValueError: the temperature is not positive.

    Example:
        >>> local_gate(torch.tensor([-1.0, 0.0, 1.0]), temperature=0.5)
        tensor([0.1192, 0.5000, 0.8808])
    """
    check_temperature(temperature)
    return torch.sigmoid((scores - threshold) / temperature)


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive and finite.

    Raises:
        ValueError: it says which.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"the temperature must be positive and finite, got {temperature}: use hard_top_k for 0"
        )


class _Threshold(Function):
    """θ of every row as a function of scores, amounts and k."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, a: Tensor, k: Tensor, temperature: float) -> Tensor:
        found = _solve(z, a, k, temperature)
        ctx.save_for_backward(z, a, found)
        ctx.temperature = temperature
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, a, found = ctx.saved_tensors
        weights = torch.sigmoid((z - found[:, None]) / ctx.temperature)
        slopes = weights * (1 - weights)
        total = (a * slopes).sum(1).clamp(min=torch.finfo(z.dtype).tiny)
        to_row = (gradient / total)[:, None]
        to_k = -ctx.temperature * gradient / total
        return to_row * a * slopes, to_row * ctx.temperature * weights, to_k, None


def _solve(z: Tensor, a: Tensor, k: Tensor, temperature: float) -> Tensor:
    """θ within its bracket: were all scores the smallest (largest), it would be the lower (upper) end."""
    exists, total = a > 0, a.sum(1)
    some = total > 0
    shift = temperature * torch.logit(torch.where(some, k / torch.where(some, total, 1.0), 0.5))
    low, high = (torch.where(some, end, 0.0) - shift for end in _ends(z, exists))
    found = (low + high) / 2
    for _ in range(_MAX_ITERATIONS):
        weights = torch.sigmoid((z - found[:, None]) / temperature)
        excess = (a * weights).sum(1) - k
        low, high = torch.where(excess > 0, found, low), torch.where(excess > 0, high, found)
        newton = found + temperature * excess / (a * weights * (1 - weights)).sum(1)
        inside = (newton > low) & (newton < high)  # False for NaN
        following = torch.where(inside, newton, (low + high) / 2)
        settled = (following - found).abs() <= 4 * torch.finfo(z.dtype).eps * (found.abs() + temperature)
        found = following
        if bool((settled | ~some).all()):
            break
    return found


def _ends(z: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest score of each row."""
    if not z.shape[1]:
        return z.new_zeros(len(z)), z.new_zeros(len(z))
    return z.masked_fill(~exists, math.inf).amin(1), z.masked_fill(~exists, -math.inf).amax(1)
