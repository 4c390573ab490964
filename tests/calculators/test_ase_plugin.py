"""What ASE finds by itself after installation, seen from processes of its own, and the version 4 form."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.io.formats import define_io_format

from lie_sim import save_model
from lie_sim.calculators import LieTransformerCalculator, ase_plugin
from lie_sim.models import heads

ROOT = Path(__file__).resolve().parents[2]
SAME = 1e-12

in_checkout = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs pyproject.toml")


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds lie_sim with the entry points of pyproject.toml, as after pip install."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    folder = tmp_path / "site" / "lie_sim-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lie_sim\nVersion: 0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in each.items()) for group, each in groups.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    path = os.pathsep.join([str(folder.parent), str(ROOT), *(entry for entry in sys.path if entry)])
    return os.environ | {"PYTHONPATH": path}


def run(environment: dict[str, str], cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@in_checkout
def test_ase_run_knows_the_name(installed, tmp_path: Path, potential) -> None:
    save_model(potential, tmp_path / "model")
    atoms = molecule("H2O")
    atoms.write(tmp_path / "water.xyz")
    options = ["-p", "model=model,dtype=float64", "-f", "0.05", "-o", "result.json"]
    done = run(installed, tmp_path, "-m", "ase", "-T", "run", "lie_sim", "water.xyz", *options)
    assert done.returncode == 0, done.stderr
    relaxed = ase.io.read(tmp_path / "result.json")
    expected = LieTransformerCalculator(potential).evaluate(relaxed)
    assert abs(relaxed.get_potential_energy() - expected["energy"]) < SAME
    assert np.abs(relaxed.get_forces() - expected["forces"]).max() < SAME
    assert np.linalg.norm(relaxed.get_forces(), axis=1).max() < 0.05
    refused = run(installed, tmp_path, "-m", "ase", "run", "lie_sim", "water.xyz", "-p", "model=modell")
    assert refused.returncode != 0
    assert "modell is neither a folder nor a shipped model" in refused.stderr


PLUGINS = """
import sys, warnings
warnings.simplefilter("error")
import ase.io
assert not {"torch", "lie_sim.models"} & set(sys.modules), "ASE alone must not wait for torch"
assert "md17" in ase.io.formats.ioformats
from ase._4.plugins import plugins
[found] = [each for each in plugins.calculators if each.name == "lie_sim"]
print(found.package, found.implementation.__name__)
print([each.name for each in plugins.io_formats if each.package == "lie_sim"])
"""


@in_checkout
def test_the_plugins_of_ase_4_are_listed_without_torch(installed, tmp_path: Path) -> None:
    pytest.importorskip("ase._4")
    done = run(installed, tmp_path, "-c", PLUGINS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "lie_sim LieTransformerCalculator\n['md17']\n"


def test_the_registered_class_makes_the_calculator(potential) -> None:
    registered = get_calculator_class("lie_sim")
    assert isinstance(registered(potential, skin=0.1), LieTransformerCalculator)
    assert registered.nolabel
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        ase_plugin.other  # noqa: B018


def test_md17_files_are_read_by_ase(tmp_path: Path) -> None:
    define_io_format("md17-here", external=True, **ase_plugin.MD17._asdict() | {"glob": None})
    ase.io.formats.ioformats["md17"] = ase.io.formats.ioformats.pop("md17-here")
    ase.io.formats.ioformats["md17"].name = "md17"
    frames = np.random.default_rng(0).normal(size=(4, 3, 3)) + 2 * np.arange(3)[:, None]
    forces = np.ones((4, 3, 3))
    energies = np.arange(4.0)
    np.savez(tmp_path / "x.npz", R=frames, z=np.array([8, 1, 1]), E=energies, F=forces, e_unit="kcal/mol")
    last, some = (ase.io.read(tmp_path / "x.npz", index, format="md17") for index in (-1, slice(1, 3)))
    assert [each.get_potential_energy() for each in some] == [e * units.kcal / units.mol for e in (1.0, 2.0)]
    assert np.abs(last.positions - frames[3]).max() == 0
    assert np.abs(last.get_forces() - units.kcal / units.mol).max() < SAME


class TestVersion4:
    @pytest.fixture
    def surface(self, random_potential):
        pytest.importorskip("ase._4")
        from lie_sim.calculators.version4 import StatelessCalculator

        return StatelessCalculator(random_potential(heads=heads("dipole", gap="intensive")))

    def test_it_says_what_the_calculator_says_and_keeps_nothing(self, surface) -> None:
        atoms = molecule("CH3OH")
        before = atoms.copy()
        names = ["energy", "free_energy", "forces", "dipole", "gap"]
        found = surface.evaluate(atoms, names)
        expected = LieTransformerCalculator(surface.inner.potentials[0]).evaluate(atoms, names)
        assert found.properties["energy"] == expected["energy"]
        assert np.abs(found.properties["dipole"] - expected["dipole"]).max() == 0
        assert found.metadata["gap"] == expected["gap"]
        assert found.metadata["calculator"] == surface.todict()
        assert set(found.properties) >= {"energy", "free_energy", "forces", "dipole"}
        assert atoms == before
        assert not surface.inner.results
        with pytest.raises(PropertyNotImplementedError, match="no property magmom"):
            surface.evaluate(atoms, ["magmom"])

    def test_the_potential_energy_surface_of_ase_caches_it(self, surface) -> None:
        from ase._4.atoms import Atoms as Atoms4
        from ase._4.pes import PotentialEnergySurface

        surface_of = PotentialEnergySurface(
            Atoms4.from_v3atoms(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])), surface
        )
        first = surface_of.get_property("forces")
        surface_of.get_property("free_energy")
        assert surface.inner.evaluations == 1
        surface_of.set_positions(1.1 * surface_of.get_positions())
        assert np.abs(surface_of.get_property("forces") - first).max() > 1e-6
        assert surface.inner.evaluations == 2

    def test_atoms_of_version_4_keep_their_arrays(self) -> None:
        pytest.importorskip("ase._4")
        from ase._4.atoms import Atoms as Atoms4

        from lie_sim.calculators.version4 import version3

        new = Atoms4.from_v3atoms(Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]))
        new.arrays["initial_magmoms"] = np.array([1.0, -1.0])
        new.arrays["masses"] = np.array([1.0, 2.0])
        found = version3(new)
        assert found.get_initial_magnetic_moments().tolist() == [1, -1]
        assert found.get_masses().tolist() == [1, 2]
