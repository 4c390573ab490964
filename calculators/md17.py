"""Files of the MD17 family for ``ase.io.read``: frames of one molecule with energies and forces, as npz.

Reference: Chmiela et al., Science Advances 3 (2017) e1603015; Christensen, von Lilienfeld, Mach. Learn.: Sci. Technol.
1 (2020) 045018 (rMD17).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from lie_sim.calculators.from_data import atoms_of
from lie_sim.data.structure_files import read_structures


def read_md17(filename: str, index: Any = -1, **options: Any) -> list[Atoms]:
    """Called by ``ase.io.read``.

    Args:
        filename: of the npz file.
        index: which frames, a number or a slice.
        options: ``energy_unit`` and ``length_unit`` where the file does not say them.

    Raises:
        DataError: the file is no such file, or does not say its units.
    """
    molecules = read_structures(filename, **options)
    chosen = np.arange(len(molecules))[index]
    return atoms_of(molecules[np.atleast_1d(chosen)])
