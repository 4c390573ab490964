"""Sets of structures as ASE atoms, with their reference values as the results of a calculator.

Shape letters: M structures, N atoms of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from lie_sim.data.molecules import PER_ATOM, Molecules

_INPUTS = ("charge", "spin")
_RESULTS = ("energy", "forces", "stress", "dipole", "charges")


def atoms_of(molecules: Molecules) -> list[Atoms]:
    """One ``Atoms`` for each structure; charge and spin are in ``info``, what ASE has no name for is too.

    Example:
        >>> from lie_sim.data.structure_files import from_atoms
        >>> hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"REF_energy": -31.7})
        >>> [each] = atoms_of(from_atoms([hydrogen]))
        >>> each.get_chemical_formula(), each.get_potential_energy()
        ('H2', -31.7)
    """
    return [_one(molecules, number) for number in range(len(molecules))]


def _one(molecules: Molecules, number: int) -> Atoms:
    rows = slice(int(molecules.offsets[number]), int(molecules.offsets[number + 1]))
    values: dict[str, Any] = {}
    for name, array in molecules.values.items():
        own = array[rows] if name in PER_ATOM else array[number]
        if np.isfinite(own).all():
            values[name] = own if np.ndim(own) else float(own)
    atoms = Atoms(
        molecules.numbers[rows],
        molecules.positions[rows],
        cell=molecules.cells[number],
        pbc=molecules.pbc[number],
        info={name: value for name, value in values.items() if name in _INPUTS or name not in _RESULTS},
    )
    results = {name: value for name, value in values.items() if name in _RESULTS}
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
