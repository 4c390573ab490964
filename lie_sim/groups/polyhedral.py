"""Rotation groups of the regular solids: T (tetrahedron), O (octahedron), I (icosahedron).

As unit quaternions up to sign, with the golden ratio φ:

    T (12)  permutations of (±1, 0, 0, 0) and (±1, ±1, ±1, ±1)/2       (the Hurwitz units)
    O (24)  T and the permutations of (±1, ±1, 0, 0)/√2
    I (60)  T and the even permutations of (±φ, ±1, ±1/φ, 0)/2

Element 0 is the identity.
Reference: Conway, Smith, "On Quaternions and Octonions", 2003, chapter 3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from lie_sim.groups.finite import FiniteGroup
from lie_sim.groups.rotations import matrix_from_quaternion

_GOLDEN = (1 + 5**0.5) / 2
_TETRAHEDRAL = ((1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5))
_OCTAHEDRAL = (0.5**0.5, 0.5**0.5, 0.0, 0.0)
_ICOSAHEDRAL = (_GOLDEN / 2, 0.5, 0.5 / _GOLDEN, 0.0)

Quaternion = tuple[float, ...]


def _is_even(permutation: tuple[int, ...]) -> bool:
    inversions = sum(a > b for a, b in itertools.combinations(permutation, 2))
    return inversions % 2 == 0


def _signed_permutations(values: Quaternion, *, even_only: bool = False) -> list[Quaternion]:
    """Distinct permutations with all signs; of each pair ±q the one whose first entry ≠ 0 is positive."""
    found: dict[Quaternion, None] = {}
    for permutation in itertools.permutations(range(4)):
        if even_only and not _is_even(permutation):
            continue
        for signs in itertools.product((1, -1), repeat=4):
            candidate = tuple(sign * values[k] for sign, k in zip(signs, permutation, strict=True))
            if next(entry for entry in candidate if entry) > 0:
                found[candidate] = None
    return list(found)


def _as_matrices(quaternions: list[Quaternion]) -> Tensor:
    return matrix_from_quaternion(torch.tensor(quaternions, dtype=torch.float64))


@cache
def _tetrahedral() -> Tensor:
    units = [q for values in _TETRAHEDRAL for q in _signed_permutations(values)]
    return _as_matrices(units).round()


@cache
def _octahedral() -> Tensor:
    return torch.cat([_tetrahedral(), _as_matrices(_signed_permutations(_OCTAHEDRAL)).round()])


@cache
def _icosahedral() -> Tensor:
    golden = _signed_permutations(_ICOSAHEDRAL, even_only=True)
    return torch.cat([_tetrahedral(), _as_matrices(golden)])


@dataclass(frozen=True)
class Tetrahedral(FiniteGroup):
    """T: the 12 rotations of the regular tetrahedron.

    Example:
        >>> Tetrahedral().elements().shape
        torch.Size([12, 3, 3])
    """

    name = "T"
    space_dim = 3
    order = 12

    def _matrices(self) -> Tensor:
        return _tetrahedral()


@dataclass(frozen=True)
class Octahedral(FiniteGroup):
    """O: the 24 rotations of the octahedron and the cube.

    Example:
        >>> Octahedral().elements().shape
        torch.Size([24, 3, 3])
    """

    name = "O"
    space_dim = 3
    order = 24

    def _matrices(self) -> Tensor:
        return _octahedral()


@dataclass(frozen=True)
class Icosahedral(FiniteGroup):
    """I: the 60 rotations of the icosahedron and the dodecahedron.

    Example:
        >>> Icosahedral().elements().shape
        torch.Size([60, 3, 3])
    """

    name = "I"
    space_dim = 3
    order = 60

    def _matrices(self) -> Tensor:
        return _icosahedral()
