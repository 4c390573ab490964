"""How a run that is stepped back holds its state: as floating-point numbers, or in fixed point.

    Q ← Q + round(2^44 c x),      q = 2^−44 Q,      Q a 64-bit integer

An addition of floating-point numbers is undone up to a rounding error, one of integers without any.

Shape letters: B batch, N particles, d space dimension.
References: Maclaurin, Duvenaud, Adams, ICML 2015 (exact reversal in fixed point); Rein, Tamayo, "JANUS: a
bit-wise reversible integrator", MNRAS 473 (2018) 3351.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lie_sim.errors import NonFiniteError
from lie_sim.integrators.method import add_scaled

FIXED_POINT_BITS = 44
"""Binary digits behind the point: a quantum of 6e-14 and a range of ±2.6e5."""
_LARGEST = 2.0**62


class FloatingPoint:
    """How a state is held and changed: here as ordinary numbers, undone up to rounding."""

    def encode(self, x: Tensor) -> Tensor:
        """As it is held."""
        return x

    def decode(self, x: Tensor) -> Tensor:
        """As ordinary numbers."""
        return x

    def add(self, x: Tensor, rate: Tensor, duration: float | Tensor) -> Tensor:
        """X + duration · rate, as it is held."""
        return add_scaled(x, rate, duration)


class FixedPoint:
    """64-bit integers: undone to the bit. Increments that do not fit are remembered, and reported at the end."""

    def __init__(self, like: Tensor) -> None:
        self.dtype = like.dtype
        self.scale = 2.0**FIXED_POINT_BITS
        self.fits = torch.ones((), dtype=torch.bool, device=like.device)

    def encode(self, x: Tensor) -> Tensor:
        """As it is held: the nearest multiple of a quantum."""
        return self._rounded(x.double() * self.scale)

    def decode(self, x: Tensor) -> Tensor:
        """As ordinary numbers."""
        return (x.double() / self.scale).to(self.dtype)

    def add(self, x: Tensor, rate: Tensor, duration: float | Tensor) -> Tensor:
        """X + duration · rate, as it is held."""
        changed = x + self._rounded(rate.double() * (duration * self.scale))
        self.fits &= (changed.abs() < _LARGEST).all()
        return changed

    def _rounded(self, x: Tensor) -> Tensor:
        self.fits &= (x.abs() < _LARGEST).all()  # False for NaN
        return x.round().to(torch.int64)

    def check(self) -> None:
        """Raise NonFiniteError if anything did not fit."""
        if not bool(self.fits):
            raise NonFiniteError(
                "a position, a momentum or its change is not finite or beyond the fixed-point range of "
                f"±{_LARGEST / self.scale:.2g}: use other units, a smaller step, or fixed_point=False"
            )
