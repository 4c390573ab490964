"""The calculator in the form of ASE 4: no state, ``evaluate(atoms, properties)`` and nothing else.

ASE 3.29 has this interface as the experimental ``ase._4``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from ase import Atoms

from lie_sim.calculators.calculator import LieTransformerCalculator

_Base: Any = object
if find_spec("ase._4") is not None:
    from ase._4.calculators.calculator import BaseCalculator

    _Base = BaseCalculator


class StatelessCalculator(_Base):
    """A :class:`~lie_sim.calculators.LieTransformerCalculator` that keeps no results.

    Args:
        model: as of the calculator.
        options: as of the calculator.

    Raises:
        ImportError: this ASE has no such interface.

    Example:
        >>> from ase.build import molecule
        >>> from lie_sim.models import AtomicPotential
        >>> surface = StatelessCalculator(AtomicPotential.default(elements=(1, 8)))
        >>> found = surface.evaluate(molecule("H2O"), ["energy", "forces"])
        >>> found.properties["forces"].shape
        (3, 3)
    """

    def __init__(self, model: Any, **options: Any) -> None:
        if _Base is object:
            raise ImportError(
                "this ASE has no experimental version 4 interface (ase._4, since 3.29): use LieTransformerCalculator, "
                "whose evaluate(atoms, properties) returns a dictionary"
            )
        self.inner = LieTransformerCalculator(model, **options)
        self.implemented_properties = list(self.inner.implemented_properties)
        super().__init__(self.inner.parameters)

    def _get_name(self) -> str:
        return self.inner.name

    def todict(self) -> dict[str, Any]:
        """What identifies the model."""
        return self.inner.todict()

    def evaluate(self, atoms: Any, properties: Sequence[str] | None = None) -> Any:
        """The properties of a system; those that ASE has no name for are in the metadata.

        Raises:
            InputError: the system is impossible or unknown to the model.
            PropertyNotImplementedError: there is no such property.
        """
        from ase._4.calculators.results import CalculationResults

        found = self.inner.evaluate(version3(atoms), ["energy"] if properties is None else properties)
        known = CalculationResults.recognised_properties
        others = {name: value for name, value in found.items() if name not in known}
        return CalculationResults(
            metadata={"calculator": self.todict(), **others},
            properties={name: value for name, value in found.items() if name in known},
        )


def version3(atoms: Any) -> Atoms:
    """The ``Atoms`` of ASE 3 in place of those of ASE 4, with all their arrays."""
    if isinstance(atoms, Atoms):
        return atoms
    old = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))
    old.arrays |= {name: array.copy() for name, array in atoms.arrays.items()}
    return old
