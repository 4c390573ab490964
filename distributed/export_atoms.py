"""A run as particles for programs that show and analyse them: ASE's formats and H5MD.

Particles without a chemical element are "X"; two dimensions become three with z = 0. Times of atoms are in fs, and
their velocities in H5MD in Å/fs; its data sets say their units. Frames of a trajectory that has
ended are left out of ASE's formats, and NaN in H5MD.

Shape letters: T frames, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

import lie_sim
from lie_sim.distributed.run import Run
from lie_sim.distributed.run_units import times_and_unit, units_of
from lie_sim.distributed.start import ChunkStart


def to_ase(run: Run, path: Path, trajectories: Sequence[int], format: str) -> None:
    """A folder with a file for every trajectory that has frames."""
    path.mkdir(parents=True)
    for number, start, row in _places(run, trajectories):
        frames = list(atoms_of(run, number, start, row))
        if frames:
            ase.io.write(path / f"{number:06d}.{format}", frames, format=format)


def to_ase_file(run: Run, path: Path, number: int, format: str) -> None:
    """The file of one trajectory."""
    ((_, start, row),) = _places(run, [number])
    frames = list(atoms_of(run, number, start, row))
    if not frames:
        raise ValueError(f"trajectory {number} has no frames yet")
    ase.io.write(path, frames, format=format)


def atoms_of(run: Run, number: int, start: ChunkStart, row: int) -> Iterator[Atoms]:
    """The frames of a trajectory as atoms with momenta, charge and spin, and with the model's potential energy.

    ``info["time"]`` is in fs, for a run of atoms.
    """
    found, what = run.trajectory(number), _described(start, row)
    info = _inputs(start, row)
    q, p, energy = (np.asarray(x[:], dtype=float) for x in (found.q, found.p, found.energy))
    times, _ = times_and_unit(run, np.asarray(found.times))
    kinetic = 0.5 * (p**2).sum(-1) / what["masses"][None]
    for frame in np.flatnonzero(np.isfinite(energy)):
        atoms = Atoms(positions=_three(q[frame]), momenta=_three(p[frame]), **what)
        atoms.info = {**info, "time": float(times[frame]), "trajectory": number}
        atoms.calc = SinglePointCalculator(atoms, energy=float(energy[frame] - kinetic[frame].sum()))
        yield atoms


def ends_of(run: Run, trajectories: Sequence[int]) -> Iterator[tuple[Atoms, Atoms]]:
    """The first and the last frame of each trajectory that has any, without momenta."""
    for number, start, row in _places(run, trajectories):
        found = run.trajectory(number)
        frames = np.flatnonzero(np.isfinite(np.asarray(found.energy[:])))
        if len(frames):
            what, info = _described(start, row), _inputs(start, row)
            first, last = (
                Atoms(positions=_three(np.asarray(found.q[int(k)], dtype=float)), info=dict(info), **what)
                for k in (frames[0], frames[-1])
            )
            yield first, last


def _inputs(start: ChunkStart, row: int) -> dict[str, float]:
    """Charge and spin, where they are given."""
    return {name: float(values[row]) for name, values in start.info.items() if not values[row].isnan()}


def all_atoms(run: Run) -> Iterator[Atoms]:
    """The frames of every trajectory."""
    for number, start, row in _places(run, range(run.status().trajectories)):
        yield from atoms_of(run, number, start, row)


def to_h5md(run: Run, path: Path, trajectories: Sequence[int]) -> None:
    """One H5MD file with a group of particles for every trajectory that has frames."""
    import h5py

    with h5py.File(path, "w") as file:
        head = file.create_group("h5md")
        head.attrs["version"] = np.array([1, 1])
        head.create_group("author").attrs["name"] = "lie_sim"
        creator = head.create_group("creator").attrs
        creator["name"], creator["version"] = "lie_sim", lie_sim.__version__
        for number, start, row in _places(run, trajectories):
            if len(run.trajectory(number).times):
                _h5md_trajectory(run, file, number, start, row)


def _h5md_trajectory(run: Run, file: Any, number: int, start: ChunkStart, row: int) -> None:
    found, what, name = run.trajectory(number), _described(start, row), f"trajectory-{number:06d}"
    group = file.create_group(f"particles/{name}")
    box = group.create_group("box")
    dim = int(found.q.shape[-1])
    pbc = np.asarray(what.get("pbc", np.zeros(dim, dtype=bool)))
    box.attrs["dimension"] = dim
    box.attrs["boundary"] = np.array(["periodic" if each else "none" for each in pbc], dtype="S")
    if pbc.any():
        box["edges"] = np.asarray(what["cell"])
    group["species"], group["mass"] = np.asarray(what["numbers"]), what["masses"]
    times, fs = times_and_unit(run, np.asarray(found.times))
    known = units_of(run)
    velocity = np.asarray(found.p[:], dtype=float) / what["masses"][None, :, None]
    velocity *= units.fs if known else 1.0
    values = {
        f"particles/{name}/position": (found.q[:], known.get("q")),
        f"particles/{name}/velocity": (velocity, known and f"{known['q']} {fs}-1"),
        f"observables/{name}/energy": (found.energy[:], known.get("energy")),
    }
    for place, (value, unit) in values.items():
        element = file.create_group(place)
        element["value"], element["time"] = value, times
        element["step"] = np.arange(len(times)) * run.manifest.save_every
        if unit:
            element["value"].attrs["unit"], element["time"].attrs["unit"] = unit, fs
    if known:
        group["mass"].attrs["unit"] = known["masses"]
        if "edges" in box:
            box["edges"].attrs["unit"] = known["q"]


def _places(run: Run, trajectories: Sequence[int]) -> Iterator[tuple[int, ChunkStart, int]]:
    """Number, chunk and row of each trajectory, chunk by chunk."""
    wanted = set(trajectories)
    for chunk in range(len(run.manifest.chunks)):
        chosen = [(row, int(k)) for row, k in enumerate(run.members(chunk)) if int(k) in wanted]
        start = run.start(chunk) if chosen else None
        for row, number in chosen:
            assert start is not None
            yield number, start, row


def _described(start: ChunkStart, row: int) -> dict[str, Any]:
    """What ASE needs to know beside positions."""
    particles = start.particles
    count = int(particles.masses.shape[1])
    numbers = np.zeros(count, int) if particles.species is None else particles.species[row].numpy()
    what: dict[str, Any] = {"numbers": numbers, "masses": particles.masses[row].double().numpy()}
    if particles.cell is not None and particles.pbc is not None:
        what |= {"cell": particles.cell[row].double().numpy(), "pbc": particles.pbc[row].numpy()}
    return what


def _three(x: np.ndarray) -> np.ndarray:
    """Coordinates in three dimensions."""
    return np.pad(x, ((0, 0), (0, 3 - x.shape[-1]))) if x.shape[-1] < 3 else x
