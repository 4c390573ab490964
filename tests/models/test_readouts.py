"""Readouts of intensive properties: what they pool, invariance, padding, disk, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lie_sim import load_model, save_model
from lie_sim.groups import random_transform
from lie_sim.models import AtomicPotential, HeadConfig, evaluate
from lie_sim.models.atomic_config import READOUTS
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

EXACT = 1e-10
"""Of a number of order 1, float64."""
SMALL = {"width": 16, "num_heads": 4, "num_layers": 2, "num_moments": 4, "kernel_hidden": 16}
NUMBERS = [6, 8, 1, 1, 6]


def potential(readout: str) -> AtomicPotential:
    torch.manual_seed(0)
    head = {"gap": HeadConfig("intensive", mean=2.0, readout=readout)}
    made = AtomicPotential.default(elements=(1, 6, 8), heads=head, network=SMALL, with_energy=False)
    with torch.no_grad():  # heads begin at zero
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return made.double()


def molecule(numbers: list[int], *, padding: int = 0) -> tuple[Tensor, Particles]:
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(1, len(numbers) + padding, 3, generator=generator, dtype=torch.float64)
    species = torch.tensor([numbers + [0] * padding])
    return 1.5 * q, Particles(masses=torch.ones(species.shape).double(), species=species, mask=species > 0)


def gap(model: AtomicPotential, q: Tensor, particles: Particles) -> Tensor:
    return evaluate(model, q, particles, neighbour_matrix(q, particles, cutoff=6.0)).properties["gap"]


@pytest.mark.parametrize("readout", READOUTS)
def test_it_does_not_see_rotation_order_or_padding(readout: str) -> None:
    model, (q, particles) = potential(readout), molecule(NUMBERS)
    expected = gap(model, q, particles)
    order = torch.randperm(5)
    turned = random_transform("SE(3)", q, 1)[:, order]
    changed = Particles(particles.masses, species=particles.species[:, order], mask=particles.mask)
    torch.testing.assert_close(gap(model, turned, changed), expected, rtol=EXACT, atol=EXACT)
    padded, more = molecule(NUMBERS, padding=2)
    padded[:, :5] = q
    torch.testing.assert_close(gap(model, padded, more), expected, rtol=EXACT, atol=EXACT)
    assert (gap(model, 1.1 * q, particles) - expected).abs() > 1e-6


@pytest.mark.parametrize("readout", READOUTS)
def test_two_equal_molecules_far_apart_have_the_number_of_one_unless_it_is_a_sum(readout: str) -> None:
    model, (q, particles) = potential(readout), molecule([*NUMBERS, 1])  # an even number: half of it is whole
    twice = Particles(
        masses=particles.masses.repeat(1, 2),
        species=particles.species.repeat(1, 2),
        mask=particles.mask.repeat(1, 2),
    )
    change = gap(model, torch.cat([q, q + 1e3], 1), twice) - gap(model, q, particles)
    if readout == "sum":
        assert change.abs() > 1e-3
    else:
        assert change.abs() < EXACT


def test_a_readout_survives_the_disk(tmp_path: Path) -> None:
    model, (q, particles) = potential("soft_sag"), molecule(NUMBERS)
    save_model(model, tmp_path / "model")
    torch.testing.assert_close(
        gap(load_model(tmp_path / "model"), q, particles), gap(model, q, particles), rtol=0, atol=0
    )


def test_impossible_readouts_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown readout 'best'; choose one of attention, sum, mean, sag"):
        HeadConfig("intensive", readout="best")
    with pytest.raises(ValueError, match="only an intensive property has a readout"):
        HeadConfig("extensive", readout="sag")
