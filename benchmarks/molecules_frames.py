"""Frames of small molecules with GFN2-xTB energies and forces, as MD17 has them at another level of theory.

Langevin dynamics at 500 K from the relaxed geometry, steps of 0.5 fs, friction 0.01/fs; after 1 ps every tenth step is
a frame. The file is an npz of the MD17 family: z, R (Å), E (eV), F (eV/Å). As there, training and test frames come from
one trajectory, so errors say how well a model interpolates, not how well it knows other molecules.

    python benchmarks/molecules_frames.py ethanol ethanol.npz [--frames 3200] [--seed 0]

Needs ASE and tblite (make bench-env-molecules). About 80 CPU seconds for ethanol, 6 CPU minutes for aspirin.
References: Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15 (2019) 1652 (GFN2-xTB); Chmiela et al., Science
Advances 3 (2017) e1603015 (MD17).
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS

TEMPERATURE, STEP, FRICTION = 500.0, 0.5 * units.fs, 0.01 / units.fs
STRIDE, EQUILIBRATION = 10, 2000
FRAMES = 3200
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 1000, 200, 2000
GEOMETRIES = {  # relaxed by the MMFF force field, Å; GFN2-xTB relaxes them further
    "malonaldehyde": (
        "OCCCOHHHH",
        """1.927 0.719 -1.111  1.125 0.575 -0.190  0.082 -0.499 -0.190  -1.233 -0.050 0.366  -1.410 1.025 0.929
        1.207 1.182 0.728  0.441 -1.335 0.417  -0.079 -0.841 -1.217  -2.059 -0.776 0.269""",
    ),
    "aspirin": (
        "CCOOCCCCCCCOOHHHHHHHH",
        """3.078 1.183 -0.840  2.032 0.461 -0.044  2.103 0.246 1.159  1.007 0.069 -0.898  -0.057 -0.533 -0.220
        -0.103 -1.931 -0.237  -1.153 -2.594 0.395  -2.156 -1.863 1.030  -2.117 -0.464 1.029  -1.067 0.219 0.396
        -1.034 1.705 0.366  -0.229 2.411 -0.214  -2.036 2.259 1.076  2.632 2.043 -1.346  3.528 0.500 -1.564
        3.858 1.546 -0.166  0.678 -2.500 -0.733  -1.189 -3.681 0.395  -2.974 -2.380 1.526  -2.916 0.082 1.525
        -1.883 3.222 0.983""",
    ),
}
"""Malonaldehyde with two aldehyde groups (O=C–C–C=O), not its enol."""
MOLECULES = ("ethanol", *GEOMETRIES)


def geometry(name: str) -> Atoms:
    """A start for the relaxation."""
    if name == "ethanol":
        atoms: Atoms = molecule("CH3CH2OH")
        return atoms
    symbols, numbers = GEOMETRIES[name]
    return Atoms(symbols, np.array(numbers.split(), dtype=float).reshape(-1, 3))


def trajectory(atoms: Atoms, *, frames: int, seed: int) -> dict[str, np.ndarray]:
    """Frames of Langevin dynamics by the calculator of the atoms, as arrays of an MD17-style file."""
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=300)
    generator = np.random.default_rng(seed)
    thermalize_momenta(atoms, TEMPERATURE, rng=generator)
    dynamics = Langevin(atoms, STEP, temperature_K=TEMPERATURE, friction=FRICTION, rng=generator, fixcm=False)
    dynamics.run(EQUILIBRATION)
    positions, energies, forces = [], [], []
    for _ in range(frames):
        dynamics.run(STRIDE)
        positions.append(atoms.positions.copy())
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return {
        "z": atoms.numbers,
        "R": np.array(positions),
        "E": np.array(energies),
        "F": np.array(forces),
        "e_unit": np.array("eV"),
        "r_unit": np.array("Ang"),
    }


def make(name: str, path: Path, *, frames: int, seed: int) -> None:
    """Write the frames of a molecule; a file appears whole or not at all."""
    from tblite.ase import TBLite

    atoms = geometry(name)
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    found = trajectory(atoms, frames=frames, seed=seed)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **found)
    partial.replace(path)


@dataclass(frozen=True)
class Frames:
    """Frames of one molecule: numbers (N,), positions (M, N, 3) in Å, energies (M,) in eV, forces (M, N, 3) in eV/Å."""

    numbers: np.ndarray
    positions: np.ndarray
    energies: np.ndarray
    forces: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Frames:
        return Frames(self.numbers, self.positions[chosen], self.energies[chosen], self.forces[chosen])

    def __len__(self) -> int:
        return len(self.energies)


def read(path: Path) -> Frames:
    """The frames of a file that molecules_frames.py wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Frames(file["z"], file["R"], file["E"], file["F"])


def split(count: int, seed: int, *, quick: bool = False) -> dict[str, np.ndarray]:
    """Places of training, validation and test frames, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(count)
    train, validation = (count // 2, count // 4) if quick else (NUM_TRAIN, NUM_VALIDATION)
    test = min(NUM_TEST, count - train - validation)
    if test < 1:
        raise ValueError(f"{count} frames are too few for {train} to train and {validation} to validate")
    return {
        "train": order[:train],
        "validation": order[train : train + validation],
        "test": order[train + validation :][:test],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=MOLECULES)
    parser.add_argument("path", type=Path)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    make(options.name, options.path, frames=options.frames, seed=options.seed)


if __name__ == "__main__":
    main()
