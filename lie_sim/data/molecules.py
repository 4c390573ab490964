"""Sets of molecules and crystals with their reference values, in memory and on disk.

Atoms of all structures stand in a row; structure k has the atoms ``offsets[k]`` to ``offsets[k + 1]``. What a set does
not know is absent, what single structures do not know is NaN. Units: Å, eV, eV/Å, eV/Å³, e·Å; other targets as their
name says.

Shape letters: M structures, A atoms of all structures together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.errors import DataError

_KIND = "molecules"
_LATTICE = ("cells", "pbc")
"""Left out of a file where no structure is periodic."""
_REQUIRED = ("numbers", "positions", "offsets", *_LATTICE)
PER_STRUCTURE = {"energy": (), "stress": (6,), "dipole": (3,), "charge": (), "spin": ()}
"""Reference values and inputs of a structure, and their shape."""
PER_ATOM = {"forces": (3,), "charges": ()}
"""Reference values of an atom, and their shape."""


@dataclass(frozen=True)
class Molecules:
    """M structures.

    Args:
        numbers: atomic numbers, shape (A,), int64.
        positions: Å, shape (A, 3).
        offsets: where structures begin and end, shape (M + 1,), int64.
        cells: lattice vectors in rows in Å, 0 where there are none, shape (M, 3, 3).
        pbc: periodic directions, shape (M, 3).
        values: reference values and inputs by name, shapes (M, …) for ``PER_STRUCTURE`` and other targets, (A, …) for
            ``PER_ATOM``.
        metadata: how they were made: anything JSON can hold.

    Example:
        >>> two = Molecules(
        ...     numbers=np.array([1, 1, 2]), positions=np.zeros((3, 3)), offsets=np.array([0, 2, 3]),
        ...     cells=np.zeros((2, 3, 3)), pbc=np.zeros((2, 3), bool), values={"energy": np.array([-31.7, -79.0])},
        ... )
        >>> len(two), two[[1]].numbers.tolist(), two.sizes.tolist()
        (2, [2], [2, 1])
    """

    numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        atoms, count = len(self.numbers), len(self.offsets) - 1
        if (
            count < 0
            or self.offsets[0] != 0
            or self.offsets[-1] != atoms
            or (np.diff(self.offsets) < 1).any()
        ):
            raise ValueError(
                f"offsets must rise from 0 to the number of atoms {atoms}, got {self.offsets[:5]} …"
            )
        expected = {"positions": (atoms, 3), "cells": (count, 3, 3), "pbc": (count, 3)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")
        for name, value in self.values.items():
            rows = atoms if name in PER_ATOM else count
            shape = (rows, *(PER_STRUCTURE | PER_ATOM).get(name, value.shape[1:]))
            if value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {value.shape}")

    def __len__(self) -> int:
        """M."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Number of atoms of each structure, shape (M,)."""
        return np.diff(self.offsets)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(np.unique(self.numbers).tolist())

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows of the atoms of these structures, in order."""
        sizes = self.sizes[indices]
        ends = np.cumsum(sizes)
        rows: np.ndarray = np.arange(int(sizes.sum())) + np.repeat(
            self.offsets[indices] - (ends - sizes), sizes
        )
        return rows

    def __getitem__(self, index: slice | Sequence[int] | np.ndarray) -> Molecules:
        """Select structures by a slice, by indices or by a boolean mask, in the order given."""
        chosen = np.arange(len(self))[index]
        rows = self.rows(chosen)
        values = {name: value[rows if name in PER_ATOM else chosen] for name, value in self.values.items()}
        return replace(
            self,
            numbers=self.numbers[rows],
            positions=self.positions[rows],
            offsets=np.concatenate([[0], np.cumsum(self.sizes[chosen])]),
            cells=self.cells[chosen],
            pbc=self.pbc[chosen],
            values=values,
        )

    def composition(self, elements: Sequence[int]) -> np.ndarray:
        """How many atoms of each element a structure has, shape (M, number of elements)."""
        structure = np.repeat(np.arange(len(self)), self.sizes)
        counts = [np.bincount(structure[self.numbers == z], minlength=len(self)) for z in elements]
        return np.stack(counts, 1)

    def save(self, path: str | Path) -> str:
        """Write to a safetensors file, atomically; returns the digest of the content."""
        arrays = {name: getattr(self, name) for name in _REQUIRED} | {
            "numbers": self.numbers.astype(np.uint8)
        }
        if not self.pbc.any() and not self.cells.any():
            arrays = {name: array for name, array in arrays.items() if name not in _LATTICE}
        arrays |= {f"values.{name}": value for name, value in self.values.items()}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return save_tensors(Path(path), tensors, self.metadata, kind=_KIND)

    @classmethod
    def load(cls, path: str | Path) -> Molecules:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, damaged or something else.
        """
        tensors, metadata = load_tensors(Path(path), kind=_KIND)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        missing = [name for name in _REQUIRED if name not in arrays and name not in _LATTICE]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}: it was not written by Molecules.save")
        count = max(0, len(arrays["offsets"]) - 1)
        open_ = {"cells": np.zeros((count, 3, 3)), "pbc": np.zeros((count, 3), dtype=bool)}
        arrays = open_ | arrays | {"numbers": arrays["numbers"].astype(np.int64)}
        values = {name.removeprefix("values."): x for name, x in arrays.items() if name.startswith("values.")}
        try:
            return cls(**{name: arrays[name] for name in _REQUIRED}, values=values, metadata=metadata)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error


def joined(parts: Sequence[Molecules], *, metadata: Mapping[str, Any] | None = None) -> Molecules:
    """Several sets as one; a value that one of them lacks is NaN there.

    Example:
        >>> cell, pbc = np.zeros((1, 3, 3)), np.zeros((1, 3), bool)
        >>> one = Molecules(np.array([1]), np.zeros((1, 3)), np.array([0, 1]), cell, pbc)
        >>> len(joined([one, one, one]))
        3
    """
    if not parts:
        raise ValueError("no structures to join")
    names = sorted({name for part in parts for name in part.values})
    shapes = {
        name: next(part.values[name].shape[1:] for part in parts if name in part.values) for name in names
    }

    def value(part: Molecules, name: str) -> np.ndarray:
        rows = len(part.numbers) if name in PER_ATOM else len(part)
        return part.values.get(name, np.full((rows, *shapes[name]), np.nan))

    sizes = np.concatenate([part.sizes for part in parts])
    return Molecules(
        numbers=np.concatenate([part.numbers for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        cells=np.concatenate([part.cells for part in parts]),
        pbc=np.concatenate([part.pbc for part in parts]),
        values={name: np.concatenate([value(part, name) for part in parts]) for name in names},
        metadata=metadata or {},
    )
