"""Vibrations by the Hessian and by finite differences, infrared spectra, phonons."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Infrared, Vibrations

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.infrared import infrared_intensities, vibrations

CM = 1 / units.invcm
RIGID = 1.0  # cm⁻¹, of the modes that move or turn the whole; measured: 0.05
DIFFERENCES = 0.5  # cm⁻¹, steps of 0.002 Å; measured: 0.04
INTENSITY_ERROR = 5e-3  # relative, likewise; measured: 2e-4


@pytest.fixture
def relaxed(water) -> Atoms:
    BFGS(water, logfile=None).run(fmax=1e-6, steps=300)
    return water


@pytest.fixture
def linear(random_potential) -> Atoms:
    """Three atoms in a line, where a random potential has them at rest: their forces vanish by symmetry and length."""
    atoms = Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]])
    atoms.calc = LieTransformerCalculator(random_potential())
    BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=1e-7, steps=500)
    return atoms


def test_six_modes_of_a_molecule_are_no_vibrations(relaxed) -> None:
    frequencies = np.abs(vibrations(relaxed.calc, relaxed).get_frequencies())
    assert np.sort(frequencies)[5] < RIGID, frequencies
    assert np.sort(frequencies)[6] > 100, "the vibrations"


def test_five_modes_of_a_linear_molecule_are_no_vibrations(linear) -> None:
    assert np.abs(linear.positions[:, :2]).max() < 1e-6, "it is linear no more"
    frequencies = np.sort(np.abs(vibrations(linear.calc, linear).get_frequencies()))
    assert frequencies[4] < RIGID, frequencies
    assert frequencies[5] > 5 * RIGID, frequencies


def test_hessian_and_finite_differences_agree(relaxed, tmp_path) -> None:
    exact = vibrations(relaxed.calc, relaxed)
    numerical = Vibrations(relaxed, name=str(tmp_path / "vib"), delta=0.002, nfree=4)
    numerical.run()
    found = numerical.get_vibrations()
    assert np.abs(exact.get_energies()[6:] - found.get_energies()[6:]).max() * CM < DIFFERENCES
    assert exact.get_zero_point_energy() == pytest.approx(found.get_zero_point_energy(), abs=1e-4)
    evaluations = relaxed.calc.evaluations
    vibrations(relaxed.calc, relaxed)
    assert relaxed.calc.evaluations == evaluations, "the Hessian needs no displacements"


def test_fixed_atoms_have_no_part_in_vibrations(relaxed) -> None:
    relaxed.set_constraint(FixAtoms([0]))
    found = vibrations(relaxed.calc, relaxed)
    assert found.get_indices().tolist() == [1, 2]
    assert len(found.get_frequencies()) == 6


def test_infrared_intensities_are_those_of_finite_differences(relaxed, tmp_path) -> None:
    exact = vibrations(relaxed.calc, relaxed)
    numerical = Infrared(relaxed, name=str(tmp_path / "ir"), delta=0.002, nfree=4)
    numerical.run()
    frequencies = numerical.get_frequencies().real[6:]
    assert np.abs(exact.get_energies()[6:].real * CM - frequencies).max() < DIFFERENCES
    found = infrared_intensities(relaxed.calc, exact)[6:]
    assert np.abs(found - numerical.intensities[6:]).max() < INTENSITY_ERROR * found.max()
    assert found.min() > 1e-6, "nothing is active: the comparison says nothing"


def test_phonons_of_a_crystal_have_three_acoustic_branches(metal_model, tmp_path) -> None:
    cell = bulk("Al")
    phonons = Phonons(
        cell, LieTransformerCalculator(metal_model), supercell=(3, 3, 3), name=str(tmp_path / "p"), delta=0.02
    )
    phonons.run()
    phonons.read(acoustic=True)
    path = cell.cell.bandpath("GX", npoints=5)
    energies = phonons.get_band_structure(path).energies[0]
    assert energies.shape == (5, 3)
    assert np.abs(energies[0]).max() * CM < RIGID
    assert energies[-1].max() * CM > 50
