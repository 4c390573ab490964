"""A Hessian without any calculation: the model force constants of Lindh and co-workers.

    H = Σ_s k_s b_s b_sᵀ,     b_s = ∂s/∂x    for the stretches, bends and torsions s between nearby atoms
    k = 0.45 ρ_ij,  0.15 ρ_ij ρ_jk,  0.005 ρ_ij ρ_jk ρ_kl   hartree per bohr² or radian²
    ρ_ij = exp(α_ij (R_ij² − r_ij²)),  with α and R by the rows of the periodic table

It is that of a molecule at rest, positive semi-definite, with the six motions of a rigid body as its zeros, and right
to some tens of per cent: enough to displace a molecule along its modes by about as much as heat would.

Shape letters: N atoms, S internal coordinates.
References: Lindh, Bernhardsson, Karlström, Malmqvist, Chem. Phys. Lett. 241 (1995) 423 (constants of table 1);
Blondel, Karplus, J. Comput. Chem. 17 (1996) 1132 (derivatives of a torsion).
"""

from __future__ import annotations

import itertools

import numpy as np
from ase import units

_ALPHA = np.array([[1.0, 0.3949, 0.3949], [0.3949, 0.28, 0.28], [0.3949, 0.28, 0.28]])
"""bohr⁻², by the rows H–He, Li–Ne, Na–Ar; later rows take the last."""
_RADIUS = np.array([[1.35, 2.10, 2.53], [2.10, 2.87, 3.40], [2.53, 3.40, 3.40]])
"""bohr."""
_STRETCH, _BEND, _TORSION = 0.45, 0.15, 0.005
_NEAR = 0.1
"""Least ρ of a pair that takes part in bends and torsions."""
_STRAIGHT = 0.2
"""Sine of an angle below which it counts as straight: no torsion about it, and bends in two directions."""

_Row = tuple[float, np.ndarray]
"""k_s and b_s, hartree and bohr; b_s has shape (N, 3)."""


def model_hessian(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The model Hessian in eV/Å², shape (3N, 3N).

    Args:
        numbers: atomic numbers, shape (N,).
        positions: Å, shape (N, 3).

    Example:
        >>> stretch = model_hessian(np.array([1, 1]), np.array([[0.0, 0, 0], [0.74, 0, 0]]))
        >>> stretch.shape, round(float(stretch[0, 0]), 1), bool((stretch[1] == 0).all())
        ((6, 6), 38.3, True)
    """
    x = np.asarray(positions, dtype=float) / units.Bohr
    rho = _closeness(np.asarray(numbers), x)
    rows = [*_stretches(x, rho), *_bends(x, rho), *_torsions(x, rho)]
    hessian = np.zeros((x.size, x.size))
    if rows:
        constants = np.array([k for k, _ in rows])
        b = np.stack([vector.ravel() for _, vector in rows])
        hessian = b.T @ (constants[:, None] * b)
    return hessian * units.Hartree / units.Bohr**2


def _closeness(numbers: np.ndarray, x: np.ndarray) -> np.ndarray:
    """ρ, shape (N, N); 0 on the diagonal."""
    row = np.digitize(numbers, [3, 11])
    r2 = np.square(x[:, None] - x[None]).sum(-1)
    exponent = _ALPHA[row[:, None], row] * (_RADIUS[row[:, None], row] ** 2 - r2)
    return np.where(np.eye(len(x), dtype=bool), 0.0, np.exp(exponent))


def _neighbours(rho: np.ndarray) -> list[list[int]]:
    return [np.flatnonzero(row > _NEAR).tolist() for row in rho]


def _unit(vector: np.ndarray) -> tuple[np.ndarray, float]:
    length = float(np.linalg.norm(vector))
    return vector / length, length


def _stretches(x: np.ndarray, rho: np.ndarray) -> list[_Row]:
    rows = []
    for i, j in zip(*np.nonzero(np.triu(rho) > 1e-6), strict=True):
        b = np.zeros_like(x)
        b[i], _ = _unit(x[i] - x[j])
        b[j] = -b[i]
        rows.append((_STRETCH * rho[i, j], b))
    return rows


def _bends(x: np.ndarray, rho: np.ndarray) -> list[_Row]:
    rows = []
    for j, near in enumerate(_neighbours(rho)):
        for i, k in itertools.combinations(near, 2):
            constant = _BEND * rho[i, j] * rho[j, k]
            rows += [(constant, b) for b in _bend(x, i, j, k)]
    return rows


def _bend(x: np.ndarray, i: int, j: int, k: int) -> list[np.ndarray]:
    """∂φ/∂x of the angle i–j–k; of a straight one both components."""
    u, r_u = _unit(x[i] - x[j])
    v, r_v = _unit(x[k] - x[j])
    cosine, sine = float(u @ v), float(np.linalg.norm(np.cross(u, v)))
    if sine > _STRAIGHT:
        ends = [((cosine * u - v) / sine, (cosine * v - u) / sine)]
    else:
        _, _, basis = np.linalg.svd(u[None])
        ends = [(direction, direction) for direction in basis[1:]]
    rows = []
    for at_i, at_k in ends:
        b = np.zeros_like(x)
        b[i], b[k] = at_i / r_u, at_k / r_v
        b[j] = -b[i] - b[k]
        rows.append(b)
    return rows


def _torsions(x: np.ndarray, rho: np.ndarray) -> list[_Row]:
    near, rows = _neighbours(rho), []
    for j, k in zip(*np.nonzero(np.triu(rho) > _NEAR), strict=True):
        for i, m in itertools.product(near[j], near[k]):
            if len({i, j, k, m}) == 4:
                b = _torsion(x, i, int(j), int(k), m)
                rows += [] if b is None else [(_TORSION * rho[i, j] * rho[j, k] * rho[k, m], b)]
    return rows


def _torsion(x: np.ndarray, i: int, j: int, k: int, m: int) -> np.ndarray | None:
    """∂φ/∂x of the torsion i–j–k–m; None where three of the atoms are in line."""
    f, g, h = x[i] - x[j], x[j] - x[k], x[m] - x[k]
    a, c, length = np.cross(f, g), np.cross(h, g), float(np.linalg.norm(g))
    a2, c2 = float(a @ a), float(c @ c)
    if a2 < (_STRAIGHT * length) ** 2 * (f @ f) or c2 < (_STRAIGHT * length) ** 2 * (h @ h):
        return None
    b = np.zeros_like(x)
    b[i], b[m] = -length / a2 * a, length / c2 * c
    shift = float(f @ g) / (a2 * length) * a - float(h @ g) / (c2 * length) * c
    b[j], b[k] = -b[i] + shift, -b[m] - shift
    return b
