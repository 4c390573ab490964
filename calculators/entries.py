"""Entries of ``atoms.info`` that a result depends on: kept with it, and compared before it is used again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase import Atoms


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


def _entry(atoms: Atoms, key: str) -> Any:
    return atoms.info.get(key, atoms.arrays.get(key))
