"""Names of elements, for messages."""

from __future__ import annotations

from collections.abc import Iterable


def symbols(numbers: Iterable[int]) -> str:
    """Elements by their symbols; a number that is none stays one.

    Example:
        >>> symbols([1, 6, 200])
        'H, C, 200'
    """
    from ase.data import chemical_symbols  # takes its time, and few messages need it

    return ", ".join(chemical_symbols[z] if 0 <= z < len(chemical_symbols) else str(z) for z in numbers)
