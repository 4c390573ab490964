"""Smooth coefficient functions of rotations, accurate with two derivatives from zero to π.

With x = θ² the exponential, the left Jacobian and its inverse need only

    sinc(x)      = sin θ / θ                         = Σ (−x)^k / (2k+1)!
    cosc(x)      = (1 − cos θ) / θ²                  = Σ (−x)^k / (2k+2)!
    sincc(x)     = (θ − sin θ) / θ³                  = Σ (−x)^k / (2k+3)!
    half_cot(x)  = (1 − (θ/2) cot(θ/2)) / θ²         = Σ |B_{2k+2}| x^k / (2k+2)!

and the logarithm, with s = sin(θ/2) and w = cos(θ/2) ≥ 0,

    angle_ratio(s², w) = θ / s = 2 atan2(s, w) / s   = 2 Σ (2k)! s^{2k} / (4^k k!² (2k+1)).

Every function is a power series below a switch chosen where the closed form has no cancellation left, and
the closed form above it. Each branch gets harmless arguments where the other one is taken ("double where"),
so no infinity ever meets a zero weight in a first or second gradient.

References: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", 2018;
Barfoot, "State Estimation for Robotics", 2017, chapter 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from math import factorial

import torch
from jaxtyping import Float
from torch import Tensor

_SWITCH = 1.0  # θ² below which the trigonometric series are used
_SWITCH_HALF_COT = 4.0  # later, because 1 − (θ/2)cot(θ/2) still cancels at θ = 1
_SWITCH_RATIO = 0.1  # sin²(θ/2)
_NUM_TERMS = 20  # more than float64 needs; each dtype takes the beginning that it can resolve


def _trigonometric(offset: int) -> tuple[float, ...]:
    return tuple(float(Fraction((-1) ** k, factorial(2 * k + offset))) for k in range(_NUM_TERMS))


def _half_cotangent() -> tuple[float, ...]:
    """Coefficients of (1 − (θ/2)cot(θ/2))/θ² in powers of θ², by exact division of the two Taylor series."""
    cosine = [Fraction((-1) ** k, 4**k * factorial(2 * k)) for k in range(_NUM_TERMS + 1)]
    sine = [Fraction((-1) ** k, 4**k * factorial(2 * k + 1)) for k in range(_NUM_TERMS + 1)]
    quotient: list[Fraction] = []
    for k in range(_NUM_TERMS + 1):
        known = sum((quotient[i] * sine[k - i] for i in range(k)), Fraction(0))
        quotient.append(cosine[k] - known)
    return tuple(float(-coefficient) for coefficient in quotient[1:])


def _arcsine_ratio() -> tuple[float, ...]:
    exact = (
        Fraction(2 * factorial(2 * k), 4**k * factorial(k) ** 2 * (2 * k + 1)) for k in range(_NUM_TERMS)
    )
    return tuple(map(float, exact))


_SINC = _trigonometric(1)
_COSC = _trigonometric(2)
_SINCC = _trigonometric(3)
_HALF_COT = _half_cotangent()
_RATIO = _arcsine_ratio()


@cache
def _resolved(coefficients: tuple[float, ...], limit: float, dtype: torch.dtype) -> tuple[float, ...]:
    """The leading coefficients whose terms still count, second derivative included, up to ``x = limit``."""
    smallest = torch.finfo(dtype).eps * abs(coefficients[0]) * 1e-3
    kept = [c for k, c in enumerate(coefficients) if abs(c) * limit**k > smallest]
    return tuple(kept)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


def _switched(
    x: Tensor, closed: Callable[[Tensor], Tensor], coefficients: tuple[float, ...], limit: float
) -> Tensor:
    """The series where x < limit, ``closed(θ)`` with θ = √x elsewhere."""
    small = x < limit
    series = _polynomial(torch.where(small, x, 0.0), _resolved(coefficients, limit, x.dtype))
    theta = torch.where(small, limit, x).sqrt()
    return torch.where(small, series, closed(theta))


def sinc(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``sin θ / θ`` as a function of x = θ² ≥ 0.

    Example:
        >>> sinc(torch.zeros(1)).item()
        1.0
    """
    return _switched(x, lambda theta: theta.sin() / theta, _SINC, _SWITCH)


def cosc(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``(1 − cos θ)/θ²`` as a function of x = θ² ≥ 0.

    Example:
        >>> cosc(torch.zeros(1)).item()
        0.5
    """
    return _switched(x, lambda theta: 2 * ((theta / 2).sin() / theta).square(), _COSC, _SWITCH)


def sincc(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``(θ − sin θ)/θ³`` as a function of x = θ² ≥ 0.

    Example:
        >>> round(sincc(torch.zeros(1)).item(), 6)
        0.166667
    """
    return _switched(x, lambda theta: (theta - theta.sin()) / theta**3, _SINCC, _SWITCH)


def half_cot(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``(1 − (θ/2)cot(θ/2))/θ²`` as a function of x = θ², for 0 ≤ θ < 2π.

    Example:
        >>> round(half_cot(torch.zeros(1)).item(), 6)
        0.083333
    """
    return _switched(x, _half_cot_closed, _HALF_COT, _SWITCH_HALF_COT)


def _half_cot_closed(theta: Tensor) -> Tensor:
    half = theta / 2
    return (1 - half * half.cos() / half.sin()) / theta.square()


def angle_ratio(s2: Float[Tensor, "..."], w: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``θ / sin(θ/2)`` from s² = sin²(θ/2) and w = cos(θ/2) ≥ 0, for 0 ≤ θ ≤ π.

    Example:
        >>> angle_ratio(torch.zeros(1), torch.ones(1)).item()
        2.0
    """
    small = s2 < _SWITCH_RATIO
    series = _polynomial(torch.where(small, s2, 0.0), _resolved(_RATIO, _SWITCH_RATIO, s2.dtype))
    s = torch.where(small, 1.0, s2).sqrt()
    return torch.where(small, series, 2 * torch.atan2(s, w) / s)
