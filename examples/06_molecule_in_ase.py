"""A molecule in ASE: relaxation, vibrations with an infrared spectrum, molecular dynamics, and the Hessian.

The potential is trained on the spot for water as ASE's toy method EMT has it, with fixed charges for the dipole: that
takes seconds, and the truth is at hand. With a model of your own, or one that comes with lie_sim, only one line is
another: ``LieTransformerCalculator("my-model")``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import VibrationsData

from lie_sim.calculators import LieTransformerCalculator, infrared_intensities, vibrations
from lie_sim.data.structure_files import from_atoms
from lie_sim.experiments.molecules import molecules_training
from lie_sim.training import MoleculesTask, named_target, train
from lie_sim.training.references import atomic_potential
from lie_sim.training.targets import property_heads

CHARGES = np.array([-0.66, 0.33, 0.33])
NETWORK = {"width": 32, "num_heads": 8, "num_moments": 8, "kernel_hidden": 32, "cutoff": 4.0}


def labelled(count: int) -> list[Atoms]:
    """Water, displaced, with energies, forces and dipoles of the reference."""
    random, made = np.random.default_rng(0), []
    for _ in range(count):
        atoms = molecule("H2O", calculator=EMT())
        atoms.positions = 1.13 * atoms.positions + random.normal(0, random.uniform(0.01, 0.08), (3, 3))
        atoms.info |= {"REF_energy": atoms.get_potential_energy(), "REF_dipole": CHARGES @ atoms.positions}
        atoms.arrays["REF_forces"] = atoms.get_forces()
        made.append(atoms)
    return made


def trained() -> LieTransformerCalculator:
    """Train a small potential with a head for the dipole."""
    data, targets = from_atoms(labelled(400)), [named_target("dipole")]
    torch.manual_seed(0)
    model = atomic_potential(data, network=NETWORK, heads=property_heads(data[:350], targets))
    task = MoleculesTask(data[:350], data[350:], cutoff=model.cutoff, targets=targets)
    train(model, task, replace(molecules_training(), max_steps=1500, max_cpu_seconds=0.0), progress=False)
    return LieTransformerCalculator(model, dtype="float64")


def relaxed(calculator: object) -> Atoms:
    """The minimum."""
    atoms = molecule("H2O", calculator=calculator)
    BFGS(atoms, logfile=None).run(fmax=1e-6, steps=300)
    return atoms


def reference_vibrations(atoms: Atoms, step: float = 1e-3) -> VibrationsData:
    """By differences of forces."""
    rows = []
    for place in range(9):
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions.flat[place] += sign * step
            ends.append(moved.get_forces().ravel())
        rows.append((ends[1] - ends[0]) / (2 * step))
    return VibrationsData.from_2d(atoms, np.array(rows))


def dynamics(calculator: LieTransformerCalculator, start: Atoms) -> None:
    """At constant energy, then at constant temperature."""
    atoms = start.copy()
    atoms.calc = calculator
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(1))
    Stationary(atoms)
    energies, kinetic, temperatures = [], [], []
    run = VelocityVerlet(atoms, 0.25 * units.fs)
    run.attach(
        lambda: (energies.append(atoms.get_total_energy()), kinetic.append(atoms.get_kinetic_energy()))
    )
    run.run(400)
    drift = 1000 * abs(np.polyfit(np.arange(len(energies)), energies, 1)[0]) * len(energies)
    print(
        f"100 fs at constant energy: drift {drift:.4f} meV, kinetic energy {1000 * np.mean(kinetic):.0f} meV"
    )
    run = Bussi(atoms, 0.5 * units.fs, 300, 20 * units.fs, rng=np.random.default_rng(2))
    run.attach(lambda: temperatures.append(atoms.get_temperature()))
    run.run(800)
    print(f"400 fs with a thermostat of 300 K: mean temperature {np.mean(temperatures[100:]):.0f} K")


def main() -> None:
    calculator = trained()
    ours, theirs = relaxed(calculator), relaxed(EMT())
    gap = np.abs(ours.get_all_distances() - theirs.get_all_distances()).max()
    print(f"relaxed: distances differ from the reference by {gap:.4f} Å")

    found, exact = vibrations(calculator, ours), reference_vibrations(theirs)
    intensities = infrared_intensities(calculator, found)
    rigid = np.sort(np.abs(found.get_frequencies()))[:6].max()
    print(f"largest of the six modes that do not vibrate: {rigid:.3f} cm⁻¹")
    print("vibration, cm⁻¹   reference   infrared intensity, (D/Å)²/u")
    for ours_, theirs_, intensity in zip(
        found.get_frequencies().real[6:], exact.get_frequencies().real[6:], intensities[6:], strict=True
    ):
        print(f"{ours_:12.0f} {theirs_:15.0f} {intensity:17.2f}")
    errors = np.abs(found.get_frequencies()[6:] - exact.get_frequencies()[6:])
    print(f"largest error of a frequency, cm⁻¹ {errors.max():.0f}")

    hessian = calculator.get_hessian(ours)
    print(f"Hessian {hessian.shape}, asymmetry {np.abs(hessian - hessian.T).max():.1e} eV/Å²")
    dynamics(calculator, ours)


if __name__ == "__main__":
    main()
