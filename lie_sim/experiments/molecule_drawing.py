"""How atoms are drawn: colours and radii of the elements, and which atoms are joined.

Shape letters: N atoms, P pairs.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

BOND_STRETCH = 1.25
"""Atoms are joined up to this multiple of the sum of their covalent radii: bonds of hot molecules are long."""


def bonds(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Pairs of atoms that are near enough for a bond, shape (P, 2); images of a periodic cell are not looked at.

    Example:
        >>> bonds(np.array([1, 1, 8]), np.array([[0, 0.76, -0.59], [0, -0.76, -0.59], [0, 0, 0.0]])).tolist()
        [[0, 2], [1, 2]]
    """
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    reach = BOND_STRETCH * (covalent_radii[numbers][:, None] + covalent_radii[numbers][None])
    return np.argwhere(np.triu(distance < reach, k=1))


def colour(number: int) -> str:
    """Of an element, as Jmol has it.

    Example:
        >>> colour(8)
        '#ff0d0d'
    """
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in jmol_colors[number])
