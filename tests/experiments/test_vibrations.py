"""Wavenumbers of known oscillators, and spectra of known motions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from scipy.spatial.transform import Rotation

from lie_sim.experiments.vibrations import rigid_motions, velocity_spectrum, wavenumbers

CONSTANTS = 1e-6  # ASE's and CODATA's constants agree to 1e-8 and better
FINITE_DIFFERENCES = (
    0.5  # cm⁻¹; those of ASE's displacements of 0.01 Å and of the remaining forces, measured 0.05
)


def spring(k: float, distance: float = 1.1) -> np.ndarray:
    """Hessian of k (r − distance)²/2 between two atoms along x, at rest."""
    hessian = np.zeros((6, 6))
    for i, j, sign in ((0, 0, 1), (3, 3, 1), (0, 3, -1), (3, 0, -1)):
        hessian[i, j] = sign * k
    return hessian


def test_a_diatomic_molecule_vibrates_as_in_the_textbook() -> None:
    k = 119.0  # eV/Å², about carbon monoxide
    pair = Atoms("CO", [[0, 0, 0], [1.128, 0, 0]])
    found = wavenumbers(pair, spring(k))
    reduced = np.prod(pair.get_masses()) / pair.get_masses().sum() * 1.66053906660e-27
    expected = math.sqrt(k * 1.602176634e-19 / 1e-20 / reduced) / (2 * math.pi * 2.99792458e10)
    assert found == pytest.approx(
        [expected], rel=CONSTANTS
    )  # one mode: two rotations and three translations are gone
    assert wavenumbers(pair, spring(-k)) == pytest.approx([-expected], rel=CONSTANTS)


def test_modes_agree_with_those_of_ase(tmp_path) -> None:
    water = molecule("H2O", calculator=EMT())
    BFGS(water, logfile=None).run(fmax=1e-5, steps=300)
    vibrations = Vibrations(water, name=str(tmp_path / "vib"))
    vibrations.run()
    data = vibrations.get_vibrations()
    found = wavenumbers(water, data.get_hessian_2d())
    assert found.shape == (3,)
    theirs = np.sort(data.get_frequencies().real)[-3:]
    off = np.abs(found - theirs).max()
    assert off < FINITE_DIFFERENCES, f"off by {off:.3f} cm⁻¹"


def test_wavenumbers_do_not_see_rotation_and_count_rigid_motions() -> None:
    random = np.random.default_rng(0)
    methanol = molecule("CH3OH")
    hessian = random.normal(size=(18, 18))
    hessian = hessian + hessian.T
    turn = Rotation.random(rng=1).as_matrix()
    block = np.kron(np.eye(6), turn)
    turned = methanol.copy()
    turned.positions = turned.positions @ turn.T + 3.0
    first, second = wavenumbers(methanol, hessian), wavenumbers(turned, block @ hessian @ block.T)
    np.testing.assert_allclose(first, second, rtol=1e-9)
    assert len(first) == 18 - 6
    assert len(wavenumbers(molecule("CO2"), np.eye(9))) == 9 - 5, "a linear molecule turns about two axes"
    crystal = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6, 5.6, 5.6], pbc=True)
    assert rigid_motions(crystal).shape == (6, 3)
    assert len(wavenumbers(crystal, np.eye(6))) == 3


def test_spectrum_has_its_lines_where_the_motion_has_them() -> None:
    step, frames = 0.0005, 4000  # ps
    t = np.arange(frames) * step
    lines, amplitudes = np.array([500.0, 1700.0, 3650.0]), np.array([1.0, 0.5, 2.0])
    phase = 2 * np.pi * 2.99792458e-2 * lines * t[:, None]  # c in cm/ps
    velocities = np.zeros((frames, 2, 3))
    velocities[:, 0] = amplitudes * np.cos(phase)
    x, power = velocity_spectrum(velocities, np.array([4.0, 1.0]), step)
    width = 1.0 / (2.99792458e-2 * step * frames / 2)  # cm⁻¹ of one piece
    heights = []
    for line in lines:
        near = np.abs(x - line) < 2 * width
        assert abs(x[near][power[near].argmax()] - line) < width / 4, "a line is out of place"
        heights.append(power[near].max())
    assert np.array(heights) / heights[0] == pytest.approx((amplitudes / amplitudes[0]) ** 2, rel=0.05)
    far = (np.abs(x[:, None] - lines) > 6 * width).all(1)
    assert power[far].max() < 1e-4 * max(heights), "Hann's window keeps lines from spreading"
    heavier = velocity_spectrum(velocities, np.array([8.0, 1.0]), step)[1]
    np.testing.assert_allclose(heavier, 2 * power, atol=1e-12 * power.max())
