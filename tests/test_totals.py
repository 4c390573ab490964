"""Total charge and spin: one rule for labelling, training, the calculator and the server."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import InputError

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.conversion import global_input
from lie_sim.calculators.wire import decode_request, encode_request
from lie_sim.data.labelling import with_total_charge
from lie_sim.data.structure_files import from_atoms
from lie_sim.errors import DataError
from lie_sim.models import AtomicPotential
from lie_sim.totals import total_of

SAYS = [
    (None, None, None),
    (-1, None, -1),
    (None, [-1, 0.5], -0.5),
    (None, [0, 0], None),
    (1, [0.4, 0.6], 1),
    (0, [0.5, -0.5], 0),
]
"""Number in ``info``, numbers of the atoms, what they say."""
ARRAYS = {"charge": "charges", "spin": "magmoms"}


def hydroxide(number: float | None = None, array: list | None = None, name: str = "charge") -> Atoms:
    """The same for charge and for spin."""
    atoms = Atoms("OH", [[0, 0, 0], [0.97, 0, 0]], **{ARRAYS[name]: array})
    if number is not None:
        atoms.info[name] = number
    return atoms


@pytest.mark.parametrize("name", ["charge", "spin"])
@pytest.mark.parametrize(("number", "array", "expected"), SAYS)
def test_everyone_reads_the_same(
    name: str, number: float | None, array: list | None, expected: float | None
) -> None:
    atoms = hydroxide(number, array, name)
    assert total_of(atoms, name) == expected
    assert global_input(atoms, name) == (expected or 0.0)
    assert with_total_charge(atoms).info.get(name) == expected
    sent = decode_request(encode_request(atoms, ["energy"], inputs=(name,)), max_atoms=9).atoms
    assert sent.info.get(name) == expected
    assert (name in from_atoms([atoms]).values) == (expected is not None)


@pytest.mark.parametrize("name", ["charge", "spin"])
def test_two_totals_are_refused_by_everyone(name: str) -> None:
    atoms = hydroxide(-1, [1, 0], name)
    said = rf"info\['{name}'\] is -1, but initial_\w+ sum to 1: leave one of the two away"
    with pytest.raises(ValueError, match=said):
        with_total_charge(atoms)
    with pytest.raises(InputError, match=said):
        global_input(atoms, name)
    with pytest.raises(InputError, match=said):
        encode_request(atoms, ["energy"], inputs=(name,))
    with pytest.raises(DataError, match=f"structure 0: {said}"):
        from_atoms([atoms])


def test_moments_of_three_components_have_no_one_spin() -> None:
    assert total_of(Atoms("OH", magmoms=np.ones((2, 3))), "spin") is None


def test_a_model_sees_initial_charges_and_their_change() -> None:
    model = AtomicPotential.default(elements=(1, 8), inputs=("charge",)).double()
    atoms = hydroxide(None, [-1, 0])
    atoms.calc = LieTransformerCalculator(model)
    ion = atoms.get_potential_energy()
    assert ion == LieTransformerCalculator(model).evaluate(hydroxide(-1))["energy"]
    atoms.set_initial_charges([0, 0])
    assert abs(atoms.get_potential_energy() - ion) > 1e-4


def test_initial_charges_that_a_model_does_not_read_are_said() -> None:
    model = AtomicPotential.default(elements=(1, 8))
    with pytest.warns(UserWarning, match="charge of these atoms is -1, but this model was trained without"):
        LieTransformerCalculator(model).evaluate(hydroxide(None, [-1, 0]))


def test_structures_beside_an_ion_are_neutral() -> None:
    found = from_atoms([hydroxide(), hydroxide(-1)])
    assert found.values["charge"].tolist() == [0.0, -1.0]
