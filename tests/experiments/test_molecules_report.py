"""What the report of a potential says is what the errors say."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.data import chemical_symbols

from lie_sim.data.structure_files import from_atoms
from lie_sim.experiments.molecule_drawing import bonds
from lie_sim.experiments.molecules import summary
from lie_sim.experiments.molecules_report import (
    BEST,
    WORST,
    breakdown,
    formula,
    parity,
    ranking,
    references,
    views,
)
from lie_sim.models import AtomicPotential
from lie_sim.report import ReportData
from lie_sim.report.molecule_view import MAX_ATOMS


@pytest.fixture(scope="module")
def test_set():
    random, systems = np.random.default_rng(0), []
    for k in range(20):
        atoms = molecule(("H2O", "CH3OH")[k % 2])
        atoms.info["REF_energy"] = -400.0 + random.normal()
        atoms.arrays["REF_forces"] = random.normal(size=(len(atoms), 3)) * 2
        systems.append(atoms)
    return from_atoms(systems)


@pytest.fixture(scope="module")
def found(test_set):
    random = np.random.default_rng(1)
    off = 0.02 * random.normal(size=test_set.values["forces"].shape)
    return {"energy": 0.01 * random.normal(size=20), "forces": off}


def test_figures_of_the_plots_are_those_of_the_results(test_set, found) -> None:
    results = summary(found, test_set)
    potential = AtomicPotential.default(elements=(1, 6, 8), reference_energies=(-13.0, -1000.0, -2000.0))
    energy, force = parity(potential, found, test_set)
    assert energy.figures["mae"] == pytest.approx(
        1000 * results["energy_atom_mae"], rel=1e-9
    )  # of differences
    assert force.figures["mae"] == pytest.approx(1000 * results["force_mae"], rel=1e-9)
    assert force.figures["rmse"] == pytest.approx(1000 * results["force_rmse"], rel=1e-9)
    assert (energy.unit, energy.error_unit, force.error_unit) == ("eV/atom", "meV/atom", "meV/Å")
    expected = references(potential, test_set)
    assert expected[:2] == pytest.approx([-2026.0, -3052.0])
    true = (test_set.values["energy"] - expected) / test_set.sizes
    assert energy.stands_for.sum() == 20
    assert np.isin(energy.true, true).all()


def test_tables_hold_every_atom_once(test_set, found) -> None:
    by_element, by_size, worst = breakdown(found, test_set, np.arange(100, 120))
    assert [row[0] for row in by_element.rows] == ["all", "H", "C", "O"]
    assert [table.bar for table in (by_element, by_size, worst)] == [
        "MAE, meV/Å",
        "MAE, meV/Å",
        "force RMSE, meV/Å",
    ]
    for rows in (by_element.rows[1:], by_size.rows):
        assert sum(row[1] for row in rows) == len(test_set.numbers)
    hydrogen = np.abs(found["forces"][test_set.numbers == 1]).mean()
    assert by_element.rows[1][2] == pytest.approx(1000 * hydrogen, rel=5e-3)  # three digits
    first = ranking(found, test_set)[0]
    assert worst.rows[0][0] == f"{100 + first}: {formula(test_set, first)}"
    rmse = [row[2] for row in worst.rows]
    assert rmse == sorted(rmse, reverse=True)
    assert len(rmse) == WORST


def test_ranking_follows_the_errors_whatever_the_order(test_set, found) -> None:
    order = ranking(found, test_set)
    assert sorted(order) == list(range(20))
    shuffled = np.random.default_rng(2).permutation(20)
    rows = test_set.rows(shuffled)
    moved = {"energy": found["energy"][shuffled], "forces": found["forces"][rows]}
    assert shuffled[ranking(moved, test_set[shuffled])].tolist() == order
    lost = {**found, "forces": found["forces"].copy()}
    lost["forces"][test_set.offsets[5]] = np.nan
    assert ranking(lost, test_set)[0] == 5, "a structure without a finite force is the worst"
    by_energy = ranking({"energy": found["energy"]}, test_set)
    assert by_energy[0] == np.abs(found["energy"] / test_set.sizes).argmax()


def test_views_show_worst_and_best(test_set, found) -> None:
    shown, order = views(found, test_set, np.arange(20)), ranking(found, test_set)
    assert [view.group for view in shown] == ["largest errors"] * WORST + ["smallest errors"] * BEST
    assert shown[0].facts["structure"] == f"{order[0]} of the file"
    assert shown[WORST].facts["structure"] == f"{order[-1]} of the file"
    rows = slice(test_set.offsets[order[0]], test_set.offsets[order[0] + 1])
    np.testing.assert_array_equal(shown[0].force_error, found["forces"][rows])
    assert shown[0].symbols == [chemical_symbols[z] for z in test_set.numbers[rows]]
    assert shown[0].colours["O"] == "#ff0d0d"
    few = views({k: v[:9] if k == "forces" else v[:2] for k, v in found.items()}, test_set[:2], np.arange(2))
    assert [view.group for view in few] == ["largest errors"] * 2, "none is shown twice"


def test_without_forces_there_are_energies(test_set, found) -> None:
    energies = {"energy": found["energy"]}
    (energy,) = parity(AtomicPotential.default(elements=(1, 6, 8)), energies, test_set)
    assert energy.label == "energy"
    (worst,) = breakdown(energies, test_set, np.arange(20))
    assert worst.columns == ["structure", "energy, meV/atom"]
    shown = views(energies, test_set, np.arange(20))
    assert shown[0].force_error is None
    ReportData(title="x", breakdown=[worst], molecules=shown).to_json()


def test_bonds_are_those_of_chemistry() -> None:
    for name, count in (("CH3CH2OH", 8), ("C6H6", 12), ("H2", 1), ("CO2", 2)):
        atoms = molecule(name)
        assert len(bonds(atoms.numbers, atoms.positions)) == count, name
    two = molecule("H2O")
    far = np.vstack([two.positions, two.positions + 4.0])
    assert len(bonds(np.tile(two.numbers, 2), far)) == 4


def test_what_is_too_large_to_be_drawn_is_left_out() -> None:
    large = molecule("H2O").repeat((1, 1, 1))
    for k in range(MAX_ATOMS // 3):
        large += molecule("H2O").copy() if k % 2 else molecule("H2O")
        large.positions[-3:] += 3.0 * (k + 1)
    small = molecule("H2O")
    systems = [large, small]
    for atoms in systems:
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = 0.0, np.zeros((len(atoms), 3))
    test = from_atoms(systems)
    off = {"energy": np.zeros(2), "forces": np.ones((len(test.numbers), 3))}
    assert [len(view.symbols) for view in views(off, test, np.arange(2))] == [3]
