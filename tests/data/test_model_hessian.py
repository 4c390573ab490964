"""The model Hessian and the modes made of it: derivatives, zeros, and the vibrations that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from lie_sim.data import model_hessian as module
from lie_sim.data.model_hessian import model_hessian
from lie_sim.data.sampling import _WAVENUMBER, normal_modes

STEP = 1e-5  # bohr; central differences are then right to 1e-9
ROUND_OFF = 1e-10
MOLECULES = ("CH3CH2OH", "C2H2", "C6H6", "H2O2", "HCN", "CO2")
EXPECTED = {"H2O": (1595, 3657, 3756), "CH4": (1306, 1306, 1306, 1534, 1534, 2917, 3019, 3019, 3019)}
"""Observed fundamentals in cm⁻¹ (Shimanouchi, NSRDS-NBS 39, 1972)."""
FACTOR = 1.6  # what the model may be off by; measured: 1.51 (the bend of water)


def angle(x: np.ndarray, i: int, j: int, k: int) -> float:
    u, v = x[i] - x[j], x[k] - x[j]
    return float(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))


def torsion(x: np.ndarray, i: int, j: int, k: int, m: int) -> float:
    f, g, h = x[i] - x[j], x[j] - x[k], x[m] - x[k]
    a, b = np.cross(f, g), np.cross(h, g)
    return float(np.arctan2(np.cross(b, a) @ g / np.linalg.norm(g), a @ b))


def slopes(function, x: np.ndarray, *atoms: int) -> np.ndarray:
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += STEP
        down[place] -= STEP
        found[place] = (function(up, *atoms) - function(down, *atoms)) / (2 * STEP)
    return found


def test_rows_are_the_derivatives_of_their_coordinates() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3))
    assert np.allclose(module._bend(x, 0, 1, 2)[0], slopes(angle, x, 0, 1, 2), atol=1e-8)
    found = module._torsion(x, 0, 1, 2, 3)
    assert found is not None
    assert np.allclose(found, slopes(torsion, x, 0, 1, 2, 3), atol=1e-8)


@pytest.mark.parametrize("name", MOLECULES)
def test_rigid_motions_cost_nothing_and_all_others_do(name: str) -> None:
    atoms = molecule(name)
    hessian = model_hessian(atoms.numbers, atoms.positions)
    values = np.linalg.eigvalsh(hessian)
    linear = name in ("C2H2", "HCN", "CO2")
    assert (np.abs(hessian - hessian.T) < ROUND_OFF).all()
    assert np.abs(values[: 5 if linear else 6]).max() < ROUND_OFF * values[-1]
    assert values[5 if linear else 6] > 1e-3 * values[-1]
    assert len(normal_modes(hessian, atoms.get_masses(), atoms.positions)[1]) == 3 * len(atoms) - 6 + linear


@pytest.mark.parametrize("name", EXPECTED)
def test_frequencies_are_about_the_observed_ones(name: str) -> None:
    atoms = molecule(name)
    hessian = model_hessian(atoms.numbers, atoms.positions)
    _, found = normal_modes(hessian, atoms.get_masses(), atoms.positions)
    ratio = found / _WAVENUMBER / np.array(EXPECTED[name])
    assert ratio.max() < FACTOR
    assert ratio.min() > 1 / FACTOR


def test_a_rotated_molecule_has_the_rotated_hessian() -> None:
    atoms = molecule("CH3CH2OH")
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    before = model_hessian(atoms.numbers, atoms.positions)
    after = model_hessian(atoms.numbers, atoms.positions @ turn.T)
    big = np.kron(np.eye(len(atoms)), turn)
    assert np.abs(big @ before @ big.T - after).max() < ROUND_OFF * np.abs(before).max()


def test_one_atom_has_no_modes() -> None:
    hessian = model_hessian(np.array([8]), np.zeros((1, 3)))
    assert hessian.tolist() == np.zeros((3, 3)).tolist()
    assert len(normal_modes(hessian, np.array([16.0]), np.zeros((1, 3)))[1]) == 0
