"""A model by its name: from the command line to a report, a file of options and a potential of atoms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT

from lie_sim import load_model
from lie_sim.calculators import LieTransformerCalculator
from lie_sim.cli.train import experiment_settings, read_settings
from lie_sim.data.structure_files import write_structures
from lie_sim.experiments import MoleculesExperiment, SpringsConfig, SpringsExperiment
from lie_sim.models import AtomicPotential, LieTransformerConfig, SE3Transformer, SE3TransformerConfig

pytest.importorskip("e3nn")

Run = Callable[..., Any]
NAMED = ["--model", "se3_transformer"]
TINY = [
    *("--num-train=8", "--num-validation=4", "--num-test=4", "--long-steps=10", "--training.max-steps=3"),
    *("--training.batch-size=4", "--model.width=8", "--model.kernel-hidden=8", "--no-progress"),
]


def test_springs_from_the_command_line_to_the_report(lie_sim: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained = lie_sim("train", "springs", folder, *NAMED, *TINY)
    assert (trained.code, trained.err) == (0, "")
    model = load_model(folder / "model").potential
    assert isinstance(model, SE3Transformer)
    assert (model.config.width, model.config.dim) == (8, 2)
    report = json.loads((folder / "report_data.json").read_text())
    assert set(report["error_curves"]) == {"SE3Transformer", "free motion"}
    assert all(row["passed"] for row in report["equivariance"])
    shown = lie_sim("info", folder)
    assert "architecture  se3_transformer" in shown.out
    assert "E(2), exact" in shown.out
    further = lie_sim("train", "springs", folder, *NAMED, *TINY, "--training.max-steps=9")
    assert "--training.max-steps was 3 and is 9" in further.err
    assert f"begin a new run with --start-from {folder}" in further.err
    other = lie_sim("train", "springs", folder, *TINY)
    assert other.code == 2
    assert (
        "holds a run of the model 'se3_transformer', not 'lie_transformer': add --model se3_tr" in other.err
    )


def test_molecules_from_a_file_to_a_calculator(lie_sim: Run, tmp_path: Path) -> None:
    random, systems = np.random.default_rng(0), []
    for _ in range(20):
        atoms: Atoms = molecule("H2O")
        atoms.positions += 0.08 * random.standard_normal((3, 3))
        atoms.calc = EMT()
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        systems.append(atoms)
    write_structures(tmp_path / "water.extxyz", systems)
    short = ["--training.max-steps=3", "--training.max-cpu-seconds=0", "--dynamics.picoseconds=0.002"]
    small = ["--model.width=8", "--model.lmax=1", "--model.kernel-hidden=8", "--no-progress"]
    data = ["--data", tmp_path / "water.extxyz"]
    trained = lie_sim("train", "molecules", tmp_path / "run", *NAMED, *data, *short, *small)
    assert (trained.code, trained.err) == (0, "")
    potential = load_model(tmp_path / "run" / "model")
    assert isinstance(potential, AtomicPotential)
    assert isinstance(potential.network, SE3Transformer)
    systems[0].calc = LieTransformerCalculator(tmp_path / "run" / "model")
    assert np.isfinite(systems[0].get_forces()).all()
    with pytest.raises(PropertyNotImplementedError, match=r"others need an ensemble or calibration"):
        systems[0].calc.get_property("forces_std", systems[0])
    moved = lie_sim("rollout", tmp_path / "run")
    assert (moved.code, "starts from structures: lie-sim simulate" in moved.err) == (2, True)


@pytest.mark.parametrize("cls", [SpringsExperiment, MoleculesExperiment])
def test_printed_options_are_read_as_those_of_the_model(cls: Any, lie_sim: Run, tmp_path: Path) -> None:
    for name, config in (
        ("lie_transformer", LieTransformerConfig),
        ("se3_transformer", SE3TransformerConfig),
    ):
        file = tmp_path / f"{name}.toml"
        file.write_text(lie_sim("config", cls.name, "--model", name).out)
        settings = read_settings(file, cls)
        assert type(settings.model) is config
        assert settings == cls.with_model(cls.Config(), name)


def test_a_file_keeps_its_options_of_the_named_model(lie_sim: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(lie_sim("config", "springs", *NAMED).out.replace("lmax = 1", "lmax = 2"))
    given = ["--config", str(file)]
    for words, lmax in ((given, 2), ([*given, *NAMED], 2), (NAMED, 1)):
        settings: Any = experiment_settings(SpringsExperiment, words)
        assert settings.model.lmax == lmax
    settings = experiment_settings(SpringsExperiment, [*given, "--model=lie_transformer"])
    assert settings == SpringsConfig()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "springs", "x", "--model", "egnn"], "springs has no model 'egnn': choose one of lie_tr"),
        (
            ["train", "shapes", "x", *NAMED],
            "shapes has no model 'se3_transformer': its model cannot be chosen",
        ),
        (
            ["train", "springs", "x", *NAMED, "--model.num-frames", "2"],
            "--model.num-frames is an option of the model 'lie_transformer': add --model lie_transformer",
        ),
        (
            ["train", "springs", "x", "--model.lmax=2"],
            "--model.lmax is an option of the model 'se3_transformer': add --model se3_transformer",
        ),
        (["train", "springs", "x", *NAMED, "--model.lmx", "2"], "did you mean --model.lmax?"),
        (["config", "springs", "--model", "egnn"], "springs has no model 'egnn'"),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str, lie_sim: Run) -> None:
    failed = lie_sim(*words)
    assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert says in failed.err


def test_help_shows_the_options_of_the_named_model(lie_sim: Run) -> None:
    shown = lie_sim("train", "springs", *NAMED, "--help")
    assert shown.code == 0
    assert "--model.lmax" in shown.out
    assert "--model.num-frames" not in shown.out


def test_the_first_model_is_the_default() -> None:
    assert SpringsConfig() == SpringsExperiment.with_model(
        SpringsConfig(), next(iter(SpringsExperiment.models))
    )
