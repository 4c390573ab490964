"""Potentials of atoms: reference energies, elements, repulsion, symmetry, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lie_sim import load_model, save_model
from lie_sim.lifting.base import pair_vectors
from lie_sim.models import AtomicConfig, AtomicPotential, evaluate
from lie_sim.models.repulsion import zbl_energy
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles
from lie_sim.units import COULOMB_EV_ANGSTROM

ROUND_OFF = 1e-12  # eV, of energies of a few eV; measured: up to 4e-15
REFERENCES = (-13.587222780835477, -2041.3960473243)
SMALL = {"width": 16, "num_heads": 4, "num_layers": 2, "num_frames": 3, "kernel_hidden": 16}


def potential(seed: int = 0, **options) -> AtomicPotential:
    torch.manual_seed(seed)
    made = AtomicPotential.default(elements=(1, 8), network=SMALL | options.pop("network", {}), **options)
    with torch.no_grad():  # the branches that begin at zero
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return made.double()


def water() -> tuple[Tensor, Particles]:
    q = torch.tensor([[[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.1, -0.76, -0.47]]], dtype=torch.float64)
    numbers = torch.tensor([[8, 1, 1]])
    return q, Particles(masses=torch.ones(1, 3, dtype=torch.float64), species=numbers)


def test_reference_energies_are_added_in_float64_whatever_the_dtype_of_the_network() -> None:
    with_references, without = potential(reference_energies=REFERENCES), potential()
    q, particles = water()
    expected = REFERENCES[1] + 2 * REFERENCES[0]
    for dtype in (torch.float64, torch.float32):
        plain = without.to(dtype).energy(q.to(dtype), particles)
        shifted = with_references.to(dtype).energy(q.to(dtype), particles)
        assert plain.dtype == shifted.dtype == torch.float64
        assert abs(float(shifted - plain) - expected) < 1e-9, f"{dtype}"


def test_references_survive_a_round_trip_through_float32_and_disk(tmp_path) -> None:
    made = potential(reference_energies=REFERENCES, repulsion_radii=(0.31, 0.66), inputs=("charge",))
    save_model(made.float().double(), tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == made.config
    assert loaded.reference_table[8] == REFERENCES[1]
    assert loaded.reference_table.dtype == torch.float64


def test_energy_is_the_same_turned_mirrored_shifted_and_relabelled() -> None:
    model, (q, particles) = potential(repulsion_radii=(0.31, 0.66)), water()
    turn, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    energy = model.energy(q, particles)
    order = torch.tensor([2, 0, 1])
    relabelled = Particles(masses=particles.masses, species=particles.species[:, order])
    assert abs(float(model.energy(q @ turn + 5, particles) - energy)) < ROUND_OFF
    assert abs(float(model.energy(q[:, order], relabelled) - energy)) < ROUND_OFF
    stretched = q * torch.tensor([1.0, 1.0, 1.1], dtype=torch.float64)
    assert abs(float(model.energy(stretched, particles) - energy)) > 1e-4, "blind to geometry"


def test_padding_and_batch_change_nothing() -> None:
    model, (q, particles) = potential(repulsion_radii=(0.31, 0.66), reference_energies=REFERENCES), water()
    single = model(q, particles)
    padded_q = torch.cat([q, torch.zeros(1, 2, 3, dtype=torch.float64)], 1)
    numbers = torch.tensor([[8, 1, 1, 0, 0]])
    mask = numbers > 0
    padded = Particles(masses=mask.double(), species=numbers, mask=mask)
    found = model(padded_q, padded)
    assert (found[:, :3] - single).abs().max() < ROUND_OFF
    assert (found[:, 3:] == 0).all()


def test_far_apart_molecules_do_not_see_each_other() -> None:
    model, (q, particles) = potential(repulsion_radii=(0.31, 0.66)), water()
    both = Particles(masses=torch.ones(1, 6, dtype=torch.float64), species=particles.species.repeat(1, 2))
    far = torch.cat([q, q + 50], 1)
    assert abs(float(model.energy(far, both) - 2 * model.energy(q, particles))) < ROUND_OFF
    near = torch.cat([q, q + 2], 1)
    assert abs(float(model.energy(near, both) - 2 * model.energy(q, particles))) > 1e-4


def test_a_list_of_neighbours_gives_the_same_as_all_pairs() -> None:
    model, (q, particles) = potential(repulsion_radii=(0.31, 0.66)), water()
    listed = neighbour_matrix(q, particles, cutoff=model.cutoff)
    assert (model(q, particles, listed) - model(q, particles)).abs().max() < ROUND_OFF


def test_repulsion_is_that_of_the_formula_and_ends_smoothly() -> None:
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    r, reach = 0.05, 1.0
    a = 0.46850 / (6**0.23 + 8**0.23)
    shares = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
    exact = COULOMB_EV_ANGSTROM * 48 / r * sum(c * math.exp(-k * r / a) for c, k in shares)
    exact *= 1 - 10 * r**3 + 15 * r**4 - 6 * r**5
    found = float(zbl_energy(one * r**2, 6 * one, 8 * one, reach * one))
    assert abs(found / exact - 1) < 1e-9  # atoms are kept 1e-6 Å apart
    near = (one * (reach - 1e-4) ** 2).requires_grad_(True)
    energy = zbl_energy(near, 6 * one, 8 * one, one)
    (slope,) = torch.autograd.grad(energy, near)
    assert 0 < float(energy) < 1e-8
    assert abs(float(slope)) < 1e-4


def test_coincident_atoms_have_a_finite_energy_and_force() -> None:
    model, (_, particles) = potential(repulsion_radii=(0.31, 0.66)), water()
    q = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    energy = model.energy(q, particles)
    (slope,) = torch.autograd.grad(energy.sum(), q)
    assert energy.isfinite().all()
    assert slope.isfinite().all()


def test_charge_changes_the_energy_where_it_is_an_input() -> None:
    model, (q, particles) = potential(inputs=("charge",)), water()
    energies = []
    for charge in (0.0, 1.0):
        attributes = torch.full((1, 3, 1), charge, dtype=torch.float64)
        charged = Particles(masses=particles.masses, species=particles.species, attributes=attributes)
        energies.append(float(model.energy(q, charged)))
    assert abs(energies[1] - energies[0]) > 1e-4
    with pytest.raises(ValueError, match="needs 1 attributes per particle, got None"):
        model.energy(q, particles)


def test_what_is_wrong_is_named() -> None:
    model, (q, particles) = potential(), water()
    odd = Particles(masses=particles.masses, species=torch.tensor([[8, 1, 54]]))
    with pytest.raises(ValueError, match=r"\[54\] are unknown .* made for \[1, 8\]"):
        model(q, odd)
    with pytest.raises(ValueError, match="the atomic numbers, which is None"):
        model(q, Particles(masses=particles.masses))
    with pytest.raises(ValueError, match="ascending, each once"):
        AtomicConfig(elements=(8, 1))
    with pytest.raises(ValueError, match="from 1 to 118"):
        AtomicConfig(elements=(0, 1))
    with pytest.raises(ValueError, match="reference_energies has 1 values for 2 elements"):
        AtomicConfig(elements=(1, 8), reference_energies=(1.0,))
    with pytest.raises(ValueError, match="num_species follows from elements"):
        AtomicPotential.default(elements=(1, 8), network={"num_species": 3})
    with pytest.raises(ValueError, match="reach further than the cutoff"):
        AtomicPotential.default(elements=(1,), repulsion_radii=(4.0,))
    with pytest.raises(ValueError, match="inputs must be some of"):
        AtomicConfig(elements=(1,), inputs=("colour",))


NEAR = {"repulsion_radii": (0.3, 0.45), "network": {"lifting": "moments"}}


def squeezed(distance: Tensor) -> tuple[Tensor, Particles]:
    """Water whose second hydrogen is so far from the oxygen."""
    q, particles = water()
    way = (q[0, 2] - q[0, 0]) / (q[0, 2] - q[0, 0]).norm()
    moved = torch.stack([q[0, 0], q[0, 1], q[0, 0] + distance * way])
    return moved[None], particles


def test_the_network_sees_no_pair_nearer_than_those_of_the_data() -> None:
    model = potential(**NEAR)
    q, particles = squeezed(torch.tensor(0.3, dtype=torch.float64))
    shortest = []
    model.network.register_forward_pre_hook(
        lambda _, given: shortest.append(pair_vectors(given[0], given[2]).norm(dim=-1)[given[2].mask].min())
    )
    model.energy(q, particles, neighbour_matrix(q, particles, cutoff=6.0))
    model.energy(q, particles)
    assert len(shortest) == 2
    assert all(0.95 * 0.75 - 1e-12 <= float(found) < 0.75 for found in shortest)


@pytest.mark.parametrize("given", [True, False])
def test_close_pairs_have_exact_forces_and_two_continuous_derivatives(given: bool) -> None:
    model = potential(**NEAR)

    def energy(distance: Tensor) -> Tensor:
        q, particles = squeezed(distance)
        return model.energy(q, particles, neighbour_matrix(q, particles, cutoff=6.0) if given else None)[0]

    for at in (0.745, 0.7, 0.5, 0.2):
        x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(energy(x), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, x)
        values = [energy(torch.tensor(at + step, dtype=torch.float64)) for step in (-1e-5, 0.0, 1e-5)]
        assert float(slope) == pytest.approx(float(values[2] - values[0]) / 2e-5, rel=1e-6, abs=1e-6)
        assert float(curvature) == pytest.approx(
            float(values[0] - 2 * values[1] + values[2]) / 1e-10, rel=1e-3, abs=1e-2
        )
    for edge in (0.75, 0.675):  # where the repulsion begins, and where the network sees no change any more
        sides = []
        for at in (edge - 1e-7, edge + 1e-7):
            x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(energy(x), x, create_graph=True)
            sides.append((energy(x), slope, torch.autograd.grad(slope, x)[0]))
        for (left, right), bound in zip(zip(*sides, strict=True), (1e-4, 1e-3, 1e-2), strict=True):
            assert abs(float(left - right)) < bound * (1 + abs(float(left)))


def test_pairs_as_in_the_data_are_untouched() -> None:
    q, particles = water()
    neighbours = neighbour_matrix(q, particles, cutoff=6.0)
    plain = potential(network=NEAR["network"]).energy(q, particles, neighbours)
    assert torch.equal(potential(**NEAR).energy(q, particles, neighbours), plain)


def test_the_stress_of_close_pairs_is_that_of_differences() -> None:
    model, (q, particles) = potential(**NEAR), squeezed(torch.tensor(0.6, dtype=torch.float64))
    neighbours = neighbour_matrix(q, particles, cutoff=6.0)
    virials = evaluate(model, q, particles, neighbours, virials=True).virials
    step, strain = 1e-5, torch.zeros(3, 3, dtype=torch.float64)
    strain[1, 2] = strain[2, 1] = step / 2
    ends = [
        model.energy(q @ (torch.eye(3).double() + sign * strain), particles, neighbours) for sign in (1, -1)
    ]
    assert virials is not None
    assert float((ends[0] - ends[1]) / (2 * step)) == pytest.approx(float(virials[0].sum(0)[1, 2]), rel=1e-6)
