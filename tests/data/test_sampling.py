"""Sampled geometries: thermal widths, temperatures, seeds, and what is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential

from lie_sim.data.model_hessian import model_hessian
from lie_sim.data.sampling import Sampling, finite_difference_hessian, geometries, normal_modes
from lie_sim.errors import ConfigError

DRAWS = 4000
SPREAD = 5 / np.sqrt(2 * DRAWS)  # five standard errors of a variance


def drawn(atoms: Atoms, seed: int = 0, **options) -> list[Atoms]:
    return list(geometries(atoms, Sampling(**options), np.random.default_rng(seed)))


def test_every_stiff_mode_has_half_kt_of_potential_energy() -> None:
    atoms = molecule("H2O")
    hessian = model_hessian(atoms.numbers, atoms.positions)
    frames = drawn(atoms, frames=DRAWS, temperature=(400.0,), start=False)
    moved = np.stack([frame.positions - atoms.positions for frame in frames])
    modes, frequencies = normal_modes(hessian, atoms.get_masses(), atoms.positions)
    along = np.einsum("fid,kid,i->fk", moved, modes, atoms.get_masses())
    energy = 0.5 * np.square(along * frequencies).mean(0)
    assert np.abs(energy / (0.5 * units.kB * 400) - 1).max() < SPREAD
    momentum = np.einsum("fid,i->fd", moved, atoms.get_masses())
    assert np.abs(momentum).max() < 1e-12  # the centre of mass stays


def test_soft_modes_are_held() -> None:
    atoms = molecule("CH3CH2OH")
    loose, held = (drawn(atoms, frames=50, softest=softest, start=False) for softest in (1.0, 2000.0))
    size = [
        np.mean([np.abs(f.positions - atoms.positions).max() for f in frames]) for frames in (loose, held)
    ]
    assert size[1] < 0.7 * size[0]


def test_finite_differences_give_the_hessian_of_a_harmonic_bond() -> None:
    depth, steepness = 2.0, 3.0
    atoms = Atoms("H2", [[0, 0, 0], [1.0, 0, 0]])
    atoms.calc = MorsePotential(epsilon=depth, rho0=steepness, r0=1.0)
    expected = 2 * depth * steepness**2  # second derivative at the minimum
    hessian = finite_difference_hessian(atoms, displacement=1e-4)
    assert hessian[0, 0] == pytest.approx(expected, rel=1e-6)
    assert hessian[0, 3] == pytest.approx(-expected, rel=1e-6)


def test_modes_of_the_calculator_use_its_hessian() -> None:
    atoms = molecule("H2O", calculator=EMT())
    mine = drawn(atoms, frames=1, hessian="calculator", start=False)[0]
    model = drawn(atoms, frames=1, hessian="model", start=False)[0]
    assert np.abs(mine.positions - model.positions).max() > 1e-3


def test_dynamics_reaches_its_temperature() -> None:
    atoms = molecule("CH3CH2OH", calculator=EMT())
    frames = drawn(atoms, sampling="md", frames=3, temperature=(300.0,), equilibration=5, stride=2)
    assert len(frames) == 4
    assert frames[0].info["temperature"] == 0
    assert all(frame.info["temperature"] == 300 for frame in frames[1:])
    moves = [np.abs(a.positions - b.positions).max() for a, b in itertools.pairwise(frames)]
    assert min(moves) > 1e-4


@pytest.mark.parametrize("sampling", ["modes", "md"])
def test_the_seed_decides(sampling: str) -> None:
    atoms = molecule("H2O", calculator=EMT())
    options = {"sampling": sampling, "frames": 2, "equilibration": 3}
    first, again, other = drawn(atoms, **options), drawn(atoms, **options), drawn(atoms, 1, **options)
    assert all((a.positions == b.positions).all() for a, b in zip(first, again, strict=True))
    assert (first[1].positions != other[1].positions).any()


def test_none_takes_the_structure_alone() -> None:
    (only,) = drawn(molecule("H2O"), sampling="none", start=False)
    assert (only.positions == molecule("H2O").positions).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": ()}, "temperature must be one or two numbers"),
        ({"temperature": (300.0, float("nan"))}, "temperature"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"softest": 0.0}, "softest must be positive"),
        ({"time_step": -1.0}, "time_step must be positive"),
        ({"stride": 0}, "stride must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**options)
