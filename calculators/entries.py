"""What a result depends on, compared before it is used again: a system, and entries of its ``info``."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes


def entries_of(atoms: Atoms, keys: Iterable[str]) -> dict[str, Any]:
    """Copies of some entries of ``atoms.info``, or ``atoms.arrays``; None where there is none.

    Example:
        >>> entries_of(Atoms("H", info={"charge": 1}), ["charge", "spin"])
        {'charge': 1, 'spin': None}
    """
    return {key: copy.deepcopy(_entry(atoms, key)) for key in keys}


def are_as_kept(kept: Mapping[str, Any], atoms: Atoms) -> bool:
    """Whether the entries of a system are those of :func:`entries_of`."""
    return all(same_entry(value, _entry(atoms, key)) for key, value in kept.items())


def same_entry(a: Any, b: Any) -> bool:
    """Whether two entries are the same, arrays included.

    Example:
        >>> same_entry(np.ones(2), np.ones(2)), same_entry(np.ones(2), None), same_entry([1], [1])
        (True, False, True)
    """
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b)
    return bool(a == b)


def changes_between(before: Atoms | None, atoms: Atoms, *, tol: float) -> list[str]:
    """What changed, as ``ase.calculators.calculator.compare_atoms`` says it, at a fifth of its time.

    Args:
        before: the system of a calculation; None if there was none.
        atoms: the system as it is.
        tol: changes that are not larger are none.

    Example:
        >>> changes_between(Atoms("H"), Atoms("H", [[0, 0, 1]]), tol=1e-15)
        ['positions']
    """
    if before is None:
        return list(all_changes)
    return [
        name
        for name in all_changes
        if not _same_values(*(_values(each, name) for each in (before, atoms)), tol=tol)
    ]


def _values(atoms: Atoms, name: str) -> np.ndarray | None:
    lattice: dict[str, np.ndarray] = {"cell": atoms.cell.array, "pbc": atoms.pbc}
    return lattice[name] if name in lattice else atoms.arrays.get(name)


def _same_values(a: np.ndarray | None, b: np.ndarray | None, *, tol: float) -> bool:
    if a is None or b is None or a.shape != b.shape:
        return a is b
    return bool((a == b).all()) or bool((np.abs(np.subtract(a, b, dtype=float)) <= tol).all())


def _entry(atoms: Atoms, key: str) -> Any:
    return atoms.info.get(key, atoms.arrays.get(key))
