"""Labels: what is written, failures, and that a stopped run ends as one that was never stopped."""

from __future__ import annotations

import io
import json
import os
import sys
import types
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

from lie_sim.data import labelling, reference_calculators
from lie_sim.data.labelling import (
    LabelConfig,
    label_file,
    label_structure,
    structure_digest,
    with_total_charge,
)
from lie_sim.data.sampling import Sampling
from lie_sim.data.structure_files import read_structures
from lie_sim.errors import ConfigError, DataError

EIGHT_DECIMALS = 1e-8
CONFIG = LabelConfig("emt", Sampling(frames=2))


def starts() -> list[Atoms]:
    return [molecule(name) for name in ("H2O", "SiH4", "CH3OH", "NH3", "CO2")]


def test_labels_are_what_the_calculator_says(tmp_path: Path) -> None:
    label_file(tmp_path / "a.extxyz", [molecule("CH3OH"), bulk("Cu", cubic=True)], CONFIG)
    for frame in ase.io.iread(tmp_path / "a.extxyz"):
        plain = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=EMT())
        assert frame.info["REF_energy"] == pytest.approx(plain.get_potential_energy(), abs=1e-6)
        assert np.abs(frame.arrays["REF_forces"] - plain.get_forces()).max() < 1e-6
        assert ("REF_stress" in frame.info) == bool(frame.pbc.all())
    found = read_structures(tmp_path / "a.extxyz")
    assert found.sizes.tolist() == [6, 6, 6, 4, 4, 4]
    assert np.isfinite(found.values["energy"]).all()


def test_a_failure_is_recorded_and_stops_nothing(tmp_path: Path) -> None:
    summary = label_file(tmp_path / "a.extxyz", starts(), CONFIG)
    assert (summary.structures, summary.frames) == (5, 12)
    assert summary.failures == {1: "NotImplementedError: No EMT-potential for Si"}
    rows = [json.loads(line) for line in (tmp_path / "a.extxyz.journal.jsonl").read_text().splitlines()]
    assert rows[0]["options"]["calculator"] == "emt"
    assert rows[0]["options"]["version"].startswith("ase 3.")
    assert rows[2]["error"].endswith("for Si")


def test_frames_about_to_break_are_left_out() -> None:
    close = Atoms("H2", [[0, 0, 0], [0.4, 0, 0]])
    gentle, strict = (LabelConfig("emt", Sampling("none"), largest_force=f) for f in (1e6, 1.0))
    assert (label_structure(close, 0, gentle).frames, label_structure(close, 0, gentle).dropped) == (1, 0)
    assert (label_structure(close, 0, strict).frames, label_structure(close, 0, strict).dropped) == (0, 1)


@pytest.mark.parametrize("cut", [0, 1, 300, 2500])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    whole, stopped = tmp_path / "whole.extxyz", tmp_path / "stopped.extxyz"
    label_file(whole, starts(), CONFIG)
    job = labelling.label_structure

    def stop(start: Atoms, number: int, config: LabelConfig):
        if number == 3:
            raise KeyboardInterrupt
        return job(start, number, config)

    monkeypatch.setattr(labelling, "label_structure", stop)
    with pytest.raises(KeyboardInterrupt):
        label_file(stopped, starts(), CONFIG)
    monkeypatch.undo()
    content = stopped.read_bytes()
    stopped.write_bytes(content[: len(content) - cut] if cut else content + b"9\nhalf a frame")
    done: list[int] = []
    label_file(stopped, starts(), CONFIG, progress=lambda summary: done.append(summary.structures))
    assert stopped.read_bytes() == whole.read_bytes()
    assert done[0] == (3 if cut == 0 else 2 if cut < 1500 else 0)
    label_file(stopped, starts(), CONFIG)  # nothing is left to do
    assert stopped.read_bytes() == whole.read_bytes()


def test_workers_write_the_same_file(tmp_path: Path) -> None:
    label_file(tmp_path / "one.extxyz", starts(), CONFIG)
    label_file(tmp_path / "two.extxyz", starts(), CONFIG, workers=2)
    assert (tmp_path / "one.extxyz").read_bytes() == (tmp_path / "two.extxyz").read_bytes()


def test_a_longer_list_goes_on_and_another_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.extxyz"
    label_file(file, starts()[:2], CONFIG)
    assert label_file(file, starts(), CONFIG).structures == 5
    with pytest.raises(DataError, match="made from other structures"):
        label_file(file, starts()[::-1], CONFIG)
    with pytest.raises(DataError, match=r"seed was 0 and is 1"):
        label_file(file, starts(), LabelConfig("emt", CONFIG.geometries, seed=1))
    with pytest.raises(DataError, match=r"geometries.frames was 2 and is 3"):
        label_file(file, starts(), LabelConfig("emt", Sampling(frames=3)))
    fresh = label_file(file, starts()[:1], LabelConfig("emt", Sampling(frames=3)), overwrite=True)
    assert (fresh.structures, fresh.frames, len(read_structures(file))) == (1, 4, 4)
    (tmp_path / "other.extxyz").write_text("somebody's data")
    with pytest.raises(DataError, match="without a journal"):
        label_file(tmp_path / "other.extxyz", starts(), CONFIG)


@pytest.mark.parametrize("name", ["charge", "spin"])
def test_another_charge_or_spin_is_another_structure(tmp_path: Path, name: str) -> None:
    label_file(tmp_path / "a.extxyz", [molecule("H2O")], CONFIG)
    neutral, other = molecule("H2O"), molecule("H2O")
    neutral.info[name], other.info[name] = 0, 1
    label_file(tmp_path / "a.extxyz", [neutral], CONFIG)
    with pytest.raises(DataError, match="made from other structures"):
        label_file(tmp_path / "a.extxyz", [other], CONFIG)


@pytest.mark.parametrize(
    ("name", "values"),
    [("initial_magmoms", [1.0, 1.0]), ("initial_charges", [0.5, -0.5]), ("masses", [18, 16])],
)
def test_arrays_that_a_calculator_reads_reach_it_and_tell_structures_apart(name: str, values: list) -> None:
    plain = Atoms("O2", [[0, 0, 0], [1.2, 0, 0]])
    other = plain.copy()
    other.set_array(name, np.array(values))
    assert with_total_charge(other).arrays[name].tolist() == values
    assert structure_digest(other) != structure_digest(plain)
    frame = ase.io.read(io.StringIO(label_structure(other, 0, CONFIG).text), format="extxyz")
    assert frame.arrays[name].tolist() == values


def test_moments_of_atoms_become_the_spin_of_the_frames() -> None:
    text = label_structure(Atoms("O2", [[0, 0, 0], [1.2, 0, 0]], magmoms=[1, 1]), 0, CONFIG).text
    assert ase.io.read(io.StringIO(text), format="extxyz").info["spin"] == 2.0


def test_two_charges_of_one_structure_are_a_failure() -> None:
    start = Atoms("O2", [[0, 0, 0], [1.2, 0, 0]], charges=[1, 0], info={"charge": -1})
    assert label_structure(start, 0, CONFIG).error == (
        "ValueError: info['charge'] is -1, but initial_charges sum to 1: leave one of the two away"
    )


def test_a_constraint_does_not_change_a_label() -> None:
    free, held = molecule("H2O"), molecule("H2O")
    held.set_constraint(FixAtoms([0]))
    assert label_structure(held, 0, CONFIG).text == label_structure(free, 0, CONFIG).text


class Counting(EMT):
    """An energy that tells how many threads PyTorch has."""

    def get_potential_energy(self, *arguments, **keywords) -> float:
        return float(torch.get_num_threads())


def test_a_worker_has_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    config = LabelConfig(f"{__name__}:Counting", Sampling("none"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    label_file(tmp_path / "a.extxyz", [molecule("H2O")] * 2, config, workers=2)
    assert read_structures(tmp_path / "a.extxyz").values["energy"].tolist() == [1.0, 1.0]


def test_two_writers_do_not_share_a_file(tmp_path: Path) -> None:
    file, messages = tmp_path / "a.extxyz", []

    def another(summary) -> None:
        try:
            label_file(file, starts(), CONFIG)
        except DataError as error:
            messages.append(str(error))

    label_file(file, starts()[:1], CONFIG, progress=another)
    assert len(messages) == 2
    assert "written by another process" in messages[0]


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.extxyz"
    label_file(file, starts()[:1], CONFIG)
    journal = tmp_path / "a.extxyz.journal.jsonl"
    journal.write_text(journal.read_text() + '{"frames": \n')
    with pytest.raises(DataError, match="is damaged"):
        label_file(file, starts(), CONFIG)


class Silent(EMT):
    """Energies that are no numbers."""

    def get_potential_energy(self, *arguments, **keywords) -> float:
        return float("nan")


def test_a_label_that_is_no_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("of_this_test")
    module.Silent = Silent
    monkeypatch.setitem(sys.modules, "of_this_test", module)
    found = label_structure(molecule("H2O"), 0, LabelConfig("of_this_test:Silent", Sampling("none")))
    assert found.error is not None
    assert "not finite" in found.error


def test_calculators_by_name() -> None:
    assert isinstance(reference_calculators.reference_calculator("emt"), EMT)
    made = reference_calculators.reference_calculator("ase.calculators.lj:LennardJones")
    assert isinstance(made, LennardJones)
    for name, message in {
        "dft": "unknown calculator 'dft'; known are gfn2",
        "no_such_package:Calculator": "cannot make a calculator",
        "ase.calculators.lj:Nothing": "cannot make a calculator",
        "pathlib:Path": "no ASE calculator",
    }.items():
        with pytest.raises(ConfigError, match=message):
            reference_calculators.reference_calculator(name)


def test_without_tblite_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(DataError, match=r"GFN2-xTB needs the package tblite: pip install"):
        reference_calculators.reference_calculator("gfn2")


def test_gfn2_labels_have_dipole_and_charges() -> None:
    pytest.importorskip("tblite")
    found = label_structure(molecule("H2O"), 0, LabelConfig("gfn2", Sampling("none")))
    assert found.error is None
    for name in ("REF_energy", "REF_forces", "REF_dipole", "REF_charges"):
        assert name in found.text


def test_the_total_charge_reaches_the_calculator() -> None:
    pytest.importorskip("tblite")
    energies = []
    for charge in (0, 1):
        atoms = molecule("CH3CH2OH")
        atoms.info["charge"] = charge
        text = label_structure(atoms, 0, LabelConfig("gfn2", Sampling("none"))).text
        energies.append(float(text.split("REF_energy=")[1].split()[0]))
    assert energies[1] - energies[0] > 5  # eV: an electron was taken away
