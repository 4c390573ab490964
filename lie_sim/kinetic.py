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


class Velocity:
    """The function p ↦ p/m for particles that stay the same.

    1/m is kept at the full shape of p, so that a call costs one multiplication; masses that are changed in place are
    noticed, and those that want a gradient, or a p of another shape, take the way of :func:`velocity`.

    Args:
        masses: m, shape (B, N).
        mask: True where a particle exists, shape (B, N); None means all of them.

    Example:
        >>> Velocity(torch.tensor([[4.0, 2.0]]))(torch.tensor([[[2.0], [3.0]]]))
        tensor([[[0.5000],
                 [1.5000]]])
    """

    def __init__(self, masses: Float[Tensor, "B N"], mask: Bool[Tensor, "B N"] | None = None) -> None:
        self._masses, self._mask = masses, mask
        self._keeps = not masses.is_inference() and not (mask is not None and mask.is_inference())
        self._versions: tuple[int, int] | None = None
        self._inverse: Tensor | None = None
        self._exists: Tensor | None = None

    def __call__(self, p: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
        """p/m, shape (B, N, d); 0 for padding."""
        if not self._keeps or self._masses.requires_grad:
            return velocity(p, self._masses, self._mask)
        inverse = self._inverse
        versions = (self._masses._version, 0 if self._mask is None else self._mask._version)
        if inverse is None or versions != self._versions or inverse.shape != p.shape:
            if p.shape[:-1] != self._masses.shape:
                return velocity(p, self._masses, self._mask)
            inverse = self._renew(p, versions)
        product = p * inverse
        return product if self._exists is None else torch.where(self._exists, product, 0.0)

    def _renew(self, p: Tensor, versions: tuple[int, int]) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            inverse = (1 / _divisor(self._masses, self._mask))[..., None].expand(p.shape).contiguous()
            whole = self._mask is None or bool(self._mask.all())
            self._exists = None if whole or self._mask is None else self._mask[..., None]
        self._inverse, self._versions = inverse, versions
        return inverse


def _divisor(masses: Tensor, mask: Tensor | None) -> Tensor:
    """The masses, with 1 for padding: a 0 there would make NaN of the gradient even where ``where`` drops the value."""
    return masses if mask is None else torch.where(mask, masses, 1.0)
