"""A crystal in ASE: equation of state, elastic relaxation of the cell, and the barrier of a vacancy that moves.

The potential is trained on the spot, for aluminium as ASE's EMT has it, on energies, forces and stresses of small
cells; it is then used for larger ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import BFGS, FIRE

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.data.structure_files import from_atoms
from lie_sim.experiments.molecules import molecules_training
from lie_sim.training import MoleculesTask, train
from lie_sim.training.references import atomic_potential

NETWORK = {
    "width": 32,
    "num_heads": 8,
    "num_moments": 8,
    "kernel_hidden": 32,
    "cutoff": 5.0,
    "mean_neighbours": 18.0,
}


def labelled(count: int) -> list[Atoms]:
    """Strained and shaken cells of four atoms, some without one of them."""
    random, made = np.random.default_rng(0), []
    for number in range(count):
        atoms = bulk("Al", cubic=True) * (2, 1, 1) if number % 2 else bulk("Al", cubic=True)
        if number % 4 == 3:
            del atoms[number % len(atoms)]
        strain = 0.01 * random.normal(size=(3, 3)) + random.uniform(-0.04, 0.05) * np.eye(3)
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        atoms.positions += random.normal(0, random.uniform(0.02, 0.25), atoms.positions.shape)
        atoms.calc = EMT()
        atoms.info |= {"REF_energy": atoms.get_potential_energy(), "REF_stress": atoms.get_stress()}
        atoms.arrays["REF_forces"] = atoms.get_forces()
        made.append(atoms)
    return made


def trained() -> LieTransformerCalculator:
    """Train a small potential."""
    data = from_atoms(labelled(240))
    torch.manual_seed(0)
    model = atomic_potential(data, network=NETWORK)
    task = MoleculesTask(data[:200], data[200:], cutoff=model.cutoff, stress_weight=1.0)
    train(model, task, replace(molecules_training(), max_steps=700, max_cpu_seconds=0.0), progress=False)
    return LieTransformerCalculator(model, dtype="float64")


def equation_of_state(calculator: Any) -> tuple[float, float]:
    """Lattice constant in Å and bulk modulus in GPa."""
    volumes, energies = [], []
    for scale in np.linspace(0.98, 1.02, 7):
        atoms = bulk("Al")
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.calc = calculator
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    volume, _, modulus = EquationOfState(volumes, energies).fit()
    return (4 * volume) ** (1 / 3), modulus / units.GPa


def barrier(calculator: Any) -> float:
    """Energy in eV that an atom needs to move into a vacancy of a cell of 32 sites; all images share a calculator."""
    crystal = bulk("Al", cubic=True) * (2, 2, 2)
    start, end = crystal.copy(), crystal.copy()
    neighbour = int(np.argsort(crystal.get_distances(0, range(32), mic=True))[1])
    end.positions[neighbour] = crystal.positions[0]
    images = [start, *(start.copy() for _ in range(3)), end]
    for image in images:
        del image[0]
        image.calc = calculator
    for image in (start, end):
        BFGS(image, logfile=None).run(fmax=0.03, steps=60)
    band = NEB(images, climb=True, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate(mic=True)
    FIRE(band, logfile=None).run(fmax=0.05, steps=80)
    energies = [image.get_potential_energy() for image in images]
    return max(energies) - energies[0]


def main() -> None:
    calculator = trained()
    print("                     ours   reference")
    for label, digits, ours, theirs in zip(
        ("lattice constant, Å", "bulk modulus, GPa"),
        (3, 0),
        equation_of_state(calculator),
        equation_of_state(EMT()),
        strict=True,
    ):
        print(f"{label} {ours:10.{digits}f} {theirs:9.{digits}f}")
    print(f"vacancy hop, eV {barrier(calculator):13.2f} {barrier(EMT()):9.2f}")

    atoms = bulk("Al", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * np.eye(3, k=1)), scale_atoms=True)
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=100)
    print(f"relaxed cell: largest stress {1000 * np.abs(atoms.get_stress()).max() / units.GPa:.2f} MPa")


if __name__ == "__main__":
    main()
