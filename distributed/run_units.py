"""Units of a run for those who read it elsewhere: those of atoms have names, those of other systems have none.

t           fs, of atoms; frames hold them in ASE's own unit, Å √(u/eV) = 10.18 fs
q, p, m     Å, √(u eV), u
energy      eV
"""

from __future__ import annotations

import numpy as np
from ase import units

from lie_sim.distributed.run import Run

OF_ATOMS = {"q": "Angstrom", "p": "sqrt(u eV)", "energy": "eV", "times": "fs", "masses": "u"}
"""By the name of an array."""


def units_of(run: Run) -> dict[str, str]:
    """Of the arrays of a run of atoms; of others nothing is known."""
    return OF_ATOMS if run.manifest.model["kind"] == "atoms" else {}


def times_and_unit(run: Run, times: np.ndarray) -> tuple[np.ndarray, str]:
    """Times and their unit: atoms in femtoseconds, others in the unit of their system, which has no name."""
    return (times / units.fs, OF_ATOMS["times"]) if units_of(run) else (times, "")
