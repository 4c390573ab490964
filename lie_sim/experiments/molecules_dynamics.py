"""A trained potential at work: energy along molecular dynamics, and the vibrational spectrum.

A test structure is relaxed and moved by leapfrog at constant energy (NVE). The *drift* is the slope of a straight line
fitted to the total energy of an atom against time, in meV/atom/ps; the *fluctuation* is the standard deviation around
the line.

Shape letters: T frames, N atoms.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import InputError
from ase.optimize import BFGS

from lie_sim.calculators import IntegratorMD, LieTransformerCalculator
from lie_sim.data.molecules import Molecules
from lie_sim.experiments.dynamics_options import DynamicsOptions
from lie_sim.experiments.vibrations import internal_motions, mass_roots, velocity_spectrum, wavenumbers
from lie_sim.models import AtomicPotential
from lie_sim.report import Plot

LARGEST = 60
"""Atoms of a structure that is chosen, if there is one as small."""
MOST_FRAMES, FEWEST_FRAMES = 4000, 64
"""Frames that are kept of the energy, and frames that make a spectrum."""
RELAXED, RELAX_STEPS = 0.002, 300
"""eV/Å of the largest force, and how many steps may be taken towards it."""
_MILLI = 1000.0


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened along the way.

    Args:
        times: ps, shape (T,).
        energies: total energy of an atom in meV, its mean subtracted, shape (T,).
        velocities: ASE's unit, shape (T, N, 3).
        temperature: mean, in K.
        ended: why before its time; empty if it did not.
    """

    times: np.ndarray
    energies: np.ndarray
    velocities: np.ndarray
    temperature: float
    ended: str = ""

    @property
    def drift(self) -> float:
        """Slope of the fitted line in meV/atom/ps; NaN for fewer than three frames."""
        return self.line()[0]

    @property
    def fluctuation(self) -> float:
        """Standard deviation around the fitted line in meV/atom."""
        slope, start = self.line()
        return float(np.std(self.energies - slope * self.times - start))

    def line(self) -> tuple[float, float]:
        """Slope in meV/atom/ps and value at time 0 in meV/atom of the fitted line."""
        if len(self.times) < 3 or not np.isfinite(self.energies).all():
            return math.nan, math.nan
        slope, start = np.polyfit(self.times, self.energies, 1)
        return float(slope), float(start)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """What the report shows of it.

    Args:
        results: figures by name.
        plots: energy against time, and the spectrum.
    """

    results: dict[str, float] = field(default_factory=dict)
    plots: list[Plot] = field(default_factory=list)


def dynamics(potential: AtomicPotential, test: Molecules, options: DynamicsOptions) -> Dynamics:
    """Relax a test structure, move it, and draw energy and spectrum; nothing if no time is wanted."""
    if not options.picoseconds:
        return Dynamics()
    atoms = atoms_of(test, quiet_structure(test))
    atoms.calc = LieTransformerCalculator(potential, dtype="float64")
    try:
        BFGS(atoms, logfile=None).run(fmax=RELAXED, steps=RELAX_STEPS)
        harmonic = wavenumbers(atoms, atoms.calc.get_hessian(atoms)) if len(atoms) <= LARGEST else np.empty(0)
    except InputError:  # atoms on top of each other, or NaN: a potential that is not trained yet
        return Dynamics(results={"nve_drift": math.nan, "nve_fluctuation": math.nan})
    atoms.calc = LieTransformerCalculator(potential)
    trace = nve(atoms, options)
    results = {"nve_drift": trace.drift, "nve_fluctuation": trace.fluctuation}
    plots = [energy_plot(trace, atoms, options)]
    if len(trace.times) >= FEWEST_FRAMES:
        plots.append(spectrum_plot(trace, atoms, harmonic))
    return Dynamics(results, plots)


def quiet_structure(test: Molecules) -> int:
    """The structure of the smallest forces among those of at most ``LARGEST`` atoms: relaxing it takes few steps."""
    small = np.flatnonzero(test.sizes <= max(LARGEST, int(test.sizes.min())))
    slope = test.values.get("forces")
    if slope is None:
        return int(small[0])
    square = np.add.reduceat(np.square(slope).sum(1), test.offsets[:-1]) / test.sizes
    return int(small[np.argmin(square[small])])


def atoms_of(molecules: Molecules, k: int) -> Atoms:
    """One structure for ASE, charge and spin included."""
    rows = slice(molecules.offsets[k], molecules.offsets[k + 1])
    info = {name: float(molecules.values[name][k]) for name in ("charge", "spin") if name in molecules.values}
    positions, numbers = molecules.positions[rows], molecules.numbers[rows]
    return Atoms(numbers, positions, cell=molecules.cells[k], pbc=molecules.pbc[k], info=info)


def nve(atoms: Atoms, options: DynamicsOptions) -> Trace:
    """Molecular dynamics at constant energy from where the atoms are; they are moved."""
    free = give_velocities(atoms, 2 * options.temperature, seed=options.seed)
    energies, velocities, kinetic = [], [], []
    moved, begin, ended = IntegratorMD(atoms, options.time_step * units.fs), time.process_time(), ""
    steps = max(1, round(1000 * options.picoseconds / options.time_step))
    try:
        for step in range(steps + 1):
            if step:
                moved.step()
            kinetic.append(atoms.get_kinetic_energy())
            energies.append(atoms.get_potential_energy() + kinetic[-1])
            velocities.append(atoms.get_velocities())
            if time.process_time() - begin > options.max_cpu_seconds and step < steps:
                ended = f"{options.max_cpu_seconds:g} CPU s were over"
                break
    except InputError as error:  # the potential lost an atom
        ended = f"it broke down: {error}"
    energy = _MILLI * np.array(energies) / len(atoms)
    times = np.arange(len(energy)) * options.time_step / 1000
    mean = 2 * float(np.mean(kinetic)) / (free * units.kB)
    return Trace(times, energy - energy.mean(), np.array(velocities[: len(energy)]), mean, ended)


def give_velocities(atoms: Atoms, temperature: float, *, seed: int) -> int:
    """Random velocities of exactly this temperature (K), without rigid motion; returns the degrees of freedom F."""
    inner = internal_motions(atoms)
    free = int(inner.shape[1])
    if free:
        random = np.random.default_rng(seed).standard_normal(free)
        random *= math.sqrt(free * units.kB * temperature / np.square(random).sum())
        atoms.set_momenta((mass_roots(atoms) * (inner @ random)).reshape(-1, 3))
    return max(1, free)


def energy_plot(trace: Trace, atoms: Atoms, options: DynamicsOptions) -> Plot:
    """Total energy against time with the fitted line; the drift and its definition in the note."""
    kept = slice(None, None, -(-len(trace.times) // MOST_FRAMES))
    slope, start = trace.line()
    times = trace.times[kept]
    note = (
        f"{atoms.get_chemical_formula('hill')} from the test set, relaxed, then {trace.times[-1]:.3g} ps of leapfrog "
        f"with {options.time_step:g} fs, at {trace.temperature:.0f} K on average. Drift, the slope of the line: "
        f"{trace.drift:.2g} meV/atom/ps. Fluctuation, the standard deviation around it: "
        f"{trace.fluctuation:.2g} meV/atom."
    )
    if trace.ended:
        note += f" Shorter than asked for: {trace.ended}."
    return Plot(
        "Energy along molecular dynamics",
        {"total energy": (times, trace.energies[kept]), "fitted line": (times, start + slope * times)},
        x_name="time",
        x_unit="ps",
        y_name="total energy − mean",
        y_unit="meV/atom",
        note=note,
    )


def spectrum_plot(trace: Trace, atoms: Atoms, harmonic: np.ndarray) -> Plot:
    """Power of the velocities against the wavenumber, with the harmonic wavenumbers as marks."""
    x, power = velocity_spectrum(trace.velocities, atoms.get_masses(), trace.times[1])
    real = harmonic[harmonic > 0]
    end = 1.1 * float(real.max(initial=4000.0 / 1.1))
    shown = x <= end
    power = power[shown] / (power[shown].max(initial=0.0) or 1.0)
    note = (
        "Power of the mass-weighted velocities of that run; vertical lines are the harmonic wavenumbers "
        "of the relaxed structure."
    )
    if len(harmonic) and len(real) < len(harmonic):
        count = len(harmonic) - len(real)
        some = "One of them is" if count == 1 else f"{count} of them are"
        note += f" {some} imaginary: the structure is no minimum of this potential."
    marks = {"harmonic": real} if len(real) else {}
    return Plot(
        "Vibrational spectrum",
        {"molecular dynamics": (x[shown], power)},
        x_name="wavenumber",
        x_unit="cm⁻¹",
        y_name="power, relative",
        marks=marks,
        note=note,
    )
