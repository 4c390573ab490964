"""Which structures to label next: those of which an ensemble is least certain, no two of them alike.

    uncertainty of a structure    max_i |σ_i|,  σ_i the standard deviation of the force on atom i
    difference of two             root mean square difference of their sorted distances, by pairs of elements

The difference does not change with rotations, translations and permutations of equal atoms. Units: eV/Å, Å.

Shape letters: N atoms.
Reference: Podryabinkin, Shapeev, Comput. Mater. Sci. 140 (2017) 171 (learning on the fly from what is uncertain).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from lie_sim.calculators.calculator import LieTransformerCalculator
from lie_sim.calculators.many import predict_many


def uncertainties(calculator: LieTransformerCalculator, systems: Sequence[Atoms]) -> np.ndarray:
    """Largest standard deviation of the force on an atom, for each structure, eV/Å.

    Raises:
        PropertyNotImplementedError: the calculator has no ensemble and no calibration of forces.
    """
    found = predict_many(calculator, systems, properties=("energy", "forces_std"))
    return np.array([np.linalg.norm(each["forces_std"], axis=1).max() for each in found])


def sorted_distances(atoms: Atoms) -> np.ndarray:
    """All N(N−1)/2 distances, sorted within each pair of elements.

    Example:
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> sorted_distances(water).round(2)
        array([1.53, 0.97, 0.97])
    """
    first, second = np.triu_indices(len(atoms), 1)
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))[first, second]
    pairs = np.sort(atoms.numbers[np.stack([first, second])], axis=0)
    ordered: np.ndarray = distances[np.lexsort((distances, pairs[1], pairs[0]))]
    return ordered


def difference(one: Atoms, other: Atoms) -> float:
    """Of two structures, Å; infinite if they are not of the same atoms.

    Example:
        >>> from ase.build import molecule
        >>> difference(molecule("H2O"), molecule("H2O")), difference(molecule("H2O"), molecule("H2"))
        (0.0, inf)
    """
    if sorted(one.numbers) != sorted(other.numbers):
        return float("inf")
    apart = sorted_distances(one) - sorted_distances(other)
    return float(np.sqrt(np.mean(apart**2))) if len(apart) else 0.0


def most_uncertain(
    uncertainty: Sequence[float] | np.ndarray,
    systems: Sequence[Atoms],
    *,
    count: int,
    distinct: float = 0.05,
    least: float = 0.0,
) -> list[int]:
    """Places of the structures to label, the most uncertain first.

    Args:
        uncertainty: of each structure; those that are not finite are left out.
        systems: the structures.
        count: how many, at most.
        distinct: Å; of structures that differ by less only the most uncertain is taken.
        least: no structure that is more certain.

    Example:
        >>> from ase.build import molecule
        >>> water, hydrogen = molecule("H2O"), molecule("H2")
        >>> most_uncertain([0.1, 0.3, 0.2], [water, water, hydrogen], count=3)
        [1, 2]
    """
    if count < 1 or distinct < 0:
        raise ValueError(f"count must be positive and distinct not negative, got {count} and {distinct}")
    chosen: list[int] = []
    scores = np.asarray(uncertainty, dtype=float)
    for place in np.argsort(-np.where(np.isfinite(scores), scores, -np.inf), kind="stable").tolist():
        if len(chosen) == count or not scores[place] >= least or not np.isfinite(scores[place]):
            break
        if all(difference(systems[place], systems[other]) >= distinct for other in chosen):
            chosen.append(place)
    return chosen
