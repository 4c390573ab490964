"""Random potentials of atoms: what holds for every weight holds for trained ones too."""

from __future__ import annotations

import pytest
import torch

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.models import AtomicPotential

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
