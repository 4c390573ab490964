"""Radial bases and the cutoff envelope: functions of the distance r of a pair.

Every basis is a smooth function of r², so that its gradient at r = 0 is finite:

    polynomial   r²,  √(1+r²) − 1,  1/√(1+r²)                    unbounded systems
    gaussian     exp(−(r − c_k)² / 2σ²), c_k even on [0, cutoff]  molecules
    bessel       sin(kπ r/cutoff) / r,  k = 1, 2, …               molecules; finest at short distances
    coulomb      1/√(r²+ε²),  r²/(1+r²),  1/√(1+r²)               gravity and charges

    envelope     w(r) = 1 − 10x³ + 15x⁴ − 6x⁵, x = r/cutoff: C² at the cutoff

Distances are in units of the model's length scale.

References: Schütt et al., "SchNet", NeurIPS 2017 (Gaussian basis); Gasteiger, Groß, Günnemann, "Directional message
passing for molecular graphs", ICLR 2020 (Bessel basis); the envelope is the quintic smooth step.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

RADIAL_BASES = ("polynomial", "gaussian", "bessel", "coulomb")


def smooth_cutoff(r: Float[Tensor, "*shape"], cutoff: float) -> Float[Tensor, "*shape"]:
    """Quintic step from 1 at r = 0 to 0 at the cutoff, with zero first and second derivative at both ends.

    Example:
        >>> smooth_cutoff(torch.tensor([0.0, 1.0, 2.0, 3.0]), 2.0)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    x = (r / cutoff).clamp(max=1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x * x)


class RadialBasis(nn.Module):
    """Features of the squared distance, shape (…,) → (…, size).

    Args:
        kind: one of ``RADIAL_BASES``.
        size: number of Gaussian or Bessel functions; the other bases have 3 functions.
        cutoff: where the Gaussian or Bessel functions end; they need one.
        softening: ε of the Coulomb basis.
    """

    def __init__(
        self, kind: str, *, size: int = 16, cutoff: float | None = None, softening: float = 1e-3
    ) -> None:
        super().__init__()
        if kind not in RADIAL_BASES:
            raise ValueError(f"unknown radial basis {kind!r}; choose one of {', '.join(RADIAL_BASES)}")
        if kind == "coulomb" and not softening > 0:
            raise ValueError(f"the coulomb basis needs softening > 0 to be finite at r = 0, got {softening}")
        if kind in ("gaussian", "bessel") and cutoff is None:
            raise ValueError(f"the {kind} basis needs a cutoff")
        self.kind, self.cutoff, self.softening = kind, cutoff, softening
        self.size = size if kind in ("gaussian", "bessel") else 3

    def forward(self, r2: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape size"]:
        """Basis functions of the squared distance."""
        if self.kind == "gaussian":
            assert self.cutoff is not None
            centres = torch.linspace(0, self.cutoff, self.size, dtype=r2.dtype, device=r2.device)
            width = self.cutoff / (self.size - 1) if self.size > 1 else self.cutoff
            r = torch.sqrt(r2 + 1e-6)
            return torch.exp(-0.5 * ((r[..., None] - centres) / width).square())
        if self.kind == "bessel":
            assert self.cutoff is not None
            waves = torch.arange(1, self.size + 1, dtype=r2.dtype, device=r2.device) * (math.pi / self.cutoff)
            r = torch.sqrt(r2 + 1e-6)[..., None]
            return torch.sin(r * waves) / r
        soft = torch.sqrt(1 + r2)
        if self.kind == "coulomb":
            return torch.stack([torch.rsqrt(r2 + self.softening**2), r2 / (1 + r2), 1 / soft], dim=-1)
        return torch.stack([r2, soft - 1, 1 / soft], dim=-1)


def compress(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x/√(1+x²) = sin(arctan x): odd, smooth, slope 1 at 0, bounded by 1.

    Sine and arctangent have simple derivatives, so forces take half as many operations as with the root.

    Example:
        >>> compress(torch.tensor([0.0, 0.75, -1e30]))
        tensor([ 0.0000,  0.6000, -1.0000])
    """
    return torch.sin(torch.atan(x))
