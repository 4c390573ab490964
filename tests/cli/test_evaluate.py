"""``lie-sim evaluate --data``: errors of any potential on the structures of a file."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase.build import molecule

from lie_sim import save_model
from lie_sim.calculators import Calibration, LieTransformerCalculator
from lie_sim.data.structure_files import read_structures, write_structures
from lie_sim.experiments.molecules_evaluation import evaluated
from lie_sim.models import AtomicPotential, heads

NETWORK = {"width": 16, "num_heads": 8, "num_moments": 4, "kernel_hidden": 16}
SHIFT, LONGER = 0.25, 0.01
"""eV by which all reference energies are less, and Å by which bonds are drawn out."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(AtomicPotential.default(elements=(1, 8), heads=heads("dipole"), network=NETWORK), folder)
    return folder


def waters(model, count: int = 6):
    """Labels of the model itself, off by what the tests know."""
    random, calculator = np.random.default_rng(0), LieTransformerCalculator(model, dtype="float64")
    for number in range(count):
        atoms = molecule(("H2O", "H2O2")[number % 2])
        atoms.positions += 0.05 * random.standard_normal(atoms.positions.shape)
        told = calculator.evaluate(atoms, ["energy", "forces", "dipole"])
        atoms.info["REF_energy"] = told["energy"] - SHIFT
        atoms.info["REF_dipole"] = told["dipole"] + 0.03
        atoms.arrays["REF_forces"] = told["forces"] + 0.02
        yield atoms


@pytest.fixture
def data(model, tmp_path):
    path = tmp_path / "waters.extxyz"
    write_structures(path, list(waters(model)))
    return path


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{name} +(\S+)", text, flags=re.MULTILINE)
    assert found, text
    return float(found[1])


def test_errors_of_a_model_on_a_file(model, data, lie_sim) -> None:
    before = sorted(model.iterdir())
    done = lie_sim("evaluate", model, "--data", data)
    assert done.code == 0, done.err
    expected = {
        "structures": 6,
        "energy_mae": SHIFT,
        "energy_shift": SHIFT,
        "force_mae": 0.02,
        "dipole_mae": 0.03,
    }
    for name, value in expected.items():
        assert figure(done.out, name) == pytest.approx(value, rel=1e-3), name
    assert "force_mae        0.02 eV/Å" in done.out
    assert "dipole_mae       0.03 e Å" in done.out
    assert done.err == ""  # 0.25 eV may be an error
    assert sorted(model.iterdir()) == before  # nothing is written


def test_another_zero_of_the_energy_is_noticed(model, data, lie_sim, tmp_path) -> None:
    shifted = list(waters(model))
    for atoms in shifted:
        atoms.info["REF_energy"] += 80.0
    write_structures(tmp_path / "far.extxyz", shifted)
    done = lie_sim("evaluate", model, "--data", tmp_path / "far.extxyz")
    assert done.code == 0
    assert "most of the errors of the energies is a number for every element" in done.err
    assert figure(done.out, "energy_shift") == pytest.approx(SHIFT - 80.0, rel=1e-3)


def test_a_calibrated_model_tells_how_many_energies_are_in_their_intervals(model, data, lie_sim) -> None:
    structures = read_structures(data)
    assert "coverage" not in evaluated(model, structures)
    wide = Calibration.fit(LieTransformerCalculator(model), list(waters(model, 40)), coverage=0.8)
    wide.save(model)
    try:
        calculator, told = LieTransformerCalculator(model, on_uncertain="ignore"), []
        for atoms in waters(model):
            low, high = calculator.evaluate(atoms, ["energy_interval"])["energy_interval"]
            told.append((low <= atoms.info["REF_energy"] <= high, (high - low) / 2))
        inside, widths = np.transpose(told)
        results = evaluated(model, structures)
        assert results["coverage"] == inside.mean()
        assert results["interval"] == pytest.approx(np.median(widths), rel=1e-4)
        assert re.search(r"interval +\S+ eV", lie_sim("evaluate", model, "--data", data).out)
    finally:
        (model / "calibration.safetensors").unlink()


def test_what_cannot_be_evaluated(model, data, lie_sim, springs_run, tmp_path) -> None:
    assert "give structures with --data FILE" in lie_sim("evaluate", model).err
    assert "give both, or neither" in lie_sim("evaluate", springs_run, "--energy-unit", "eV").err
    assert "no potential of atoms" in lie_sim("evaluate", springs_run, "--data", data).err
    methane = tmp_path / "methane.extxyz"
    write_structures(methane, [molecule("CH4")])
    assert "does not know C" in lie_sim("evaluate", model, "--data", methane).err
    bare = tmp_path / "bare.extxyz"
    write_structures(bare, [molecule("H2O")])
    refused = lie_sim("evaluate", model, "--data", bare)
    assert refused.code == 2
    assert "tells energy, dipole, the structures have no reference values" in refused.err
