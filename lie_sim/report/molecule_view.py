"""A molecule to turn on the page: atoms, bonds, and how wrong the force on every atom is.

Shape letters: N atoms, P bonds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_ATOMS = 400
"""Atoms of a view; a drawing of more would be a ball of wool."""


@dataclass(frozen=True, eq=False)
class MoleculeView:
    """One structure and its errors.

    Args:
        label: what the selector shows.
        group: heading of the selector under which it stands, such as ``"largest errors"``.
        symbols: chemical symbol of every atom.
        positions: in Å, shape (N, 3).
        bonds: pairs of atoms, shape (P, 2), int.
        force_error: predicted minus reference force in eV/Å, shape (N, 3); None where there are no forces.
        facts: name to text, shown beside the drawing.
        colours: chemical symbol to colour ``#rrggbb``; others are grey.
        radii: chemical symbol to radius in Å; others are 0.7.

    Raises:
        ValueError: the shapes do not fit together, or there are more than ``MAX_ATOMS`` atoms.

    Example:
        >>> view = MoleculeView("H2", "best", ["H", "H"], np.array([[0, 0, 0], [0, 0, 0.74]]), np.array([[0, 1]]))
        >>> view.bonds.tolist()
        [[0, 1]]
    """

    label: str
    group: str
    symbols: list[str]
    positions: np.ndarray
    bonds: np.ndarray
    force_error: np.ndarray | None = None
    facts: dict[str, str] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    radii: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", np.asarray(self.positions, dtype=float))
        object.__setattr__(self, "bonds", np.asarray(self.bonds, dtype=int).reshape(-1, 2))
        if self.force_error is not None:
            object.__setattr__(self, "force_error", np.asarray(self.force_error, dtype=float))
        self._check()

    def _check(self) -> None:
        count, where = len(self.symbols), f"molecule {self.label!r}"
        if not 0 < count <= MAX_ATOMS:
            raise ValueError(f"{where}: from 1 to {MAX_ATOMS} atoms can be shown, got {count}")
        shapes = {"positions": self.positions.shape}
        if self.force_error is not None:
            shapes["force_error"] = self.force_error.shape
        for name, shape in shapes.items():
            if shape != (count, 3):
                raise ValueError(f"{where}: {name} must have the shape ({count}, 3); got {shape}")
        if not np.isfinite(self.positions).all():
            raise ValueError(f"{where}: positions must be finite")
        if self.bonds.size and not (self.bonds.min() >= 0 and self.bonds.max() < count):
            raise ValueError(f"{where}: bonds must join atoms from 0 to {count - 1}")

    @classmethod
    def from_plain(cls, item: dict[str, Any]) -> MoleculeView:
        """Undo what JSON did to it."""
        arrays = {name: np.asarray(item[name], dtype=float) for name in ("positions", "bonds")}
        error = item["force_error"]
        if error is not None:
            error = np.asarray(error, dtype=float)
        return cls(**{**item, **arrays, "force_error": error})

    def payload(self) -> dict[str, Any]:
        """What the page's script draws: centred positions, in order the colours and radii of the atoms."""
        centred = self.positions - (self.positions.min(0) + self.positions.max(0)) / 2
        return {
            "label": self.label,
            "group": self.group,
            "symbols": self.symbols,
            "positions": np.round(centred, 3).tolist(),
            "bonds": self.bonds.tolist(),
            "error": None if self.force_error is None else [_rounded(row) for row in self.force_error],
            "facts": self.facts,
            "colours": {z: self.colours.get(z, "#9a9a9a") for z in set(self.symbols)},
            "radii": {z: self.radii.get(z, 0.7) for z in set(self.symbols)},
        }


def _rounded(row: np.ndarray) -> list[float | None]:
    """Four significant digits; None where the model gave no finite force."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in row.tolist()]
