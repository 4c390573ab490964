"""What models refuse before they compute, and that the refusal says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lie_sim.models import FullyConnected, FullyConnectedConfig, LieTransformer
from lie_sim.models.inputs import _one_hot_or_nan, encode_species
from lie_sim.neighbors import NeighbourMatrix, neighbour_matrix
from lie_sim.rollout.binding import _select
from lie_sim.state import Particles

CUTOFF = 1.5
ROUNDING = 1e-12


def system(count: int = 3, batch: int = 2, *, dtype: torch.dtype = torch.float32):
    return torch.randn(batch, count, 2, dtype=dtype), Particles(masses=torch.ones(batch, count, dtype=dtype))


def fully_connected():
    return FullyConnected(FullyConnectedConfig(num_particles=3, width=8))


@pytest.mark.parametrize("make", [LieTransformer.default, fully_connected])
def test_another_dtype_than_the_model_has(make):
    q, particles = system(dtype=torch.float64)
    model = make()
    message = (
        r"the model is float32, the positions are float64: use model.to\(q.dtype\) or q.to\(torch.float32\)"
    )
    with pytest.raises(ValueError, match=message):
        model(q, particles)
    assert model.to(q.dtype)(q, particles).dtype == q.dtype
    assert make()(q.float(), particles).dtype == torch.float32  # the particles are converted


@pytest.mark.parametrize("make", [LieTransformer.default, fully_connected])
@pytest.mark.parametrize(("batch", "count"), [(2, 4), (1, 3), (2, 1)])
def test_particles_of_other_systems(make, batch, count):
    q, _ = system()
    _, particles = system(count, batch)
    message = rf"positions have \(B, N\) = \(2, 3\), particles.masses \({batch}, {count}\)"
    with pytest.raises(ValueError, match=message):
        make()(q, particles)


@pytest.mark.parametrize("make", [LieTransformer.default, fully_connected])
def test_another_device_than_the_model_has(make):
    q, particles = system()
    elsewhere = particles.to(device="meta")
    with pytest.raises(ValueError, match=r"the model is on cpu, the positions are on meta: .*\.to\('cpu'\)"):
        make()(q.to("meta"), elsewhere)
    with pytest.raises(ValueError, match="the model is on cpu, the particles are on meta"):
        make()(q, elsewhere)


def test_neighbours_on_another_device():
    q, particles = system()
    found = neighbour_matrix(q, particles, cutoff=CUTOFF)
    elsewhere = NeighbourMatrix(found.index.to("meta"), found.mask.to("meta"))
    with pytest.raises(ValueError, match="the model is on cpu, the neighbours are on meta"):
        LieTransformer.default(cutoff=CUTOFF)(q, particles, elsewhere)


@pytest.mark.parametrize("lifting", [{}, {"lifting": "finite", "group": "C4"}])
def test_a_list_shorter_than_the_cutoff(lifting):
    q, particles = system(dtype=torch.float64)
    model = LieTransformer.default(cutoff=CUTOFF, length_scale=3.0, **lifting).double()
    short = neighbour_matrix(q, particles, cutoff=0.9 * CUTOFF)
    with pytest.raises(ValueError, match=r"reach to 1.35, less than the cutoff 1.5 .*cutoff=1.5\)"):
        model(q, particles, short)
    expected = model(q, particles)
    for cutoff in (CUTOFF * (1 - 1e-9), CUTOFF, 2 * CUTOFF):
        found = model(q, particles, neighbour_matrix(q, particles, cutoff=cutoff))
        torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)
    model(q, particles, replace(short, cutoff=None))  # made elsewhere: its reach is not known


@pytest.mark.parametrize(("batch", "count"), [(2, 4), (1, 3)])
def test_a_list_of_other_particles(batch, count):
    q, particles = system()
    other = neighbour_matrix(*system(count, batch), cutoff=CUTOFF)
    message = rf"those of \(B, N\) = \({batch}, {count}\) particles, the positions have \(2, 3\)"
    with pytest.raises(ValueError, match=message):
        LieTransformer.default(cutoff=CUTOFF)(q, particles, other)


@pytest.mark.parametrize("lifting", [{}, {"lifting": "finite", "group": "C4"}])
def test_periodic_images_need_a_cutoff(lifting):
    q, particles = system()
    cell, model = torch.eye(2).expand(2, 2, 2), LieTransformer.default(**lifting)
    periodic = replace(particles, cell=cell)
    with pytest.raises(ValueError, match="this model has no cutoff: set the cutoff of its configuration"):
        model(q, periodic, neighbour_matrix(q, periodic, cutoff=CUTOFF))
    box = replace(particles, cell=cell, pbc=torch.zeros(2, 2, dtype=torch.bool))
    far = neighbour_matrix(q, box, cutoff=100.0)
    torch.testing.assert_close(model(q, box, far), model(q, particles))


def test_a_list_remembers_its_reach():
    q, particles = system()
    found = neighbour_matrix(q, replace(particles, cell=torch.eye(2).expand(2, 2, 2)), cutoff=CUTOFF)
    assert found.cutoff == CUTOFF
    assert _select(found, slice(0, 1)).cutoff == CUTOFF
    scaled = found.in_units_of(3.0)
    assert scaled.cutoff == CUTOFF / 3
    assert torch.equal(scaled.shift, found.shift / 3)


def test_species_away_from_the_cpu_are_never_taken_for_others():
    """There the values are not looked at, so an unknown species must show as NaN."""
    species = torch.tensor([[0, 2, -1, 3]])
    encoded = _one_hot_or_nan(species, 3, torch.float64)
    assert torch.equal(encoded[0, :2], torch.eye(3, dtype=torch.float64)[[0, 2]])
    assert bool(encoded[0, 2:].isnan().all())
    assert encode_species(species.to("meta"), 3, dtype=torch.float64).shape == (1, 4, 3)  # no value is needed


def test_an_unknown_species_makes_the_energy_of_its_system_nan(monkeypatch):
    monkeypatch.setattr("lie_sim.models.scalars.encode_species", _encode_unchecked)
    q, particles = system()
    model = LieTransformer.default(num_species=2)
    energy = model.energy(q, replace(particles, species=torch.tensor([[0, 1, 2], [0, 1, 1]])))
    assert energy.isnan().tolist() == [True, False]


def _encode_unchecked(species, count, *, dtype):
    return _one_hot_or_nan(species, count, dtype)
