"""Many structures at once: batches of similar size, the results in the order that was given.

    padded atoms of a batch = (number of systems) · (atoms of the largest) ≤ max_atoms

Shape letters: B batch, N atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.calculator import InputError, PropertyNotImplementedError

from lie_sim.calculators.conversion import structures
from lie_sim.calculators.results import OF_A_LATTICE

if TYPE_CHECKING:
    from lie_sim.calculators.calculator import LieTransformerCalculator


def packed(sizes: Sequence[int], max_atoms: int) -> Iterator[list[int]]:
    """Places of systems that go together, similar sizes in one batch; a system larger than ``max_atoms`` goes alone.

    Args:
        sizes: atoms of each system.
        max_atoms: atoms of a batch, padding included.

    Example:
        >>> list(packed([3, 9, 4, 9], max_atoms=18))
        [[0, 2], [1, 3]]
    """
    if max_atoms < 1:
        raise ValueError(f"max_atoms must be at least 1, got {max_atoms}")
    batch: list[int] = []
    for place in sorted(range(len(sizes)), key=sizes.__getitem__):
        if batch and (len(batch) + 1) * sizes[place] > max_atoms:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def predict_many(
    calculator: LieTransformerCalculator,
    systems: Iterable[Atoms],
    *,
    properties: Sequence[str] | None = None,
    max_atoms: int = 512,
) -> list[dict[str, Any]]:
    """Properties of many structures, several at a time.

    Args:
        calculator: the model, its dtype and its device.
        systems: of any sizes, periodic or not; a generator is read to its end first.
        properties: of ``calculator.implemented_properties``; None for its ``usual_properties``.
        max_atoms: atoms of a batch, padding included; lower it if memory runs out.

    Returns:
        One dictionary a system, in the order given, with the units of the calculator. Beside round-off it is what
        ``calculator.evaluate`` gives.

    Raises:
        TypeError: a system is no ``Atoms``, or ``properties`` is a single string.
        InputError: a system is impossible; the message begins with its place in the list.
        PropertyNotImplementedError: there is no such property, or a system has no volume for its stress.

    Example:
        >>> from ase.build import molecule
        >>> from lie_sim.calculators import LieTransformerCalculator
        >>> from lie_sim.models import AtomicPotential
        >>> calculator = LieTransformerCalculator(AtomicPotential.default(elements=(1, 8)))
        >>> found = predict_many(calculator, [molecule("H2O"), molecule("H2"), molecule("H2O2")])
        >>> [each["forces"].shape for each in found]
        [(3, 3), (2, 3), (4, 3)]
    """
    systems = listed(systems)
    properties = calculator.usual_properties if properties is None else properties
    calculator.require(properties)
    require_volumes(systems, properties)
    results: list[dict[str, Any]] = [{} for _ in systems]
    for places in packed([len(atoms) for atoms in systems], max_atoms):
        for place, found in zip(
            places, _batch(calculator, [systems[k] for k in places], places, set(properties)), strict=True
        ):
            results[place] = {name: found[name] for name in properties}
    return results


def listed(systems: Iterable[Atoms]) -> list[Atoms]:
    """The systems as a list.

    Raises:
        TypeError: they are one ``Atoms``, or one of them is none.
    """
    if isinstance(systems, Atoms):
        raise TypeError("expected a list of Atoms, got one Atoms: write [atoms]")
    systems = list(systems)
    for place, atoms in enumerate(systems):
        if not isinstance(atoms, Atoms):
            raise TypeError(f"structure {place}: expected ase.Atoms, got {type(atoms).__name__}")
    return systems


def require_volumes(systems: Sequence[Atoms], properties: Sequence[str]) -> None:
    """Refuse a stress of systems that have no volume.

    Raises:
        PropertyNotImplementedError: it says which.
    """
    flat = [place for place, atoms in enumerate(systems) if atoms.cell.rank < 3]
    if flat and set(properties) & OF_A_LATTICE:
        which = f", which the systems {flat[:5]} do not have" if len(systems) > 1 else ""
        raise PropertyNotImplementedError(
            f"the stress needs a volume{which}: give three lattice vectors (atoms.center(vacuum=…))"
        )


def _batch(
    calculator: LieTransformerCalculator, systems: list[Atoms], places: list[int], wanted: set[str]
) -> list[dict[str, Any]]:
    try:
        batch = structures(
            systems,
            calculator.potentials[0],
            dtype=calculator.torch_dtype,
            device=calculator.torch_device,
            list_pairs=bool(wanted & OF_A_LATTICE),
        )
    except InputError:
        for place, atoms in zip(places, systems, strict=True):  # find the one, for the message
            try:
                structures([atoms], calculator.potentials[0], dtype=calculator.torch_dtype)
            except InputError as error:
                raise InputError(f"structure {place}: {error}") from error
        raise
    return calculator.answers(batch, systems, wanted)
