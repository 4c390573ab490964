"""Figures of a shipped potential: errors on unseen molecules, energy conservation, relaxed geometries, intervals.

    drift        slope of the line through H(t) of ethanol over 50 ps of 0.5 fs steps, over the number of atoms
    fluctuation  root mean square of H(t) about its mean, in float64, at two steps, over four runs of 1 ps
    wavenumbers  of harmonic vibrations, sorted, each at the minimum of its own potential; GFN2-xTB's by differences
    rmsd         of all atoms after the best superposition, our relaxed geometry against that of GFN2-xTB itself, both
                 relaxed to forces of 0.01 eV/Å, where GFN2-xTB's own is still 0.03 Å from its minimum, or of 0.001
    coverage     share of test structures whose energy lies in the conformal interval

Units: eV, Å, fs, ps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import minimize_rotation_and_translation, molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations, VibrationsData

from lie_sim.calculators import Calibration, LieTransformerCalculator, vibrations
from lie_sim.checkpoint import load_model
from lie_sim.data.molecules import Molecules
from lie_sim.data.reference_calculators import reference_calculator
from lie_sim.experiments.molecules import summary
from lie_sim.experiments.molecules_report import mean_errors
from lie_sim.training import PropertyTask, named_target
from lie_sim.training.molecules import errors

FORCE_TOLERANCE, TIGHT, MOST_STEPS = 0.01, 1e-3, 1000
"""eV/Å, where dynamics begin and of minima that are compared, and steps of a relaxation."""
DISPLACEMENT = 0.005
"""Å, of the differences for GFN2-xTB."""
RIGID = 1e-3
"""Of the largest extent of a motion as a whole: less is none, as the turn of a linear molecule about its axis."""
WAVENUMBER = 1e10 * units._hbar / np.sqrt(units._e * units._amu) / units.invcm
"""cm⁻¹ of √(eV/Å²/u)."""
TEMPERATURE = 300.0
FRAMES, OF_FORCES = 4, 150
"""Frames of a held-out molecule, and structures with which forces are calibrated."""


def accuracy(model: Path, test: Molecules) -> dict[str, float]:
    """Mean absolute errors on the frames of unseen molecules, and those at their equilibrium geometries."""
    potential = load_model(model)
    found = errors(potential, test, cutoff=potential.cutoff, inputs=())
    results = summary(found, test)
    return {
        "organic_energy_mae_mev": 1000 * results["energy_mae"],
        "organic_energy_atom_mae_mev": 1000 * results["energy_atom_mae"],
        "organic_energy_rmse_mev": 1000 * results["energy_rmse"],
        "organic_force_mae": 1000 * results["force_mae"],
        "organic_force_rmse": 1000 * results["force_rmse"],
    }


def properties(model: Path, test: Molecules) -> dict[str, float]:
    """Mean absolute errors of what the heads tell, in the units of the data."""
    potential = load_model(model)
    targets = [named_target(name) for name in potential.config.heads]
    if not targets:
        return {}
    told = PropertyTask(test, test, targets=targets, cutoff=potential.cutoff).predictions_on(potential, test)
    return {f"organic_{name}_mae": mae for name, mae in mean_errors(told).items()}


def total_energies(
    calculator: LieTransformerCalculator, *, step: float, picoseconds: float, every: int = 1, seed: int = 0
) -> np.ndarray:
    """H of ethanol along a run that begins relaxed, with momenta of 600 K, of which half becomes potential energy."""
    ethanol = molecule("CH3CH2OH", calculator=calculator)
    BFGS(ethanol, logfile=None).run(fmax=FORCE_TOLERANCE, steps=MOST_STEPS)
    widths = np.sqrt(ethanol.get_masses() * units.kB * 2 * TEMPERATURE)
    ethanol.set_momenta(np.random.default_rng(seed).standard_normal((len(ethanol), 3)) * widths[:, None])
    dynamics = VelocityVerlet(ethanol, step * units.fs)
    energies = []
    for _ in dynamics.irun(round(1000 * picoseconds / step)):
        if dynamics.nsteps % every == 0:
            energies.append(ethanol.get_total_energy())
    return np.array(energies)


def conservation(model: Path, *, picoseconds: float = 50.0) -> dict[str, float]:
    """Drift of a long run in float32, and how the fluctuation falls when the step is halved."""
    single, double = (
        LieTransformerCalculator(load_model(model), dtype=dtype, compile=True)
        for dtype in ("float32", "float64")
    )
    energies = total_energies(single, step=0.5, picoseconds=picoseconds, every=20)
    times = np.linspace(0, picoseconds, len(energies))
    slope = np.polyfit(times, energies, 1)[0]
    spread = [
        np.mean([np.std(total_energies(double, step=step, picoseconds=1.0, seed=seed)) for seed in range(4)])
        for step in (0.5, 0.25)
    ]
    return {
        "nve_drift_mev_atom_ps": abs(1000 * float(slope)) / 9,
        "nve_fluctuation_mev_atom": 1000 * float(spread[0]) / 9,
        "nve_fluctuation_ratio": float(spread[0] / spread[1]),
    }


def relaxed(start: Atoms, calculator: object, tolerance: float) -> Atoms:
    """The nearest minimum."""
    atoms = Atoms(start.numbers, start.positions)
    atoms.calc = calculator
    if not BFGS(atoms, logfile=None).run(fmax=tolerance, steps=MOST_STEPS):
        print(f"not relaxed in {MOST_STEPS} steps: {atoms.get_chemical_formula()}")
    return atoms


def wavenumbers(found: VibrationsData) -> np.ndarray:
    """Of all motions but those of a molecule as a whole in cm⁻¹, ascending; imaginary ones negative."""
    atoms = found.get_atoms()
    weights = np.repeat(np.sqrt(atoms.get_masses()), 3)
    around = atoms.positions - atoms.get_center_of_mass()
    turns = [np.cross(axis, around).ravel() for axis in np.eye(3)]
    shifts = [np.tile(axis, len(atoms)) for axis in np.eye(3)]
    basis, sizes, _ = np.linalg.svd((np.array(shifts + turns) * weights).T, full_matrices=True)
    inner = basis[:, int((sizes > RIGID * sizes.max()).sum()) :]
    hessian = inner.T @ (found.get_hessian_2d() / np.outer(weights, weights)) @ inner
    squares = np.linalg.eigvalsh(hessian)
    values: np.ndarray = np.sign(squares) * np.sqrt(np.abs(squares)) * WAVENUMBER
    return values


def vibration_errors(model: Path, starts: Sequence[Atoms]) -> dict[str, float]:
    """Mean and median absolute difference of the wavenumbers."""
    ours, found = LieTransformerCalculator(load_model(model), dtype="float64"), []
    for start in starts:
        mine = relaxed(start, ours, TIGHT)
        theirs = relaxed(start, reference_calculator("gfn2"), TIGHT)
        with tempfile.TemporaryDirectory() as folder:
            displaced = Vibrations(theirs, name=f"{folder}/modes", delta=DISPLACEMENT)
            displaced.run()
            expected = wavenumbers(displaced.get_vibrations())
        found.append(np.abs(wavenumbers(vibrations(ours, mine)) - expected))
    errors = np.concatenate(found)
    return {"wavenumber_mae_cm": float(errors.mean()), "wavenumber_median_cm": float(np.median(errors))}


def relaxation_errors(model: Path, starts: Sequence[Atoms], tolerance: float) -> np.ndarray:
    """Distance of our minimum from GFN2-xTB's for each molecule, Å, shape (M,)."""
    ours, found = LieTransformerCalculator(load_model(model), dtype="float64"), []
    for start in starts:
        mine, theirs = (relaxed(start, by, tolerance) for by in (ours, reference_calculator("gfn2")))
        minimize_rotation_and_translation(theirs, mine)
        found.append(np.sqrt(np.square(mine.positions - theirs.positions).sum(1).mean()))
    return np.array(found)


def relaxations(model: Path, starts: Sequence[Atoms]) -> dict[str, float]:
    """Mean, median and share of molecules within 0.05 Å, and mean and median of those that are relaxed further."""
    found, tight = (relaxation_errors(model, starts, tolerance) for tolerance in (FORCE_TOLERANCE, TIGHT))
    return {
        "relax_rmsd": float(found.mean()),
        "relax_rmsd_median": float(np.median(found)),
        "relax_share_within_0.05": float((found < 0.05).mean()),
        "relax_rmsd_tight": float(tight.mean()),
        "relax_rmsd_tight_median": float(np.median(tight)),
    }


def calibrate(model: Path, held_out: Molecules, train: Molecules) -> None:
    """Write the calibration beside the model; features of the training data say what the last layer knows.

    Energies are calibrated with one frame of every molecule, for frames of one molecule err alike; forces, whose
    deviations cost many derivatives, with some of these.
    """
    calculator, random = LieTransformerCalculator(load_model(model)), np.random.default_rng(0)
    chosen = np.arange(0, len(held_out), FRAMES) + random.integers(FRAMES, size=len(held_out) // FRAMES)
    one_each = held_out[chosen]
    Calibration.fit(calculator, one_each, known=train, most_with_forces=OF_FORCES).save(model)


def coverage(model: Path, test: Molecules) -> dict[str, float]:
    """How many of the 90 % intervals hold the energy, and how wide they are."""
    from lie_sim.data.structure_files import to_atoms

    calculator = LieTransformerCalculator(model, on_uncertain="ignore")
    found = calculator.predict_many(to_atoms(test), properties=("energy", "energy_interval"))
    intervals = np.array([each["energy_interval"] for each in found])
    inside = (intervals[:, 0] <= test.values["energy"]) & (test.values["energy"] <= intervals[:, 1])
    width = np.diff(intervals, axis=1) / 2
    return {"coverage90": float(inside.mean()), "interval_mev": 1000 * float(np.median(width))}
