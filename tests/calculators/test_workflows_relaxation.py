"""Minima, cells, paths and saddle points by the optimisers of ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.mep import NEB, DimerControl, MinModeAtoms, MinModeTranslate
from ase.optimize import BFGS, FIRE, FIRE2, LBFGS, RFO

from lie_sim.calculators import LieTransformerCalculator

SMALL = 1e-3  # eV/Å
SAME_LENGTH = 1e-3  # Å, of minima with forces below SMALL; measured: 6e-5


@pytest.mark.parametrize("optimiser", [BFGS, LBFGS, FIRE, FIRE2, RFO])
def test_every_optimiser_finds_the_same_minimum(optimiser, water) -> None:
    reference = water.copy()
    reference.calc = LieTransformerCalculator(water.calc.models[0])
    BFGS(reference, logfile=None).run(fmax=SMALL / 10, steps=200)
    steps = optimiser(water, logfile=None)
    assert steps.run(fmax=SMALL, steps=300)
    assert water.calc.evaluations < 1.5 * steps.nsteps + 3, "forces and energy of a step are one evaluation"
    distances = water.get_all_distances() - reference.get_all_distances()
    assert np.abs(distances).max() < SAME_LENGTH
    assert water.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-5)


def test_a_cell_relaxes_to_zero_stress_and_to_the_minimum_of_the_equation_of_state(metal) -> None:
    assert BFGS(FrechetCellFilter(metal), logfile=None).run(fmax=SMALL, steps=150)
    assert np.abs(metal.get_stress()).max() < 1e-4
    volumes, energies = [], []
    for scale in np.linspace(0.995, 1.005, 7):
        strained = metal.copy()
        strained.calc = metal.calc
        strained.set_cell(metal.cell * scale, scale_atoms=True)
        volumes.append(strained.get_volume())
        energies.append(strained.get_potential_energy())
    best, _, modulus = EquationOfState(volumes, energies).fit()
    assert best == pytest.approx(metal.get_volume(), rel=2e-3)
    assert modulus > 0


def test_constraints_are_kept(metal, water) -> None:
    before = metal.positions[0].copy()
    metal.set_constraint(FixAtoms([0]))
    BFGS(metal, logfile=None).run(fmax=0.01, steps=100)
    assert (metal.positions[0] == before).all()
    length = water.get_distance(0, 1)
    water.set_constraint(FixBondLengths([[0, 1]]))
    FIRE(water, logfile=None).run(fmax=0.01, steps=200)
    assert water.get_distance(0, 1) == pytest.approx(length, abs=1e-9)
    assert abs(water.get_distance(0, 2) - length) > 1e-3, "the other bond is free"


def vacancy_hop(metal_model):
    """An atom of a crystal with a vacancy moves into it."""
    crystal = bulk("Al", cubic=True) * (2, 1, 1)
    start = crystal.copy()
    hole = start.positions[1].copy()
    del start[1]
    end = start.copy()
    end.positions[0] = hole
    return start, end


def test_images_of_a_path_share_one_calculator(metal_model) -> None:
    start, end = vacancy_hop(metal_model)
    calculator = LieTransformerCalculator(metal_model)
    images = [start, *(start.copy() for _ in range(3)), end]
    for image in images:
        image.calc = calculator
    for each in (start, end):
        BFGS(each, logfile=None).run(fmax=0.03, steps=100)
    band = NEB(images, climb=True, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate(mic=True)
    FIRE(band, logfile=None).run(fmax=0.1, steps=150)
    energies = [calculator.evaluate(image, ["energy"])["energy"] for image in images]
    assert energies[0] == pytest.approx(energies[-1], abs=1e-2), "both ends are the same crystal"
    assert energies[2] > energies[0] + 0.05, energies
    assert energies[2] == max(energies)


def test_the_dimer_climbs_to_a_saddle(water) -> None:
    BFGS(water, logfile=None).run(fmax=SMALL, steps=200)
    bottom = water.get_potential_energy()
    water.rattle(0.05, seed=2)
    with DimerControl(
        logfile=None, initial_eigenmode_method="displacement", displacement_method="vector"
    ) as control:
        dimer = MinModeAtoms(water, control)
        dimer.displace(displacement_vector=np.eye(3)[[2, 0, 1]] * 0.1)
        with MinModeTranslate(dimer, logfile=None) as climb:
            climb.run(fmax=0.05, steps=10)
    assert np.isfinite(water.get_potential_energy())
    assert water.get_potential_energy() > bottom
