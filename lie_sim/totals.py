"""Total charge and spin of a structure, by one rule wherever a structure of ASE is read.

    charge   info["charge"], else the sum of the initial charges, in e
    spin     info["spin"], else the sum of the initial magnetic moments: unpaired electrons

Codes differ in which of the two they read, so a structure may say both, if they agree.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

ARRAYS = {"charge": "initial_charges", "spin": "initial_magmoms"}
_OF_ONE_TOTAL = 1e-3


def total_of(atoms: Atoms, name: str) -> Any:
    """What a structure says of its total charge or spin; None if it says nothing.

    Args:
        atoms: the structure.
        name: "charge" or "spin", of ``info`` or by its array; another name is looked up in ``info``.

    Raises:
        ValueError: the structure says two charges or two spins.

    Example:
        >>> from ase import Atoms
        >>> total_of(Atoms("OH", charges=[-1, 0]), "charge"), total_of(Atoms("OH"), "charge")
        (-1.0, None)
    """
    given = atoms.info.get(name)
    array = atoms.arrays.get(ARRAYS.get(name, ""))
    if array is None or array.ndim != 1 or not array.any():  # moments of three components have no one spin
        return given
    total = round(float(array.sum()), 6)
    if given is None:
        return total
    if isinstance(given, Real) and abs(total - float(given)) > _OF_ONE_TOTAL:
        raise ValueError(
            f"info[{name!r}] is {given}, but {ARRAYS[name]} sum to {total:g}: leave one of the two away"
        )
    return given
