"""Structures with reference values from the files that chemists keep: extended XYZ, ase.db, .traj, MD17-style npz.

Extended XYZ, databases and trajectories are read by ASE. Reference values are taken from keys with a prefix
(``REF_energy``, ``REF_forces``, ``REF_stress``, ``REF_dipole``, ``REF_charges``, ``REF_polarizability``), which ASE
leaves alone, or else from the results that ASE found under the plain names. ``REF_weight``, or ``config_weight`` as
MACE has it, is the weight of a structure in the loss; any other number with a prefix, such as ``REF_gap``, is a value
of that name. Units are ASE's. An npz file of the MD17 family says its units, or the caller does.

Nothing that is read is executed, and what cannot be right (NaN, an atom in another, forces a hundred times too large)
is an error that names the structure.

Shape letters: M structures, A atoms, T frames, N atoms of a frame.
Reference: Chmiela et al., Science Advances 3 (2017) e1603015 (MD17).
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
from ase import Atoms, units

from lie_sim.data.molecules import PER_ATOM, PER_STRUCTURE, Molecules, joined
from lie_sim.data.plausible import check_values
from lie_sim.errors import DataError
from lie_sim.totals import ARRAYS, total_of
from lie_sim.warning import warn

PREFIX = "REF_"
ENERGY_UNITS = {
    "eV": 1.0,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
}
"""In eV."""
LENGTH_UNITS = {"Ang": 1.0, "Bohr": units.Bohr, "nm": units.nm}
"""In Å."""
_NPZ_NAMES = {
    "positions": ("R", "coords"),
    "numbers": ("z", "nuclear_charges"),
    "energy": ("E", "energies"),
    "forces": ("F", "forces"),
}
_ASYMMETRY = 1e-3
"""Of a stress, relative: codes print few digits."""
INPUTS = ("initial_charges", "initial_magmoms", "masses")
"""Arrays that calculators or the sampling of geometries read."""
WEIGHTS = ("weight", "config_weight")
"""Entries of ``info``, the first one with a prefix, that weigh a structure in the loss."""
_FROM_RESULTS = ("energy", "forces", "stress", "dipole", "charges")


def read_structures(
    path: str | Path,
    *,
    prefix: str = PREFIX,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    check_units: bool = True,
) -> Molecules:
    """Read every structure of a file.

    Args:
        path: ``.extxyz`` or ``.xyz``, ``.db``, ``.traj``, ``.npz``, or ``.safetensors`` as ``Molecules.save`` writes
            it.
        prefix: of the keys that hold reference values.
        energy_unit: of an npz file that does not say it; one of ``ENERGY_UNITS``.
        length_unit: likewise; one of ``LENGTH_UNITS``. None there means Å.
        check_units: refuse values that suggest other units.

    Raises:
        DataError: the file is missing, of an unknown kind, malformed, or holds something impossible.

    Example:
        >>> import tempfile
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> water.info["REF_energy"], water.arrays["REF_forces"] = -137.6, np.zeros((3, 3))
        >>> file = Path(tempfile.mkdtemp()) / "water.extxyz"
        >>> write_structures(file, [water, water])
        >>> read_structures(file).values["energy"].tolist()
        [-137.6, -137.6]
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}")
    kind = path.suffix
    if kind == ".safetensors":
        return Molecules.load(path)
    if kind == ".npz":
        molecules = _read_npz(path, energy_unit, length_unit)
    elif kind in (".extxyz", ".xyz", ".db", ".traj"):
        if energy_unit or length_unit:
            raise DataError(f"{path}: units are ASE's there, eV and Å; convert the file instead")
        molecules = from_atoms(_frames(path), prefix=prefix, source=str(path))
        if "forces" not in molecules.values:
            _warn_of_other_forces(next(_frames(path)), path, prefix)
    else:
        raise DataError(
            f"{path}: unknown kind of file {kind!r}; known are .extxyz, .xyz, .db, .traj, .npz, .safetensors"
        )
    check_values(molecules, source=str(path), suspicious=check_units)
    return molecules


def _warn_of_other_forces(atoms: Atoms, path: Path, prefix: str) -> None:
    others = [name for name in atoms.arrays if any(part in name.lower() for part in ("force", "grad"))]
    if others:
        warn(
            f"{path}: no forces were read; its array {', '.join(others)} is none of {prefix}forces and forces: "
            "rename it if it holds forces in eV/Å"
        )


def read_atoms(path: str | Path, *, check_units: bool = True) -> list[Atoms]:
    """The structures of a file as ASE atoms, with the arrays of ``INPUTS`` where a file that ASE reads has them.

    Args:
        path: as of :func:`read_structures`, which also says what is refused.
        check_units: likewise.
    """
    path = Path(path)
    systems = to_atoms(read_structures(path, check_units=check_units))
    if path.suffix not in (".npz", ".safetensors"):
        for atoms, frame in zip(systems, _frames(path), strict=True):
            for name in INPUTS:
                if frame.has(name):
                    atoms.set_array(name, frame.arrays[name])
    return systems


def write_structures(path: str | Path, systems: Sequence[Atoms]) -> None:
    """Write extended XYZ; reference values are entries of ``info`` and ``arrays`` with a prefix."""
    ase.io.write(Path(path), list(systems), format="extxyz")


def _frames(path: Path) -> Iterator[Atoms]:
    number = 0
    try:
        if path.suffix == ".db":
            with ase.db.connect(path) as database:
                for row in database.select():
                    atoms = row.toatoms(add_additional_information=True)
                    atoms.info |= atoms.info.pop("key_value_pairs", {})
                    atoms.info |= dict(atoms.info.pop("data", {}))
                    yield atoms
                    number += 1
        else:
            for atoms in ase.io.iread(path, index=":", format="traj" if path.suffix == ".traj" else "extxyz"):
                yield atoms
                number += 1
    except DataError:
        raise
    except KeyError as error:  # ASE looks symbols up
        raise DataError(
            f"{path}: structure {number} cannot be read: unknown element or key {error}"
        ) from error
    except Exception as error:  # what ASE raises on malformed files is of many classes
        raise DataError(f"{path}: structure {number} cannot be read: {error}") from error


def from_atoms(
    systems: Iterator[Atoms] | Sequence[Atoms], *, prefix: str = PREFIX, source: str = "atoms"
) -> Molecules:
    """A set of structures from ASE atoms, with their reference values.

    Where some have a charge or spin (:mod:`lie_sim.totals`), that of the others is 0.

    Raises:
        DataError: there is none, or a reference value has the wrong shape, or a structure has some values under the
            prefix and others as results of a calculator, or says two charges.
        TypeError: it is one ``Atoms``.
    """
    if isinstance(systems, Atoms):
        raise TypeError("expected a list of Atoms, got one Atoms: write [atoms]")
    parts = [_one(atoms, number, prefix, source) for number, atoms in enumerate(systems)]
    if not parts:
        raise DataError(f"{source} holds no structure")
    zeros = {name: np.zeros(1) for name in ARRAYS if any(name in part.values for part in parts)}
    parts = [replace(part, values={**zeros, **part.values}) for part in parts]
    return joined(parts, metadata={"source": source})


def _one(atoms: Atoms, number: int, prefix: str, source: str) -> Molecules:
    count = len(atoms)
    if count == 0:
        raise DataError(f"{source}: structure {number} has no atoms")
    _refuse_two_sources(atoms, prefix, f"{source}: structure {number}")
    values = _weight(atoms, prefix, f"{source}: structure {number}")
    for name, shape in (PER_STRUCTURE | PER_ATOM).items():
        try:
            found = _value(atoms, name, prefix)
        except ValueError as error:
            raise DataError(f"{source}: structure {number}: {error}") from error
        if found is None:
            continue
        expected = (count, *shape) if name in PER_ATOM else shape
        try:
            array = np.asarray(found, dtype=float)
            if name == "stress" and array.shape in ((3, 3), (9,)):
                array = _voigt(array.reshape(3, 3), f"{source}: stress of structure {number}")
        except (TypeError, ValueError) as error:
            raise DataError(f"{source}: {name} of structure {number} is no number: {found!r}") from error
        if array.shape != expected:
            raise DataError(
                f"{source}: {name} of structure {number} must have shape {expected}, got {array.shape}"
            )
        values[name] = array if name in PER_ATOM else array[None]
    values |= _others(atoms, prefix, {*values, *PER_STRUCTURE, *PER_ATOM, *WEIGHTS})
    return Molecules(
        numbers=atoms.numbers.astype(np.int64),
        positions=np.array(atoms.positions, dtype=float),
        offsets=np.array([0, count]),
        cells=np.asarray(atoms.cell, dtype=float)[None],
        pbc=np.asarray(atoms.pbc, dtype=bool)[None],
        values=values,
    )


def _weight(atoms: Atoms, prefix: str, where: str) -> dict[str, np.ndarray]:
    """The weight of a structure as a value, if it has one."""
    keys = [key for key in (prefix + WEIGHTS[0], *WEIGHTS[1:]) if key in atoms.info]
    if not keys:
        return {}
    given = atoms.info[keys[0]]
    if not isinstance(given, Real) or not 0 <= float(given) < np.inf:
        raise DataError(f"{where}: {keys[0]} must be a number, not negative, got {given!r}")
    return {"weight": np.array([float(given)])}


def _others(atoms: Atoms, prefix: str, known: Collection[str]) -> dict[str, np.ndarray]:
    """Any other number under the prefix, such as a gap, and polarizabilities."""
    found = {}
    for key, value in atoms.info.items():
        name = key.removeprefix(prefix)
        if not name or name == key or name in known or isinstance(value, str | bool):
            continue
        if isinstance(value, Real):
            found[name] = np.array([float(value)])
        elif name == "polarizability" and np.size(value) == 9:
            found[name] = np.asarray(value, dtype=float).reshape(1, 3, 3)
    return found


def _voigt(stress: np.ndarray, where: str) -> np.ndarray:
    """xx, yy, zz, yz, xz, xy."""
    if np.nanmax(np.abs(stress - stress.T), initial=0) > _ASYMMETRY * np.nanmax(np.abs(stress), initial=0):
        raise DataError(f"{where} is not symmetric, as a stress is: {stress.tolist()}")
    return stress.reshape(9)[[0, 4, 8, 5, 2, 1]]


def _value(atoms: Atoms, name: str, prefix: str) -> Any:
    kept = atoms.arrays if name in PER_ATOM else atoms.info
    if prefix + name in kept:
        return kept[prefix + name]
    if prefix + name in atoms.info:  # databases keep arrays among the data
        return atoms.info[prefix + name]
    if name in ("charge", "spin"):
        return total_of(atoms, name)
    if name in _FROM_RESULTS and atoms.calc is not None:
        return atoms.calc.results.get(name)
    return None


def _refuse_two_sources(atoms: Atoms, prefix: str, where: str) -> None:
    """Labels of a structure are of one method: those under a prefix and those of a calculator may be of two."""
    marked = [name for name in _FROM_RESULTS if prefix + name in {*atoms.info, *atoms.arrays}]
    results = getattr(atoms.calc, "results", {})
    others = [name for name in _FROM_RESULTS if name in results and name not in marked]
    if marked and others:
        raise DataError(
            f"{where} has {', '.join(prefix + name for name in marked)}, but {', '.join(others)} under the plain name, "
            f"which may be of another method: rename it to {prefix + others[0]}, or remove it (atoms.calc = None)"
        )


def _read_npz(path: Path, energy_unit: str | None, length_unit: str | None) -> Molecules:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if not file[name].dtype.hasobject}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path} is no complete npz file of plain arrays: {error}") from error
    found = {
        ours: next((arrays[name] for name in theirs if name in arrays), None)
        for ours, theirs in _NPZ_NAMES.items()
    }
    missing = [" or ".join(_NPZ_NAMES[name]) for name in ("positions", "numbers") if found[name] is None]
    if missing:
        raise DataError(f"{path} has no array {', '.join(missing)}; it has {', '.join(sorted(arrays))}")
    energy = _unit(path, energy_unit or _said(arrays, "e_unit"), ENERGY_UNITS, "energy_unit")
    length = _unit(path, length_unit or _said(arrays, "r_unit") or "Ang", LENGTH_UNITS, "length_unit")
    positions = np.asarray(found["positions"], dtype=float) * length
    numbers = np.asarray(found["numbers"])
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or (numbers % 1).any():
        raise DataError(
            f"{path}: atomic numbers must be whole numbers of shape (N,), the same for every frame; "
            f"got {numbers.dtype} of shape {numbers.shape}"
        )
    if positions.ndim != 3 or len(positions) == 0 or positions.shape[1:] != (len(numbers), 3):
        raise DataError(
            f"{path}: positions must have shape (T, {len(numbers)}, 3), T > 0, for {len(numbers)} atomic numbers, "
            f"got {positions.shape}"
        )
    frames = len(positions)
    values = {}
    if found["energy"] is not None:
        values["energy"] = np.asarray(found["energy"], dtype=float).reshape(-1) * energy
    if found["forces"] is not None:
        values["forces"] = np.asarray(found["forces"], dtype=float).reshape(-1, 3) * energy / length
    try:
        return Molecules(
            numbers=np.tile(numbers.astype(np.int64), frames),
            positions=positions.reshape(-1, 3),
            offsets=np.arange(frames + 1) * len(numbers),
            cells=np.zeros((frames, 3, 3)),
            pbc=np.zeros((frames, 3), dtype=bool),
            values=values,
            metadata={"source": str(path)},
        )
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _said(arrays: dict[str, np.ndarray], name: str) -> str | None:
    if name not in arrays:
        return None
    value = arrays[name].item() if arrays[name].size == 1 else arrays[name]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _unit(path: Path, name: str | None, known: dict[str, float], option: str) -> float:
    if name is None:
        raise DataError(
            f"{path} does not say the unit of its energies: give {option}, one of {', '.join(known)} "
            "(files of MD17 and rMD17 are in kcal/mol)"
        )
    if name not in known:
        raise DataError(f"{path}: unknown {option} {name!r}; known are {', '.join(known)}")
    return known[name]


def to_atoms(molecules: Molecules) -> list[Atoms]:
    """ASE atoms of a set, without its reference values; charge and spin go to ``info``.

    Example:
        >>> from ase.build import molecule
        >>> [str(atoms.symbols) for atoms in to_atoms(from_atoms([molecule("H2O")]))]
        ['OH2']
    """
    inputs = {name: molecules.values[name] for name in ("charge", "spin") if name in molecules.values}
    systems = []
    for k, (begin, end) in enumerate(itertools.pairwise(molecules.offsets.tolist())):
        info = {name: float(value[k]) for name, value in inputs.items() if np.isfinite(value[k])}
        atoms = Atoms(molecules.numbers[begin:end], molecules.positions[begin:end], info=info)
        atoms.set_cell(molecules.cells[k])
        atoms.set_pbc(molecules.pbc[k])
        systems.append(atoms)
    return systems
