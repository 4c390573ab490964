"""Batches of structures against one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import InputError, PropertyNotImplementedError

from lie_sim.calculators import LieTransformerCalculator, predict_many
from lie_sim.calculators.many import packed
from lie_sim.models import heads

SAME = 1e-11  # eV and eV/Å; round-off of sums in another order; measured: 4e-14


def mixture() -> list[Atoms]:
    crystal = bulk("Al", cubic=True)
    crystal.rattle(0.1, seed=0)
    return [molecule("CH3CH2OH"), crystal, molecule("H2O"), Atoms("H"), crystal * (1, 2, 1), molecule("C6H6")]


@pytest.mark.parametrize("max_atoms", [1, 20, 10_000])
def test_every_structure_gets_what_it_gets_alone(max_atoms, calculator) -> None:
    systems = mixture()
    together = calculator.predict_many(
        systems, properties=["energy", "energies", "forces"], max_atoms=max_atoms
    )
    for atoms, found in zip(systems, together, strict=True):
        alone = calculator.evaluate(atoms, ["energy", "energies", "forces"])
        assert set(found) == set(alone)
        for name, value in alone.items():
            assert np.abs(found[name] - value).max() < SAME, name


def test_stress_of_many_crystals(calculator) -> None:
    systems = [atoms for atoms in mixture() if atoms.cell.rank == 3]
    for atoms, found in zip(systems, predict_many(calculator, systems, properties=["stress"]), strict=True):
        assert np.abs(found["stress"] - calculator.evaluate(atoms, ["stress"])["stress"]).max() < SAME
    with pytest.raises(PropertyNotImplementedError, match=r"the systems \[0, 2, 3, 5\]"):
        predict_many(calculator, mixture(), properties=["stress"])


def test_charges_of_each_and_an_ensemble(random_potential) -> None:
    models = [random_potential(seed, inputs=("charge",)) for seed in range(2)]
    calculator = LieTransformerCalculator(models[0], ensemble=models[1:])
    neutral, charged = molecule("H2O"), molecule("H2O")
    charged.info["charge"] = 1
    found = predict_many(calculator, [neutral, charged])
    assert abs(found[0]["energy"] - found[1]["energy"]) > 1e-4
    assert found[1]["energy"] == pytest.approx(calculator.evaluate(charged)["energy"], abs=SAME)


def test_batches_hold_no_more_than_was_said_and_every_system_once() -> None:
    sizes = np.random.default_rng(0).integers(1, 40, 100).tolist()
    batches = list(packed(sizes, 64))
    assert sorted(place for batch in batches for place in batch) == list(range(100))
    assert all(len(batch) * max(sizes[k] for k in batch) <= 64 for batch in batches)
    assert list(packed([], 10)) == []
    assert list(packed([100], 10)) == [[0]]


def test_the_place_of_a_bad_structure_is_named(calculator) -> None:
    with pytest.raises(InputError, match="structure 1: this model does not know the element Xe"):
        predict_many(calculator, [molecule("H2O"), Atoms("Xe")])
    with pytest.raises(PropertyNotImplementedError, match="no property dipoles"):
        predict_many(calculator, [molecule("H2O")], properties=["dipoles"])
    with pytest.raises(ValueError, match="max_atoms must be at least 1"):
        predict_many(calculator, [molecule("H2O")], max_atoms=0)
    assert predict_many(calculator, []) == []


def test_a_generator_is_a_list_and_what_is_no_list_is_refused(calculator) -> None:
    names = ("H2O", "C6H6")
    found = predict_many(calculator, (molecule(name) for name in names))
    assert [len(each["forces"]) for each in found] == [3, 12]
    with pytest.raises(TypeError, match="got one Atoms"):
        predict_many(calculator, molecule("H2O"))
    with pytest.raises(TypeError, match=r"structure 1: expected ase.Atoms, got str|Type-check"):
        predict_many(calculator, [molecule("H2O"), "H2O"])
    with pytest.raises(TypeError, match=r"write \['energy'\]"):
        predict_many(calculator, [molecule("H2O")], properties="energy")


def test_what_depends_on_the_image_of_an_atom_is_told_of_no_crystal(random_potential) -> None:
    kinds = heads("dipole", "charges", r2="spatial_extent")
    calculator = LieTransformerCalculator(random_potential(heads=kinds, inputs=("charge",)))
    ion = bulk("Al", cubic=True)
    ion.info["charge"] = 1
    asked = ["energy", "charges", "dipole", "r2"]
    found = calculator.predict_many([molecule("H2O"), bulk("Al", cubic=True), ion], properties=asked)
    assert [np.isnan(each["r2"]) for each in found] == [False, True, True]
    assert [bool(np.isnan(each["dipole"]).all()) for each in found] == [False, False, True]
    assert all(np.isfinite(each["charges"]).all() and np.isfinite(each["energy"]) for each in found)


def test_heads_of_one_name_and_two_kinds_are_not_averaged(random_potential) -> None:
    models = [random_potential(0, heads=heads("dipole", gap=kind)) for kind in ("intensive", "extensive")]
    both = LieTransformerCalculator(models[0], ensemble=models[1:])
    assert "dipole" in both.implemented_properties
    assert "gap" not in both.implemented_properties
