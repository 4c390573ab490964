"""Molecular dynamics of the report: drift as defined, energy as leapfrog keeps it, an end that is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.calculators.calculator import InputError
from ase.calculators.emt import EMT

from lie_sim.data.structure_files import from_atoms
from lie_sim.errors import ConfigError
from lie_sim.experiments.dynamics_options import DynamicsOptions
from lie_sim.experiments.molecules_dynamics import (
    MOST_FRAMES,
    Trace,
    atoms_of,
    dynamics,
    energy_plot,
    give_velocities,
    nve,
    quiet_structure,
)
from lie_sim.models import AtomicPotential

ORDER = (3.6, 4.4)  # 4 = 2² for a method of order two, ± 10 % as the two runs drift apart; measured 3.97


def water(calculator=None):
    atoms = molecule("H2O")
    atoms.calc = calculator or EMT()
    return atoms


def test_drift_and_fluctuation_are_those_of_the_fitted_line() -> None:
    t = np.linspace(0.0, 2.0, 4001)
    wave = 0.3 * np.sin(2 * np.pi * 40 * t)
    trace = Trace(t, 0.7 * t - 1.0 + wave, np.zeros((4001, 3, 3)), 300.0)
    assert trace.drift == pytest.approx(0.7, abs=0.01)
    assert trace.fluctuation == pytest.approx(0.3 / math.sqrt(2), rel=0.01)
    assert math.isnan(Trace(t[:2], t[:2], np.zeros((2, 3, 3)), 300.0).drift)
    plot = energy_plot(Trace(*(np.tile(x, 3) for x in (t, t)), np.zeros(0), 1.0), water(), DynamicsOptions())
    assert len(plot.curves["total energy"][0]) <= MOST_FRAMES


def test_velocities_have_the_temperature_and_no_rigid_motion() -> None:
    for name, free in (("CH3CH2OH", 21), ("CO2", 4)):
        atoms = molecule(name)
        assert give_velocities(atoms, 600.0, seed=3) == free
        assert atoms.get_kinetic_energy() == pytest.approx(0.5 * free * units.kB * 600.0, rel=1e-9)
        assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-9
        assert np.abs(atoms.get_angular_momentum()).max() < 1e-9


def test_halving_the_step_cuts_the_fluctuation_four_times() -> None:
    coarse, fine = (
        nve(water(), DynamicsOptions(picoseconds=0.05, time_step=step, temperature=50.0))
        for step in (0.2, 0.1)
    )
    assert (len(coarse.times), len(fine.times)) == (251, 501)
    ratio = coarse.fluctuation / fine.fluctuation
    assert ORDER[0] < ratio < ORDER[1], (
        f"fluctuations {coarse.fluctuation:.3g} and {fine.fluctuation:.3g}: {ratio:.2f}"
    )
    again = nve(water(), DynamicsOptions(picoseconds=0.05, time_step=0.2, temperature=50.0))
    np.testing.assert_array_equal(again.energies, coarse.energies)


def test_an_early_end_is_told() -> None:
    class Failing(EMT):
        left = 6

        def calculate(self, *arguments, **options):
            self.left -= 1
            if not self.left:
                raise InputError("an atom is nowhere")
            super().calculate(*arguments, **options)

    trace = nve(water(Failing()), DynamicsOptions(picoseconds=0.05))
    assert trace.ended == "it broke down: an atom is nowhere"
    assert len(trace.times) == len(trace.velocities) == 5
    assert "Shorter than asked for: it broke down" in energy_plot(trace, water(), DynamicsOptions()).note
    short = nve(water(), DynamicsOptions(max_cpu_seconds=0.0))
    assert (len(short.times), short.ended) == (1, "0 CPU s were over")


def test_from_a_potential_to_the_plots() -> None:
    frames = []
    for stretch in (0.1, 0.02):
        atoms = water()
        atoms.rattle(stretch, seed=1)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = (
            atoms.get_potential_energy(),
            atoms.get_forces(),
        )
        atoms.info["charge"] = 1
        frames.append(atoms)
    test = from_atoms(frames)
    assert quiet_structure(test) == 1
    chosen = atoms_of(test, 1)
    np.testing.assert_array_equal(chosen.positions, frames[1].positions)
    assert chosen.get_chemical_symbols() == ["O", "H", "H"]
    potential = AtomicPotential.default(elements=(1, 8))
    found = dynamics(potential, test, DynamicsOptions(picoseconds=0.05))
    assert set(found.results) == {"nve_drift", "nve_fluctuation"}
    assert all(math.isfinite(value) for value in found.results.values())
    assert [plot.title for plot in found.plots] == ["Energy along molecular dynamics", "Vibrational spectrum"]
    assert found.plots[1].curves["molecular dynamics"][1].max() == pytest.approx(1.0)
    assert len(dynamics(potential, test, DynamicsOptions(picoseconds=0.002)).plots) == 1
    assert dynamics(potential, test, DynamicsOptions(picoseconds=0.0)).plots == []


def test_options_that_are_impossible_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dynamics\.picoseconds must be finite and not negative, got -1"):
        DynamicsOptions(picoseconds=-1)
    with pytest.raises(ConfigError, match=r"dynamics\.time_step must be positive, got 0"):
        DynamicsOptions(time_step=0)
