"""What cannot be right in a set of structures, and what suggests other units.

NaN and infinity, labels that are missing in part, unknown elements; forces far beyond those of breaking bonds
(kcal/mol, Hartree), atoms in one another (nm), hydrogens without a neighbour at the distance of a bond (bohr).

Units: Å, eV/Å.
"""

from __future__ import annotations

import numpy as np

from lie_sim.data.molecules import PER_ATOM, Molecules
from lie_sim.errors import DataError
from lie_sim.pairs import find_pairs

LARGEST_FORCE = 300.0
"""eV/Å; forces of bonds that are about to break are a tenth of it."""
SHORTEST_PAIR, LONGEST_NEIGHBOUR = 0.3, 20.0
"""Å; nearest neighbours outside of these suggest bohr or nm."""
BONDS_IN_BOHR = (1.38, 2.2)
"""Hydrogen's shortest bond in a molecule of H, C, N, O, F (H₂ 0.74 Å, ethane 1.09 Å), taken for Å while it is bohr."""
_LIGHT = (1, 6, 7, 8, 9)
_SAMPLED = 100
"""Structures whose distances are looked at."""


def check_values(molecules: Molecules, *, source: str, suspicious: bool = True) -> None:
    """Refuse what cannot be right.

    Args:
        molecules: the structures.
        source: for the message.
        suspicious: also refuse magnitudes that suggest other units.

    Raises:
        DataError: a number is not finite in all of a structure's values, periodic lattice vectors do not span their
            directions, or a magnitude is suspicious.
    """
    structure = np.repeat(np.arange(len(molecules)), molecules.sizes)
    bad = structure[~np.isfinite(molecules.positions).all(1)]
    if len(bad):
        raise DataError(f"{source}: a position of structure {bad[0]} is not finite")
    _check_cells(molecules, source)
    if not ((molecules.numbers >= 1) & (molecules.numbers <= 118)).all():
        wrong = structure[(molecules.numbers < 1) | (molecules.numbers > 118)][0]
        raise DataError(f"{source}: structure {wrong} has an unknown element")
    for name, value in molecules.values.items():
        rows = structure if name in PER_ATOM else np.arange(len(molecules))
        missing = ~np.isfinite(value.reshape(len(value), -1))
        some, there = (np.bincount(rows, each.any(1), len(molecules)) > 0 for each in (missing, ~missing))
        places = np.flatnonzero(some & (there | (name in ("energy", "forces"))))
        if len(places):
            raise DataError(
                f"{source}: {name} of structure {places[0]} is missing or not finite (of "
                f"{len(places)} structures in {len(molecules)}): remove them, or label them again"
            )
    if suspicious:
        _check_magnitudes(molecules, source)


def _check_cells(molecules: Molecules, source: str) -> None:
    bad = np.flatnonzero(~np.isfinite(molecules.cells).all((1, 2)))
    if len(bad):
        raise DataError(f"{source}: the cell of structure {bad[0]} is not finite")
    periodic = np.flatnonzero(molecules.pbc.any(1))
    pbc, cells = molecules.pbc[periodic], molecules.cells[periodic]
    flat = periodic[np.linalg.matrix_rank(cells * pbc[..., None]) < pbc.sum(1)]
    if len(flat):
        raise DataError(
            f"{source}: structure {flat[0]} is periodic along {molecules.pbc[flat[0]].tolist()}, but its lattice "
            f"vectors {molecules.cells[flat[0]].tolist()} do not span that: give them, or set pbc to F"
        )


def _check_magnitudes(molecules: Molecules, source: str) -> None:
    advice = "If this is meant, check_units=False reads it."
    forces = molecules.values.get("forces")
    if forces is not None and len(forces) and np.abs(forces).max() > LARGEST_FORCE:
        raise DataError(
            f"{source}: a force of {np.abs(forces).max():.3g} eV/Å; are the forces in kcal/mol/Å (divide by 23.06) "
            f"or Hartree/bohr (multiply by 51.42)? {advice}"
        )
    bonds = []
    for k in range(0, len(molecules), max(1, len(molecules) // _SAMPLED)):
        one = molecules[[k]]
        nearest = _nearest(one)
        bonds += _hydrogen_bonds(one)
        if nearest is not None and not SHORTEST_PAIR < nearest < LONGEST_NEIGHBOUR:
            apart = f"{nearest:.3g}" if nearest < LONGEST_NEIGHBOUR else f"more than {LONGEST_NEIGHBOUR:g}"
            raise DataError(
                f"{source}: the nearest atoms of structure {k} are {apart} Å apart; are the positions in bohr "
                f"or nm? {advice}"
            )
    if bonds and BONDS_IN_BOHR[0] < min(bonds) < BONDS_IN_BOHR[1]:
        raise DataError(
            f"{source}: no hydrogen is nearer than {min(bonds):.3g} Å to another atom; are the positions in bohr "
            f"(multiply by 0.5292)? {advice}"
        )


def nearest_pair(molecules: Molecules, *, enough: float = 0.0) -> float:
    """Shortest distance in Å between atoms of a structure, or the first that is below ``enough``; infinite for none."""
    shortest = np.inf
    for k in range(len(molecules)):
        found = _nearest(molecules[[k]])
        shortest = shortest if found is None else min(shortest, found)
        if shortest < enough:
            break
    return shortest


def _hydrogen_bonds(one: Molecules) -> list[float]:
    """Shortest distance in Å from a hydrogen to another atom, of a structure of H, C, N, O and F alone."""
    if not np.isin(one.numbers, _LIGHT).all() or 1 not in one.numbers or len(one.numbers) < 2:
        return []
    found = find_pairs(one.positions, one.cells[0], one.pbc[0], LONGEST_NEIGHBOUR / 4)
    near = found.distances[one.numbers[found.i] == 1]
    return [float(near.min())] if len(near) else []


def _nearest(one: Molecules) -> float | None:
    """Distance of the nearest pair in Å, infinite beyond ``LONGEST_NEIGHBOUR``; None for a lone atom."""
    if len(one.numbers) < 2:
        return None
    for cutoff in (LONGEST_NEIGHBOUR / 4, LONGEST_NEIGHBOUR):
        found = find_pairs(one.positions, one.cells[0], one.pbc[0], cutoff)
        if len(found.i):
            return float(found.distances.min())
    return np.inf
