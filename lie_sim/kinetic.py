"""Kinetic energy and velocity of particles, some of which may be padding.

    T = Σ_i |p_i|² / (2 m_i),      v_i = ∂T/∂p_i = p_i / m_i

Padding counts for nothing, whatever its mass: 0/0 is kept out of the value and of its derivatives.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def kinetic_energy(
    p: Float[Tensor, "B N d"], masses: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"] | None = None
) -> Float[Tensor, " B"]:
    """Σ |p|²/(2m) of each system, shape (B,).

    Args:
        p: momenta, shape (B, N, d).
        masses: m, shape (B, N).
        mask: True where a particle exists, shape (B, N); None means all of them.

    Example:
        >>> kinetic_energy(torch.tensor([[[2.0], [0.0]]]), torch.tensor([[4.0, 0.0]]), torch.tensor([[True, False]]))
        tensor([0.5000])
    """
    terms = p.square().sum(-1) / (2 * _divisor(masses, mask))
    return (terms if mask is None else torch.where(mask, terms, 0.0)).sum(-1)


def velocity(
    p: Float[Tensor, "B N d"], masses: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"] | None = None
) -> Float[Tensor, "B N d"]:
    """p/m, shape (B, N, d); 0 for padding.

    Args:
        p: momenta, shape (B, N, d).
        masses: m, shape (B, N).
        mask: True where a particle exists, shape (B, N); None means all of them.

    Example:
        >>> velocity(torch.tensor([[[2.0], [0.0]]]), torch.tensor([[4.0, 0.0]]), torch.tensor([[True, False]]))
        tensor([[[0.5000],
                 [0.0000]]])
    """
    quotient = p / _divisor(masses, mask)[..., None]
    return quotient if mask is None else torch.where(mask[..., None], quotient, 0.0)


def _divisor(masses: Tensor, mask: Tensor | None) -> Tensor:
    """The masses, with 1 for padding: a 0 there would make NaN of the gradient even where ``where`` drops the value."""
    return masses if mask is None else torch.where(mask, masses, 1.0)
