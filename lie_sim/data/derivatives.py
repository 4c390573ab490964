"""Forces read off a trajectory: second derivative of the polynomial that osculates positions *and* momenta.

Positions and momenta on a uniform grid give q_k and q̇_k = p_k/m at L nodes. One polynomial P of degree 2L − 1
has those values and slopes (Hermite interpolation); its second derivative at the nodes estimates the force:

    F_j = m P̈(t_j) = (m/dt²) Σ_k A_jk q_k + (1/dt) Σ_k B_jk p_k

With the Lagrange polynomials ℓ_k of the nodes x_k = k, a_k = ℓ_k'(x_k) = Σ_{m≠k} 1/(x_k − x_m) and
b_k = Σ_{m≠k} 1/(x_k − x_m)²:

    A_jk = 2 [1 − 2 (x_j − x_k) a_k] ℓ_k'(x_j)²,    B_jk = 2 (x_j − x_k) ℓ_k'(x_j)²      (j ≠ k)
    A_kk = −4 a_k² − 2 b_k,                         B_kk = 4 a_k

The error at node j is 2 Π_{m≠j} (j − m)² · dt^{2L−2} q^{(2L)}/(2L)!: order 2L − 2 (8 for the five points of
the springs protocol), 36 times smaller in the middle of five points than at their ends.

Shape letters: S systems, L times of the trajectory, W window, N particles, d space dimension.
Reference: Davis, "Interpolation and Approximation", Dover 1975, §2.2 (Hermite interpolation and its
remainder).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

MAX_WINDOW = 7
"""Points in one polynomial by default, at most: beyond this, rounding (∝ 1/dt²) outweighs the order."""


@cache
def hermite_weights(num_points: int) -> tuple[Float[Tensor, "L L"], Float[Tensor, "L L"]]:
    """The matrices A and B of the module's formula, computed in exact fractions and rounded once to float64.

    Args:
        num_points: L, at least 2.

    Returns:
        (A, B), each (L, L): row j estimates the second derivative at node j, in units of the grid step.

    Example:
        >>> A, B = hermite_weights(2)
        >>> A.tolist(), B.tolist()
        ([[-6.0, 6.0], [6.0, -6.0]], [[-4.0, -2.0], [2.0, 4.0]])
    """
    if num_points < 2:
        raise ValueError(f"a second derivative needs at least 2 points, got {num_points}")
    nodes = range(num_points)
    entries = [[_entry(j, k, num_points) for k in nodes] for j in nodes]
    A = torch.tensor([[float(a) for a, _ in row] for row in entries], dtype=torch.float64)
    B = torch.tensor([[float(b) for _, b in row] for row in entries], dtype=torch.float64)
    return A, B


def _entry(j: int, k: int, num_points: int) -> tuple[Fraction, Fraction]:
    others = [m for m in range(num_points) if m != k]
    a = sum((Fraction(1, k - m) for m in others), Fraction(0))
    if j == k:
        b = sum((Fraction(1, (k - m) ** 2) for m in others), Fraction(0))
        return -4 * a**2 - 2 * b, 4 * a
    slope = Fraction(prod(j - m for m in others if m != j), prod(k - m for m in others))
    return 2 * (1 - 2 * (j - k) * a) * slope**2, 2 * (j - k) * slope**2


def force_targets(
    q: Float[Tensor, "S L N d"],
    p: Float[Tensor, "S L N d"],
    masses: Float[Tensor, "S N"],
    dt: float,
    *,
    window: int | None = None,
) -> Float[Tensor, "S L N d"]:
    """Force dp/dt at every point of a trajectory, to order ``2·window − 2`` in dt.

    Rounding of the input is amplified by up to 83/dt² (window 5) or 580/dt² (window 7): give float64, and
    convert the result.

    Args:
        q: positions on a uniform grid, shape (S, L, N, d).
        p: momenta, shape (S, L, N, d); dq/dt = p/m must hold.
        masses: shape (S, N).
        dt: step of the grid.
        window: points in one polynomial, from 2 to L; each time uses the window that has it most nearly in
            the middle. None takes all L points, but not more than seven.

    Returns:
        Forces, shape (S, L, N, d), in units of momentum per time.

    Example:
        >>> t = 0.1 * torch.arange(5, dtype=torch.float64).reshape(1, 5, 1, 1)
        >>> force = force_targets(torch.cos(t), -torch.sin(t), torch.ones(1, 1, dtype=torch.float64), 0.1)
        >>> bool((force + torch.cos(t)).abs().max() < 1e-10)
        True
    """
    length = q.shape[1]
    width = min(length, MAX_WINDOW) if window is None else window
    if not 2 <= width <= length:
        raise ValueError(f"window must be from 2 to the {length} points of the trajectory, got {width}")
    if dt <= 0:
        raise ValueError(f"dt must be positive, got {dt}")
    A, B = (weights.to(q) for weights in hermite_weights(width))
    if width == length:
        curvature, slope = _apply(A, q), _apply(B, p)
    else:
        start = (torch.arange(length) - width // 2).clamp(0, length - width)
        row = torch.arange(length) - start
        points = (start[:, None] + torch.arange(width)).to(q.device)
        curvature = torch.einsum("lw,slwnd->slnd", A[row], q[:, points])
        slope = torch.einsum("lw,slwnd->slnd", B[row], p[:, points])
    return masses[:, None, :, None] * curvature / dt**2 + slope / dt


def momentum_slopes(p: Float[Tensor, "S L N d"], dt: float, *, window: int = 5) -> Float[Tensor, "S M N d"]:
    """Forces from noisy momenta: slopes of straight lines fitted to every window; rough, but not spoilt by noise.

        F = Σ_k k p_{j+k} / (dt Σ_k k²),      k = −w … w,   window = 2w + 1

    Noise σ becomes σ/(dt √Σk²), against about 80 σ/dt² in :func:`force_targets`; the error in dt is of order 2.

    Args:
        p: momenta on a uniform grid, shape (S, L, N, d).
        dt: step of the grid.
        window: points of a line, at least 2; all of a shorter trajectory.

    Returns:
        Shape (S, M, N, d), M = L − window + 1, in units of momentum per time.

    Example:
        >>> momentum_slopes(torch.arange(6.0).reshape(1, 6, 1, 1), 0.5).flatten()
        tensor([2., 2.])
    """
    length = p.shape[1]
    if length < 2 or window < 2 or dt <= 0:
        raise ValueError(
            f"a slope needs 2 points, a window from 2 and dt > 0; got {length}, {window} and {dt}"
        )
    width = min(length, window)
    offsets = torch.arange(width).to(p) - (width - 1) / 2
    return torch.einsum("smndw,w->smnd", p.unfold(1, width, 1), offsets) / (dt * offsets.square().sum())


def _apply(weights: Float[Tensor, "L L"], x: Float[Tensor, "S L N d"]) -> Float[Tensor, "S L N d"]:
    return (weights @ x.flatten(2)).reshape(x.shape)
