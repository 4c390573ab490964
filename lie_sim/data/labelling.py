"""Labels for structures: energies, forces, dipoles and charges of any ASE calculator, as extended XYZ.

A job is one structure with all its geometries. It depends on the structure, its number, the options and the seed alone,
so jobs may run anywhere, in any order, and again: the file is the same to the byte for any number of workers and any
interruptions. One that fails leaves its error behind, and the others go on.

    OUT.extxyz                  the frames, REF_energy, REF_dipole in info, REF_forces, REF_charges in arrays
    OUT.extxyz.journal.jsonl    a header with options and versions; then a line for every structure that is done, with
                                the length of OUT.extxyz after it

The journal is written after the frames; what lies beyond its last line is cut off when a run goes on.

Units: eV, eV/Å, e·Å, e.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms

from lie_sim.data.journal import Journal
from lie_sim.data.reference_calculators import calculator_version, reference_calculator
from lie_sim.data.sampling import Sampling, geometries
from lie_sim.data.structure_files import INPUTS, PREFIX
from lie_sim.errors import ConfigError, DataError
from lie_sim.plain import to_plain
from lie_sim.totals import ARRAYS, total_of

_INFO, _ARRAYS = ("energy", "dipole", "stress"), ("forces", "charges")
"""How far, in e or unpaired electrons, a sum over atoms may be from the number in ``info``: they have few digits."""
_AHEAD = 4
"""Jobs of a worker that wait for it."""


@dataclass(frozen=True)
class LabelConfig:
    """What fixes the labels of a list of structures.

    Args:
        calculator: "gfn2", "gfn1", "emt" or "pkg.mod:Name".
        geometries: which geometries of each structure.
        largest_force: eV/Å; a frame with a larger force on an atom is left out: its molecule is about to break.
        seed: of everything random.
    """

    calculator: str = "gfn2"
    geometries: Sampling = field(default_factory=Sampling)
    largest_force: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.largest_force < float("inf"):
            raise ConfigError(f"largest_force must be positive, got {self.largest_force}")


@dataclass(frozen=True)
class LabelSummary:
    """What a run left in its file.

    Args:
        structures: how many are done.
        frames: how many were written.
        dropped: frames that were left out for their forces.
        failures: number of each structure that failed, and why.
    """

    structures: int
    frames: int
    dropped: int
    failures: dict[int, str]


@dataclass(frozen=True)
class Labelled:
    """The outcome of a job: frames as text, or why there are none."""

    text: str
    frames: int
    dropped: int
    error: str | None


def label_file(
    path: str | Path,
    structures: Sequence[Atoms],
    config: LabelConfig,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[LabelSummary], None] | None = None,
) -> LabelSummary:
    """Label structures into a file; what is there already is not done again.

    Args:
        path: the extended XYZ file.
        structures: the starts; a longer list with the same beginning goes on where the shorter one ended.
        config: how.
        workers: processes; 1 works in this one.
        overwrite: begin again where a file of another run is in the way.
        progress: called after every structure.

    Raises:
        DataError: the file is of a run with other options or structures, or a worker died.
        ConfigError: there is no such calculator.

    Example:
        >>> import tempfile
        >>> from ase.build import molecule
        >>> file = Path(tempfile.mkdtemp(), "copper.extxyz")
        >>> config = LabelConfig("emt", Sampling(frames=2))
        >>> label_file(file, [molecule("H2O"), molecule("SiH4")], config)
        LabelSummary(structures=2, frames=3, dropped=0, failures={1: 'NotImplementedError: No EMT-potential for Si'})
    """
    path = Path(path)
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    reference_calculator(config.calculator)
    header = to_plain(config) | calculator_version(config.calculator)
    digests = [structure_digest(atoms) for atoms in structures]
    with Journal(path, header, digests, overwrite=overwrite) as journal:
        summary = summarised(journal.rows)
        if progress is not None:
            progress(summary)
        todo = range(len(journal.rows), len(structures))
        for number, done in zip(todo, _outcomes(structures, todo, config, workers), strict=True):
            row = {"frames": done.frames, "dropped": done.dropped, "digest": digests[number]}
            journal.append(done.text, row if done.error is None else row | {"error": done.error})
            summary = summarised([journal.rows[-1]], summary)
            if progress is not None:
                progress(summary)
    return summary


def structure_digest(atoms: Atoms) -> str:
    """16 digits of elements, positions, cell, charge and spin unless they are 0, and the arrays of ``INPUTS``."""
    found = hashlib.sha256(atoms.numbers.astype(np.int64).tobytes())
    for array in (atoms.positions, np.asarray(atoms.cell), atoms.pbc):
        found.update(np.ascontiguousarray(array).tobytes())
    for name in ("charge", "spin"):
        if atoms.info.get(name):
            found.update(f"{name} {float(atoms.info[name])!r}".encode())
    for name, array in input_arrays(atoms).items():
        found.update(name.encode() + np.ascontiguousarray(array, dtype=float).tobytes())
    return found.hexdigest()[:16]


def summarised(rows: Sequence[dict[str, Any]], before: LabelSummary | None = None) -> LabelSummary:
    """The rows of a journal, added to what came before them."""
    before = before or LabelSummary(0, 0, 0, {})
    failures = {before.structures + k: row["error"] for k, row in enumerate(rows) if "error" in row}
    return LabelSummary(
        structures=before.structures + len(rows),
        frames=before.frames + sum(row["frames"] for row in rows),
        dropped=before.dropped + sum(row["dropped"] for row in rows),
        failures=before.failures | failures,
    )


def label_structure(start: Atoms, number: int, config: LabelConfig) -> Labelled:
    """One job: the labelled geometries of a structure; an error becomes part of the outcome.

    Args:
        start: the structure.
        number: its place in the list, from which its random draws follow.
        config: how.
    """
    random = np.random.default_rng([config.seed, number])
    frames: list[Atoms] = []
    dropped = 0
    try:
        atoms = with_total_charge(start)
        atoms.calc = reference_calculator(config.calculator)
        for geometry in geometries(atoms, config.geometries, random):
            geometry.calc = atoms.calc
            labelled = with_labels(geometry)
            geometry.calc = None
            if np.abs(labelled.arrays[f"{PREFIX}forces"]).max() > config.largest_force:
                dropped += 1
            else:
                labelled.info |= {"structure": number, "frame": len(frames)}
                labelled.arrays |= {name: array.copy() for name, array in input_arrays(start).items()}
                frames.append(labelled)
    except Exception as error:  # calculators raise what they like; the other structures are none the worse
        return Labelled("", 0, 0, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
    text = io.StringIO()
    if frames:
        ase.io.write(text, frames, format="extxyz")
    return Labelled(text.getvalue(), len(frames), dropped, None)


def with_total_charge(start: Atoms) -> Atoms:
    """A copy whose initial charges and moments, which calculators read, sum to the charge and spin in ``info``.

    Those that it has stay, and their sum goes to ``info``; else one atom gets the number in ``info``. Constraints go.

    Raises:
        ValueError: the structure says two charges or two spins.
    """
    atoms = Atoms(start.numbers, start.positions, cell=start.cell, pbc=start.pbc)
    atoms.info = {name: start.info[name] for name in ("charge", "spin") if name in start.info}
    for name, array in input_arrays(start).items():
        atoms.set_array(name, array)
    for name, place in ARRAYS.items():
        total = total_of(atoms, name)
        if total is not None:
            atoms.info[name] = total
        if total and not atoms.has(place):
            atoms.set_array(place, np.eye(1, len(atoms))[0] * float(total))
    return atoms


def input_arrays(atoms: Atoms) -> dict[str, np.ndarray]:
    """The arrays of ``INPUTS`` that a structure has; charges and moments that are all 0 count as none.

    Example:
        >>> input_arrays(Atoms("O2", magmoms=[1, 1], charges=[0, 0]))
        {'initial_magmoms': array([1., 1.])}
    """
    return {
        name: atoms.arrays[name]
        for name in INPUTS
        if name in atoms.arrays and (name == "masses" or atoms.arrays[name].any())
    }


def with_labels(atoms: Atoms) -> Atoms:
    """A copy with the results of its calculator as reference values; energy and forces must be there.

    Raises:
        ValueError: an energy or a force is not finite.
    """
    labelled = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise ValueError("the calculator gave an energy or force that is not finite")
    results = {**getattr(atoms.calc, "results", {}), "energy": float(energy), "forces": forces}
    for name in _INFO:
        if name in results and (name != "stress" or atoms.pbc.all()):
            value = results[name]
            labelled.info[PREFIX + name] = value if name == "energy" else np.array(value, dtype=float)
    for name in _ARRAYS:
        if name in results:
            labelled.arrays[PREFIX + name] = np.array(results[name], dtype=float)
    return labelled


def _outcomes(
    structures: Sequence[Atoms], todo: Sequence[int], config: LabelConfig, workers: int
) -> Iterator[Labelled]:
    """The outcomes of the jobs, in their order."""
    if workers == 1 or len(todo) < 2:
        yield from (label_structure(structures[k], k, config) for k in todo)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    waiting: deque[Future[Labelled]] = deque()
    try:
        for k in todo:
            waiting.append(pool.submit(label_structure, structures[k], k, config))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker died (out of memory?); what was labelled is kept: the same command goes on from there"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is for the parent, which lets the jobs at work end; a worker has one thread, as has what it starts."""
    signal(SIGINT, SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # it was loaded before, and reads the variable only then
