"""Models that come with the package: found by name, complete, small, described, and in the wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.mep import NEB

import lie_sim
from lie_sim import load_model, save_model, shipped
from lie_sim.calculators import Calibration, LieTransformerCalculator
from lie_sim.checkpoint import model_metadata
from lie_sim.errors import CheckpointError
from lie_sim.models import AtomicPotential
from lie_sim.shipped import model_card, resolve_model, shipped_models

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 5_000_000
"""Bytes of a model."""


def tiny(folder: Path, *, title: str = "A tiny potential") -> AtomicPotential:
    """An untrained model with a card."""
    torch.manual_seed(len(str(title)))
    network = {"width": 8, "num_heads": 2, "num_moments": 2, "kernel_hidden": 8, "cutoff": 4.0}
    made = AtomicPotential.default(elements=(1, 8), network=network)
    save_model(made, folder, metadata={"title": title})
    (folder / "card.md").write_text(f"# {title}\n\nFor tests.\n", encoding="utf-8")
    return made


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships one model, and a working directory."""
    tiny(tmp_path / "home" / "tiny")
    monkeypatch.setattr(shipped, "_HOME", tmp_path / "home")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_a_name_is_enough_everywhere(home: Path) -> None:
    assert shipped_models() == {"tiny": "A tiny potential"}
    assert resolve_model("tiny") == home / "tiny"
    assert model_metadata("tiny") == {"title": "A tiny potential"}
    assert model_card("tiny") == "# A tiny potential\n\nFor tests.\n"
    water = molecule("H2O")
    by_name, by_path = (LieTransformerCalculator(model).evaluate(water) for model in ("tiny", home / "tiny"))
    assert (by_name["forces"] == by_path["forces"]).all()
    assert isinstance(load_model("tiny"), AtomicPotential)


def test_a_calibration_is_found_by_the_name_too(home: Path) -> None:
    systems = [molecule("H2O") for _ in range(40)]
    calculator = LieTransformerCalculator("tiny")
    for seed, atoms in enumerate(systems):
        atoms.rattle(0.05, seed=seed)
        atoms.info["REF_energy"] = calculator.evaluate(atoms)["energy"] + 0.01 * (-1) ** seed
    Calibration.fit(calculator, systems).save(home / "tiny")
    assert LieTransformerCalculator("tiny").calibration is not None


def test_a_folder_here_comes_first(home: Path) -> None:
    tiny(Path("tiny"), title="My own")
    assert model_metadata("tiny") == {"title": "My own"}
    assert model_metadata(home / "tiny") == {"title": "A tiny potential"}


def test_an_unknown_name_lists_the_known_ones(home: Path) -> None:
    message = "tinny is neither a folder nor a shipped model; shipped are tiny"
    for ask in (load_model, model_metadata, model_card, LieTransformerCalculator):
        with pytest.raises(CheckpointError, match=message):
            ask("tinny")
    shutil.rmtree(home / "tiny")
    with pytest.raises(CheckpointError, match="shipped are none"):
        load_model("tiny")


def test_a_model_without_a_card_has_none(home: Path) -> None:
    (home / "tiny" / "card.md").rename("card.md")
    assert model_card(home / "tiny") is None


@pytest.mark.parametrize("name", shipped_models())
def test_what_is_shipped_is_small_described_and_works(name: str) -> None:
    folder = resolve_model(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= LARGEST
    card = model_card(name)
    assert card is not None
    for section in ("## Data", "## Errors", "## Limits"):
        assert section in card
    model = load_model(name)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert lie_sim.shipped_models()[name] in card


def test_the_organic_potential_knows_its_elements_and_its_ethanol() -> None:
    if "organic-gfn2" not in shipped_models():
        pytest.skip("organic-gfn2 is not in this checkout")
    calculator = LieTransformerCalculator("organic-gfn2")
    assert calculator.potentials[0].config.elements == (1, 6, 7, 8, 9)
    ethanol = molecule("CH3CH2OH", calculator=calculator)
    assert np.abs(ethanol.get_forces()).max() < 2.0  # eV/Å; GFN2-xTB's own are 0.75, ours 0.70


def test_a_model_without_energies_has_no_slopes_of_its_dipole() -> None:
    calculator = LieTransformerCalculator("qm9-properties")
    assert "dipole" in calculator.implemented_properties
    with pytest.raises(PropertyNotImplementedError, match="born_effective_charges"):
        calculator.get_property("born_effective_charges", molecule("H2O"))


def test_the_card_says_what_was_measured() -> None:
    file = ROOT / "benchmarks" / "results" / "shipped_models.json"
    card = model_card("organic-gfn2") if "organic-gfn2" in shipped_models() else None
    if card is None or not file.exists():
        pytest.skip("organic-gfn2 or its figures are not in this checkout")
    figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
    for text in (
        f"| {figures['organic_energy_mae_mev']:.1f} meV |",
        f"| {figures['organic_force_mae']:.1f} meV/Å |",
        f"| {100 * figures['coverage90']:.1f} % |",
        f"| {figures['relax_rmsd']:.3f} Å |",
    ):
        assert text in card


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the checkout")
def test_the_wheel_holds_every_model(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    for folder in ("lie_sim", "integrators", "calculators", "distributed"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignore)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    tiny(source / "lie_sim" / "shipped" / "tiny")
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    models = [path.parent for path in (source / "lie_sim" / "shipped").glob("*/model.json")]
    assert len(models) == len(shipped_models()) + 1
    expected = {str(file.relative_to(source)) for folder in models for file in folder.iterdir()}
    assert len(expected) >= 3 * len(models)  # model.json, weights, card; a calibration
    assert expected <= inside
    assert {"lie_sim/calculators/calculator.py", "lie_sim/shipped/__init__.py"} <= inside


def test_a_run_directory_stands_for_its_model(tmp_path: Path) -> None:
    tiny(tmp_path / "run" / "model")
    assert resolve_model(tmp_path / "run") == tmp_path / "run" / "model"
    assert resolve_model(tmp_path / "run" / "model") == tmp_path / "run" / "model"
    atoms = molecule("H2O", calculator=LieTransformerCalculator(tmp_path / "run"))
    assert np.isfinite(atoms.get_potential_energy())


def test_atoms_that_collide_are_repelled() -> None:
    calculator = LieTransformerCalculator("organic-gfn2", on_uncertain="ignore")
    for pair in ("HH", "OH", "CH", "NN", "CC", "NC", "OC", "FH", "CF", "OO"):
        far, near, nearer = (
            calculator.evaluate(Atoms(pair, [[0, 0, 0], [0, 0, distance]]), ["energy"])["energy"]
            for distance in (1.2, 0.4, 0.1)
        )
        assert far < near < nearer, pair
    ethane = molecule("C2H6", calculator=calculator)
    hydrogens = [atom.index for atom in ethane if atom.symbol == "H" and atom.position[2] > 0]
    turned = ethane.copy()
    turned.positions[hydrogens] = ethane.positions[[*hydrogens[1:], hydrogens[0]]]
    images = [ethane, *(ethane.copy() for _ in range(5)), turned]
    NEB(images, method="improvedtangent").interpolate("linear")  # through each other
    energies = [calculator.evaluate(image, ["energy"])["energy"] for image in images]
    assert min(energies) > energies[0] - 1.0  # before, thousands of eV below
