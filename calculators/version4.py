"""The calculator in the form of ASE 4: no state, ``evaluate(atoms, properties)`` and nothing else.

ASE 3.29 has this interface as the experimental ``ase._4``; importing this module is an error where that is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from lie_sim.calculators.calculator import LieTransformerCalculator

try:
    from ase._4.calculators.calculator import BaseCalculator
    from ase._4.calculators.results import CalculationResults
except ImportError as error:  # pragma: no cover - depends on the version of ASE
    raise ImportError(
        "this ASE has no experimental version 4 interface (ase._4, since 3.29): use LieTransformerCalculator, "
        "whose evaluate(atoms, properties) returns a dictionary"
    ) from error


class StatelessCalculator(BaseCalculator):
    """A :class:`~lie_sim.calculators.LieTransformerCalculator` that keeps no results.

    Args:
        model: as of the calculator.
        options: as of the calculator.

    Example:
        >>> from ase.build import molecule
        >>> from lie_sim.models import AtomicPotential
        >>> surface = StatelessCalculator(AtomicPotential.default(elements=(1, 8)))
        >>> found = surface.evaluate(molecule("H2O"), ["energy", "forces"])
        >>> found.properties["forces"].shape
        (3, 3)
    """

    def __init__(self, model: Any, **options: Any) -> None:
        self.inner = LieTransformerCalculator(model, **options)
        self.implemented_properties = list(self.inner.implemented_properties)
        super().__init__(self.inner.parameters)

    def _get_name(self) -> str:
        return self.inner.name

    def todict(self) -> dict[str, Any]:
        """What identifies the model."""
        return self.inner.todict()

    def evaluate(self, atoms: Any, properties: Sequence[str] | None = None) -> CalculationResults:
        """The properties of a system; those that ASE has no name for are in the metadata.

        Raises:
            InputError: the system is impossible or unknown to the model.
            PropertyNotImplementedError: there is no such property.
        """
        found = self.inner.evaluate(version3(atoms), ["energy"] if properties is None else properties)
        known = CalculationResults.recognised_properties
        others = {name: value for name, value in found.items() if name not in known}
        return CalculationResults(
            metadata={"calculator": self.todict(), **others},
            properties={name: value for name, value in found.items() if name in known},
        )


def version3(atoms: Any) -> Atoms:
    """The ``Atoms`` of ASE 3 in place of those of ASE 4."""
    if isinstance(atoms, Atoms):
        return atoms
    kept = {"cell": atoms.cell, "pbc": atoms.pbc, "info": dict(atoms.info), "masses": atoms.get_masses()}
    return Atoms(atoms.numbers, atoms.positions, **kept)
