"""``lie-sim calibrate`` with a run, with a file, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from lie_sim.calculators import Calibration, LieTransformerCalculator
from lie_sim.data.structure_files import write_structures
from lie_sim.shipped import resolve_model

SMALL = [
    *("--model.width=16", "--model.num-heads=8", "--model.num-moments=4", "--model.kernel-hidden=16"),
    *("--training.max-steps=30", "--training.max-cpu-seconds=0", "--training.warmup-steps=5"),
    *("--dynamics.picoseconds=0", "--no-progress"),
]


def waters(count: int, *, seed: int):
    random, systems = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = molecule("H2O")
        atoms.positions += 0.08 * random.standard_normal(atoms.positions.shape)
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        systems.append(atoms)
    return systems


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "waters.extxyz"
    write_structures(path, waters(140, seed=0))
    return path


@pytest.fixture
def run(data, lie_sim, tmp_path):
    folder = tmp_path / "run"
    options = ["--data", data, "--num-train", 40, "--num-validation", 50, "--num-test", 50, *SMALL]
    assert lie_sim("train", "molecules", folder, *options).code == 0
    return folder


def test_a_run_calibrates_itself_and_says_whether_it_holds(run, data, lie_sim) -> None:
    done = lie_sim("calibrate", run)
    assert done.code == 0, done.err
    assert "energies and forces" in done.out
    covered = re.search(r"energies inside +([\d.]+) % of 50 test structures", done.out)
    assert covered, done.out
    assert 70 < float(covered[1]) <= 100
    calibration = Calibration.load(run / "model")
    assert (calibration.num_structures, calibration.coverage, calibration.has_forces) == (50, 0.9, True)

    calculator = LieTransformerCalculator(run / "model", on_uncertain="ignore")
    atoms = waters(1, seed=5)[0]
    low, high = calculator.evaluate(atoms, ["energy_interval"])["energy_interval"]
    wide = float(re.search(r"± ([\d.e+]+) meV", done.out)[1]) / 1000  # the median
    assert 0.2 * wide < (high - low) / 2 < 5 * wide

    once_more = lie_sim("calibrate", run, "--coverage", 0.5, "--no-forces")
    assert once_more.code == 0
    assert "50 %" in once_more.out
    assert "instead of the one that was there" in once_more.out
    assert "instead of" not in done.out
    assert not Calibration.load(run / "model").has_forces


def test_structures_of_ones_own_calibrate_any_model(data, lie_sim, tmp_path) -> None:
    copy = tmp_path / "mine"
    shutil.copytree(resolve_model("organic-gfn2"), copy)
    before = Calibration.load(copy)
    own = tmp_path / "own.extxyz"
    teacher, systems = LieTransformerCalculator("organic-gfn2", on_uncertain="ignore"), waters(60, seed=1)
    for seed, atoms in enumerate(systems):
        atoms.info["REF_energy"] = teacher.evaluate(atoms)["energy"] + 0.01 * (-1) ** seed
    write_structures(own, systems)
    assert ase.io.read(own, ":")[0].info["REF_energy"] < -100
    done = lie_sim("calibrate", copy, "--data", own)
    assert done.code == 0, done.err
    after = Calibration.load(copy)
    assert (after.num_structures, after.models) == (30, before.models), "half says what is known"


def test_what_cannot_be_calibrated_is_refused(run, data, lie_sim, tmp_path) -> None:
    silicon = tmp_path / "silicon.extxyz"
    write_structures(silicon, [Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]], info={"REF_energy": -1.0})] * 30)
    for words, message in (
        (["organic-gfn2", "--data", data], "copy"),
        ([resolve_model("organic-gfn2"), "--data", data], "copy"),
        ([run, "--data", silicon], "does not know Si"),
        ([run / "model"], "give --data FILE"),
        ([tmp_path / "nothing"], "does not exist"),
        ([run, "--data", data], "the structures that the model was trained on"),
        ([run, "--coverage", 1.5], "coverage must lie between 0 and 1"),
        ([run, "--coverage", 0.999], "needs at least 999 held-out structures"),
    ):
        done = lie_sim("calibrate", *words)
        assert done.code != 0
        assert message in done.err, done.err
    assert not (run / "model" / "calibration.safetensors").exists()


def test_a_fine_tuned_run_goes_on_without_the_model_it_began_with(data, lie_sim, tmp_path) -> None:
    shutil.copytree(resolve_model("organic-gfn2"), tmp_path / "mine")
    words = ["train", "molecules", tmp_path / "run", "--data", data, "--start-from", tmp_path / "mine"]
    options = [
        "--training.max-steps=4",
        "--training.max-cpu-seconds=0",
        "--dynamics.picoseconds=0",
        "--no-progress",
    ]
    done = lie_sim(*words, *options)
    assert done.code == 0, done.err
    shutil.rmtree(tmp_path / "mine")
    for again in (
        [*words, *options],
        ["train", "--resume", tmp_path / "run"],
        ["evaluate", tmp_path / "run"],
    ):
        done = lie_sim(*again)
        assert done.code == 0, done.err
    written = json.loads((tmp_path / "run" / "report_data.json").read_text())
    assert written["configuration"]["model"]["cutoff"] == 5.0, "that of the model, not the usual one"


def test_a_run_of_something_else_is_refused(lie_sim, springs_run) -> None:
    done = lie_sim("calibrate", springs_run)
    assert done.code == 2
    assert "only runs of molecules are calibrated" in done.err
