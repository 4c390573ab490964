"""What is written for other programs is what was computed, whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import InputError

from lie_sim.distributed import MissingPackageError, Run, export, simulate
from lie_sim.distributed.export import FORMATS
from lie_sim.distributed.worker import Worker
from lie_sim.models import AtomicPotential
from tests.distributed.runs import (
    ATOMS,
    TOTAL,
    expected,
    hydrogen,
    new_run,
)

EXTXYZ_DIGITS = 1e-7
"""Eight decimals are written."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return new_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Run:
    model = AtomicPotential.default(elements=(1,)).double()
    return simulate(model, hydrogen(), store=tmp_path_factory.mktemp("molecules"), **ATOMS)


@pytest.mark.parametrize("format", ["extxyz", "traj"])
def test_export_for_ase(molecules: Run, format: str, tmp_path: Path) -> None:
    folder = export(molecules, tmp_path / "out", format=format)
    for number, atoms in enumerate(hydrogen()):
        frames = ase.io.read(folder / f"{number:06d}.{format}", index=":")
        found = molecules.trajectory(number)
        assert [each.info["time"] for each in frames] == pytest.approx(found.times / units.fs)
        assert frames[0].get_chemical_formula() == atoms.get_chemical_formula()
        for name, values in (("positions", found.q[:]), ("get_momenta", found.p[:])):
            read = [getattr(each, name) for each in frames]
            read = [each() if callable(each) else each for each in read]
            assert np.abs(np.stack(read) - values).max() < EXTXYZ_DIGITS
        kinetic = np.array([each.get_kinetic_energy() for each in frames])
        potential = np.array([each.get_potential_energy() for each in frames])
        assert np.abs(kinetic + potential - found.energy[:]).max() < 1e-6


@pytest.mark.parametrize("inputs", [(), ("charge", "spin")])
def test_charge_and_spin_are_exported_whether_the_model_reads_them_or_not(
    inputs: tuple[str, ...], tmp_path: Path
) -> None:
    systems = hydrogen()
    systems[0].info |= {"charge": -1, "spin": 2.0}
    model = AtomicPotential.default(elements=(1,), inputs=inputs).double()
    run = simulate(model, systems, store=tmp_path / "run", **ATOMS)
    folder = export(run, tmp_path / "out", format="extxyz")
    for number, atoms in enumerate(systems):
        for frame in ase.io.read(folder / f"{number:06d}.extxyz", index=":"):
            assert {name: frame.info[name] for name in ("charge", "spin") if name in frame.info} == atoms.info


def test_a_charge_that_is_no_number_is_refused(tmp_path: Path) -> None:
    systems = hydrogen()
    systems[1].info["charge"] = "minus one"
    with pytest.raises(InputError, match=r"atoms.info\['charge'\] must be a number, got 'minus one'"):
        simulate(AtomicPotential.default(elements=(1,)).double(), systems, store=tmp_path, **ATOMS)


@pytest.mark.parametrize(("ending", "format"), [("zarr", "zarr"), ("h5", "h5md"), ("hdf5", "h5md")])
def test_the_ending_says_the_format(run: Run, ending: str, format: str, tmp_path: Path) -> None:
    pytest.importorskip({"zarr": "zarr", "h5md": "h5py"}[format])
    target = export(run, tmp_path / f"run.{ending}")
    assert target.is_dir() == (format == "zarr")


@pytest.mark.parametrize("name", ["out.extxyz", "out.xyz", "out.traj"])
def test_the_file_of_one_trajectory(molecules: Run, name: str, tmp_path: Path) -> None:
    target = export(molecules, tmp_path / name, trajectories=[1])
    frames = ase.io.read(target, index=":")
    assert [each.info["trajectory"] for each in frames] == [1] * len(molecules.trajectory(1).times)
    assert (
        np.abs(np.stack([each.positions for each in frames]) - molecules.trajectory(1).q[:]).max()
        < EXTXYZ_DIGITS
    )
    with pytest.raises(
        ValueError, match=r"more.* is the file of one trajectory, not of 2: choose one, or give a folder"
    ):
        export(molecules, tmp_path / f"more{target.suffix}")


def test_units_of_atoms_are_named(run: Run, molecules: Run, tmp_path: Path) -> None:
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    pq = pytest.importorskip("pyarrow.parquet")
    times = molecules.trajectory(1).times / units.fs
    with h5py.File(export(molecules, tmp_path / "run.h5"), "r") as file:
        group = file["particles/trajectory-000001"]
        assert group["position/value"].attrs["unit"] == "Angstrom"
        assert group["velocity/value"].attrs["unit"] == "Angstrom fs-1"
        assert group["mass"].attrs["unit"] == "u"
        assert file["observables/trajectory-000001/energy/value"].attrs["unit"] == "eV"
        assert group["position/time"].attrs["unit"] == "fs"
        assert group["position/time"][:] == pytest.approx(times)
        per_femtosecond = molecules.trajectory(1).p[:] / 1.008 * units.fs  # of hydrogen
        assert group["velocity/value"][:] == pytest.approx(per_femtosecond)
    root = zarr.open_group(str(export(molecules, tmp_path / "run.zarr")), mode="r")
    assert root.attrs["units"]["times"] == "fs"
    arrays = next(root.groups())[1] if "times" not in root else root
    assert arrays["times"][:] == pytest.approx(times)
    folder = export(molecules, tmp_path / "tables", format="parquet")
    table = pq.read_table(next(folder.iterdir()))
    assert json.loads(table.schema.metadata[b"units"])["p"] == "sqrt(u eV)"
    assert sorted(set(table["time"].to_pylist())) == pytest.approx(times)
    with h5py.File(export(run, tmp_path / "springs.h5"), "r") as file:  # of these nobody knows
        group = file["particles/trajectory-000001"]
        assert not group["position/value"].attrs
        assert group["position/time"][:] == pytest.approx(run.trajectory(1).times)


def test_an_ending_that_says_nothing_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"out.pdb does not say .* give the format, one of zarr, parquet, h5md, extxyz, traj"
    ):
        export(run, tmp_path / "out.pdb")


def test_export_of_some_trajectories_in_two_dimensions(run: Run, tmp_path: Path) -> None:
    folder = export(run, tmp_path / "out", format="extxyz", trajectories=[3])
    (file,) = folder.iterdir()
    frames = ase.io.read(file, index=":")
    assert np.abs(np.stack([x.positions for x in frames])[..., :2] - expected()[3]).max() < EXTXYZ_DIGITS


def test_export_to_zarr(run: Run, molecules: Run, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'lie_sim[export]'")
    group = zarr.open_group(str(export(run, tmp_path / "run", format="zarr")), mode="r")
    for name in ("q", "p", "energy"):
        assert np.array_equal(group[name][:], expected(name))
    assert group.metadata.zarr_format == 3
    chunk, row = run.place(4)
    masses = run.start(chunk).particles.masses[row].numpy()
    assert len(set(masses.tolist())) > 1
    assert np.array_equal(group["masses"][4], masses)
    some = zarr.open_group(str(export(run, tmp_path / "some", format="zarr", trajectories=[4, 1])), mode="r")
    assert np.array_equal(some["q"][:], expected()[[1, 4]])
    kinds = zarr.open_group(str(export(molecules, tmp_path / "kinds", format="zarr")), mode="r")
    assert np.array_equal(kinds["particles-3x3/q"][0], molecules.trajectory(1).q[:])


def test_export_to_parquet(run: Run, tmp_path: Path) -> None:
    pq = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: pip install 'lie_sim[export]'"
    )
    table = pq.read_table(export(run, tmp_path / "run", format="parquet"))
    assert table.num_rows == TOTAL * 11
    rows = table.filter(pq.filters_to_expression([("trajectory", "==", 4)]))
    assert np.array_equal(rows["q_3"].to_numpy(), expected()[4, :, 1, 1])
    assert np.array_equal(rows["energy"].to_numpy(), expected("energy")[4])
    chunk, row = run.place(4)
    masses = run.start(chunk).particles.masses[row].tolist()
    assert [set(rows[f"mass_{k}"].to_pylist()) for k in range(len(masses))] == [{mass} for mass in masses]


def test_export_to_h5md(molecules: Run, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'lie_sim[export]'")
    with h5py.File(export(molecules, tmp_path / "run.h5", format="h5md")) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        group = file["particles/trajectory-000001"]
        assert np.array_equal(group["position/value"][:], molecules.trajectory(1).q[:])
        assert group["species"][:].tolist() == [1, 1, 1]
        assert group["position/step"][:].tolist() == [0, 2, 4]
        momenta = group["velocity/value"][:] / units.fs * group["mass"][:][None, :, None]
        assert np.abs(momenta - molecules.trajectory(1).p[:]).max() < 1e-15


@pytest.mark.parametrize("format", ["zarr", "parquet", "h5md", "extxyz", "traj"])
def test_export_of_a_run_that_has_only_begun(format: str, tmp_path: Path) -> None:
    for name in FORMATS[format][1]:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'lie_sim[export]'")
    run = new_run(tmp_path / "run", wait=False)
    Worker(run.folder).run(1, 0)
    assert export(run, tmp_path / "new" / "out", format=format).exists()


def test_an_export_that_is_stopped_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ase.io, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        export(run, tmp_path / "out", format="traj")
    assert not list(tmp_path.iterdir())


def test_impossible_exports(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown format 'xtc'; there are zarr, parquet, h5md, extxyz, traj"):
        export(run, tmp_path / "x", format="xtc")
    with pytest.raises(ValueError, match=r"the ending of .*x\.h5 says h5md, the format is zarr: change one"):
        export(run, tmp_path / "x.h5", format="zarr")
    with pytest.raises(FileExistsError, match="is there already"):
        export(run, tmp_path, format="traj")
    with pytest.raises(IndexError, match="the trajectories 0 to 4, not 9"):
        export(run, tmp_path / "x", format="traj", trajectories=[9])
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPackageError, match=r"needs the package zarr: pip install 'lie_sim\[export\]'"):
        export(run, tmp_path / "x", format="zarr")
