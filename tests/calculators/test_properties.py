"""Molecular properties through ASE: names, shapes, sums, slopes, and what a model without a head says."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.models import heads
from lie_sim.testing.measures import random_orthogonal

HEADS = heads("charges", "dipole", "polarizability", gap="intensive")
SAME = 1e-12
SLOPE_ERROR = 1e-8  # e, differences of fourth order over 1e-3 Å; measured: 4e-10
SUM_ERROR = 1e-12  # e; measured: 1e-15


@pytest.fixture
def told(random_potential) -> LieTransformerCalculator:
    return LieTransformerCalculator(random_potential(inputs=("charge",), heads=HEADS))


def shaken(name: str = "CH3OH", charge: int = 0):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    atoms.info["charge"] = charge
    return atoms


def test_properties_have_names_shapes_and_one_evaluation(told) -> None:
    atoms = shaken()
    atoms.calc = told
    assert atoms.get_dipole_moment().shape == (3,)
    assert atoms.get_charges().shape == (6,)
    assert told.results["polarizability"].shape == (3, 3)
    assert isinstance(told.results["gap"], float)
    atoms.get_forces()
    assert told.evaluations == 1
    found = told.evaluate(atoms, ["gap", "charges"])
    assert set(found) == {"gap", "charges"}
    assert set(HEADS) | {"born_effective_charges"} <= set(told.implemented_properties)


@pytest.mark.parametrize("charge", [0, 1])
def test_charges_sum_to_the_charge_and_born_charges_too(told, charge: int) -> None:
    atoms = shaken(charge=charge)
    found = told.evaluate(atoms, ["charges", "born_effective_charges"])
    assert abs(found["charges"].sum() - charge) < SUM_ERROR
    assert found["born_effective_charges"].shape == (6, 3, 3)
    assert np.abs(found["born_effective_charges"].sum(0) - charge * np.eye(3)).max() < SUM_ERROR


def test_born_charges_are_the_slope_of_the_dipole(told) -> None:
    atoms, step = shaken(charge=1), 1e-3
    exact = told.evaluate(atoms, ["born_effective_charges"])["born_effective_charges"]
    worst = 0.0
    for atom, b in np.ndindex(len(atoms), 3):
        slope = 0.0
        for far, weight in ((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12)):
            moved = atoms.copy()
            moved.positions[atom, b] += far * step
            centre = moved.numbers @ moved.positions / moved.numbers.sum()
            slope = slope + weight / step * (told.evaluate(moved, ["dipole"])["dipole"] + centre)
        worst = max(worst, np.abs(exact[atom, :, b] - slope).max())
    assert worst < SLOPE_ERROR, f"off by {worst:.1e} e, expected less than {SLOPE_ERROR:.0e}"
    assert np.abs(exact - exact.transpose(0, 2, 1)).max() > 1e-3, (
        "symmetric ones cannot tell the two directions"
    )


def test_properties_turn_with_the_molecule(told) -> None:
    atoms, turn = shaken(), random_orthogonal(0, reflection=True)
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T + 5.0
    a, b = (told.evaluate(each, [*HEADS, "born_effective_charges"]) for each in (atoms, turned))
    assert np.abs(b["dipole"] - turn @ a["dipole"]).max() < SAME
    assert np.abs(b["polarizability"] - turn @ a["polarizability"] @ turn.T).max() < SAME
    assert np.abs(b["born_effective_charges"] - turn @ a["born_effective_charges"] @ turn.T).max() < SAME
    assert np.abs(b["charges"] - a["charges"]).max() < SAME
    assert abs(b["gap"] - a["gap"]) < SAME


def test_batches_and_ensembles_tell_them_too(told, random_potential) -> None:
    systems, names = [shaken(), shaken("H2O", 1), shaken("C2H6")], [*HEADS, "born_effective_charges"]
    for atoms, found in zip(systems, told.predict_many(systems, properties=names), strict=True):
        alone = told.evaluate(atoms, names)
        assert all(np.abs(found[name] - alone[name]).max() < 1e-11 for name in names)
    second = random_potential(1, inputs=("charge",), heads=heads("dipole"))
    both = LieTransformerCalculator(told.potentials[0], ensemble=[second])
    each = [
        LieTransformerCalculator(model).evaluate(systems[0], ["dipole"])["dipole"]
        for model in both.potentials
    ]
    assert np.abs(both.evaluate(systems[0], ["dipole"])["dipole"] - np.mean(each, 0)).max() < SAME
    assert "gap" not in both.implemented_properties, "one of the two does not know it"


def test_a_missing_head_is_said(calculator) -> None:
    atoms = shaken()
    atoms.calc = calculator
    with pytest.raises(
        PropertyNotImplementedError, match=r"no property dipole: this model gives energy, .* a head"
    ):
        atoms.get_dipole_moment()
    with pytest.raises(PropertyNotImplementedError, match="no property charges"):
        calculator.evaluate(atoms, ["charges"])
    assert calculator.evaluations == 0


def test_a_model_of_properties_alone_has_no_energy(random_potential) -> None:
    calculator = LieTransformerCalculator(random_potential(heads=heads(gap="intensive"), with_energy=False))
    atoms = shaken()
    atoms.calc = calculator
    assert isinstance(calculator.get_property("gap", atoms), float)
    assert set(calculator.results) == {"gap"}
    with pytest.raises(PropertyNotImplementedError, match="no property energy: this model gives gap"):
        atoms.get_potential_energy()
    assert [set(found) for found in (calculator.evaluate(atoms), *calculator.predict_many([atoms]))] == 2 * [
        {"gap"}
    ]
    with pytest.raises(PropertyNotImplementedError, match="no property energy"):
        calculator.predict_many([atoms], properties=["energy"])
