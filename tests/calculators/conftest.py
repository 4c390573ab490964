"""Random potentials of atoms: what holds for every weight holds for trained ones too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from lie_sim.calculators import LieTransformerCalculator, structures
from lie_sim.models import AtomicPotential, heads
from lie_sim.models.last_layer import LastLayer

SMALL = {"width": 16, "num_heads": 4, "num_layers": 2, "num_moments": 3, "kernel_hidden": 16, "cutoff": 4.0}


def random_potential(seed: int = 0, *, elements=(1, 6, 8, 13, 14, 29), **options) -> AtomicPotential:
    torch.manual_seed(seed)
    network = SMALL | options.pop("network", {})
    made = AtomicPotential.default(elements=elements, network=network, **options)
    with torch.no_grad():  # the branches that begin at zero
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return made.double()


@pytest.fixture(name="random_potential")
def random_potential_fixture():
    return random_potential


@pytest.fixture
def potential() -> AtomicPotential:
    return random_potential()


@pytest.fixture
def calculator(potential: AtomicPotential) -> LieTransformerCalculator:
    return LieTransformerCalculator(potential)


PER_ATOM = 50.0
"""Weight of the energy of an atom in eV against a component of a force in eV/Å."""


def fitted_to_emt(potential: AtomicPotential, systems: Sequence[Atoms]) -> AtomicPotential:
    """A random network whose last layer alone was fitted, by least squares on energies and forces, in a second."""
    potential.requires_grad_(False)
    layer, rows, values = LastLayer(potential), [], []
    for atoms in systems:
        batch, count = structures([atoms], potential, dtype=torch.float64), len(atoms)
        x = batch.q.clone().requires_grad_(True)
        with layer.watched():
            potential(x, batch.particles, batch.neighbours)
        phi = layer.features(batch.particles)[0]
        unit = torch.eye(len(phi), dtype=torch.float64)
        (slopes,) = torch.autograd.grad(phi, x, unit, is_grads_batched=True)
        atoms.calc = EMT()
        energy = torch.tensor([PER_ATOM * atoms.get_potential_energy() / count], dtype=torch.float64)
        rows.append(torch.cat([PER_ATOM * phi.detach()[None] / count, -slopes.flatten(1).T]))
        values.append(torch.cat([energy, torch.from_numpy(atoms.get_forces().copy()).flatten()]))
    features, target = torch.cat(rows), torch.cat(values)
    penalty = 1e-4 * torch.eye(features.shape[1], dtype=torch.float64)
    features, target = torch.cat([features, penalty]), torch.cat([target, torch.zeros(len(penalty)).double()])
    weights = torch.linalg.lstsq(features, target, driver="gelsd").solution
    head, width = potential.network.head, potential.network.config.width
    head.linear.weight[0], head.out.weight[0] = weights[:width], weights[width : 2 * width]
    head.linear.bias[0] = weights[-1]
    return potential


def shaken(atoms: Atoms, count: int, *, size: float, strain: float = 0.0) -> list[Atoms]:
    random, made = np.random.default_rng(0), []
    for _ in range(count):
        each = atoms.copy()
        change = strain * (random.normal(size=(3, 3)) + random.uniform(-3, 3) * np.eye(3))
        each.set_cell(each.cell @ (np.eye(3) + change), scale_atoms=True)
        each.positions += size * random.uniform(0.2, 1) * random.normal(size=each.positions.shape)
        made.append(each)
    return made


@pytest.fixture(scope="session")
def water_model() -> AtomicPotential:
    """Of one molecule of water, bound as EMT has it, with a random head for the dipole."""
    network = {"width": 32, "num_heads": 8}
    potential = random_potential(2, elements=(1, 8), network=network, heads=heads("dipole"))
    start = molecule("H2O")
    start.positions *= 1.13  # EMT has longer bonds
    return fitted_to_emt(potential, shaken(start, 80, size=0.2))


@pytest.fixture(scope="session")
def metal_model() -> AtomicPotential:
    """Of bulk aluminium."""
    potential = random_potential(1, elements=(13,), network={"width": 32, "num_heads": 8, "cutoff": 5.0})
    cell = bulk("Al", cubic=True)
    systems = shaken(cell, 40, size=0.25, strain=0.02) + shaken(cell * (1, 1, 2), 5, size=0.2, strain=0.02)
    return fitted_to_emt(potential, systems)


@pytest.fixture
def water(water_model) -> Atoms:
    """Not relaxed."""
    atoms = molecule("H2O", calculator=LieTransformerCalculator(water_model))
    atoms.positions *= 1.13
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def metal(metal_model) -> Atoms:
    """A cubic cell, rattled."""
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.08, seed=1)
    atoms.calc = LieTransformerCalculator(metal_model)
    return atoms
