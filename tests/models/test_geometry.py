"""What the energy sees: geometry, separation, the cutoff, the periodic cell."""

from __future__ import annotations

import pytest
import torch

from lie_sim.models import LieTransformer
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

ROUNDING = 1e-12
BLIND = 1e-12  # spread of the energy that is rounding only
SEES = 0.01  # of energies of order 1; random weights, so far below the 0.04 to 1 found, far above BLIND
LOCAL_NORMALISATIONS = ("scaled", "softmax", "constant", "norm_exp")


def identical(batch, count, **fields):
    return Particles(masses=torch.ones(batch, count, dtype=torch.float64), **fields)


def same(one, other):
    return float((one - other).detach().abs().max() / other.detach().abs().max().clamp(min=1)) <= ROUNDING


@pytest.mark.parametrize("normalisation", LOCAL_NORMALISATIONS)
@pytest.mark.parametrize(
    "lifting", [{}, {"lifting": "haar", "group": "T(3)"}, {"lifting": "finite", "group": "T"}]
)
def test_gated_values_see_the_geometry_of_identical_particles(
    make_system, make_model, lifting, normalisation
):
    model = make_model(dim=3, normalisation=normalisation, **lifting)
    q, _ = make_system(3, batch=8, count=3)
    assert float(model.energy(q, identical(8, 3)).detach().std()) > SEES


def test_a_fresh_default_model_sees_the_geometry_of_identical_particles(make_system):
    model = LieTransformer.default(dim=3).double()
    q, _ = make_system(3, batch=16)
    assert float(model.energy(q, identical(16, 5)).detach().std()) > SEES


def test_ungated_softmax_is_blind_to_the_geometry_of_identical_particles(make_system, make_model):
    paper = {"location": "mlp", "gated_values": False, "norm": "pre", "paper_blocks": True, "readout": "mean"}
    options = {"lifting": "haar", "group": "T(3)", "epsilon": 0.0, **paper}
    q, particles = make_system(3, batch=16)
    blind = make_model(dim=3, normalisation="softmax", **options)
    assert float(blind.energy(q, identical(16, 5)).detach().std()) < BLIND
    assert float(blind.energy(q, particles).detach().std()) > 1e-4  # different particles give it eyes
    seeing = make_model(dim=3, normalisation="constant", **options)
    assert float(seeing.energy(q, identical(16, 5)).detach().std()) > 1e-4


def test_moments_see_angles_that_vectors_cannot(make_model):
    """A centre whose neighbours come in ± pairs has A = 0; their ends are too far apart to see each other."""
    angles = torch.tensor([1.35, 1.45, torch.pi / 2], dtype=torch.float64)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, -1)
    second = torch.stack([angles.cos(), angles.sin()], dim=-1)
    q = torch.stack([torch.zeros_like(first), first, -first, second, -second], dim=1)
    spread = [
        float(make_model(dim=2, cutoff=1.24, num_moments=count).energy(q, identical(3, 5)).detach().std())
        for count in (0, 1)
    ]
    assert spread[0] < BLIND
    assert spread[1] > 1e-6


@pytest.mark.parametrize("normalisation", LOCAL_NORMALISATIONS)
@pytest.mark.parametrize(
    "lifting",
    [
        {"num_moments": 1},
        {"num_moments": 2, "lifting": "moments"},
        {"lifting": "finite", "group": "T", "mean_neighbours": 12.0},
    ],
)
def test_energies_of_separate_clusters_add(make_model, make_system, lifting, normalisation):
    model = make_model(dim=3, cutoff=2.0, num_attributes=1, normalisation=normalisation, noise=0.1, **lifting)
    a, particles_a = make_system(3, batch=2, count=3, seed=1)
    b, particles_b = make_system(3, batch=2, count=4, seed=2)
    b = b + 30.0
    q = torch.cat([a, b], 1)
    both = Particles(
        masses=torch.cat([particles_a.masses, particles_b.masses], 1),
        attributes=torch.cat([particles_a.attributes, particles_b.attributes], 1),
    )
    parts = model.energy(a, particles_a) + model.energy(b, particles_b)
    assert same(model.energy(q, both), parts)
    assert same(model.energy(q, both, neighbour_matrix(q, both, cutoff=2.0)), parts)


@pytest.mark.parametrize("normalisation", LOCAL_NORMALISATIONS)
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    "lifting",
    [
        {"num_moments": 1, "chirality": True},
        {"radial": "gaussian"},
        {"lifting": "moments", "num_moments": 2, "radial": "bessel"},
        {"lifting": "finite", "group": "T"},
    ],
)
def test_a_neighbour_leaves_twice_differentiably(make_model, forces_of, lifting, normalisation, listed):
    """Just inside the cutoff the third particle feels a force ∝ δ²: F and F' are 0 at it, as outside."""
    cutoff = 1.5
    model = make_model(dim=3, cutoff=cutoff, normalisation=normalisation, epsilon=0.1, **lifting)
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    pair = torch.tensor([[0.0, 0.0, 0.0], [-0.8, 0.3, -0.2]], dtype=torch.float64)
    gaps = torch.tensor([2e-3, 1e-3, -1e-3], dtype=torch.float64)  # inside, inside, outside
    third = direction * (cutoff - gaps)[:, None]
    q = torch.cat([pair.expand(3, -1, -1), third[:, None]], dim=1)
    particles = identical(3, 3)
    neighbours = neighbour_matrix(q, particles, cutoff=cutoff) if listed else None
    force = forces_of(model, q, particles, neighbours)[:, 2].detach().norm(dim=-1)
    assert float(force[2]) == 0.0
    assert float(force[1]) > 0.0
    assert float(force[0] / force[1]) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("lifting", [{}, {"lifting": "moments", "num_moments": 2}])
def test_an_isolated_particle_has_an_energy(make_model, lifting):
    q = torch.tensor([[[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]]], dtype=torch.float64)
    for normalisation in LOCAL_NORMALISATIONS:
        model = make_model(dim=3, cutoff=2.0, normalisation=normalisation, **lifting)
        pair = identical(1, 2)
        listed = model(q, pair, neighbour_matrix(q, pair, cutoff=2.0))
        alone = model(q[:, :1], identical(1, 1))
        assert same(listed, alone.expand(1, 2))


CELL = torch.tensor([[[3.0, 0.0, 0.0], [0.8, 2.6, 0.0], [-0.5, 0.4, 2.9]]], dtype=torch.float64)


@pytest.mark.parametrize("cutoff", [1.4, 3.5])
@pytest.mark.parametrize(
    "lifting",
    [
        {"num_moments": 1, "radial": "gaussian"},
        {"num_moments": 2, "lifting": "moments", "radial": "bessel"},
        {"lifting": "finite", "group": "T"},
    ],
)
def test_crystals_repeat(make_model, make_system, forces_of, lifting, cutoff):
    model = make_model(dim=3, cutoff=cutoff, mean_neighbours=100.0, noise=0.1, **lifting)
    q, _ = make_system(3, batch=1, count=2)
    one = identical(1, 2, cell=CELL)
    energy = model.energy(q, one, neighbour_matrix(q, one, cutoff=cutoff))
    forces = forces_of(model, q, one, neighbour_matrix(q, one, cutoff=cutoff))

    lattice = torch.tensor([[[1.0, -2.0, 0.0], [0.0, 3.0, -1.0]]], dtype=torch.float64) @ CELL
    moved = neighbour_matrix(q + lattice, one, cutoff=cutoff)
    assert same(model.energy(q + lattice, one, moved), energy)
    assert same(forces_of(model, q + lattice, one, moved), forces)

    double = identical(1, 4, cell=CELL * torch.tensor([[1.0], [2.0], [1.0]]))
    both = torch.cat([q, q + CELL[:, 1:2]], dim=1)
    listed = neighbour_matrix(both, double, cutoff=cutoff)
    assert same(model.energy(both, double, listed), 2 * energy)
    assert same(forces_of(model, both, double, listed)[:, 2:], forces)


def test_mixed_periodic_directions_in_one_batch(make_model, make_system, forces_of):
    """Padding of one system must not carry the far images of another into the forces."""
    model = make_model(dim=2, cutoff=2.0, dtype=torch.float32)
    q, _ = make_system(2, batch=3, count=3, dtype=torch.float32)
    pbc = torch.tensor([[True, False], [True, True], [False, False]])
    particles = Particles(masses=torch.ones(3, 3), cell=3.0 * torch.eye(2).expand(3, 2, 2), pbc=pbc)
    together = neighbour_matrix(q, particles, cutoff=2.0)
    forces = forces_of(model, q, particles, together)
    assert bool(forces.isfinite().all())
    for i in range(3):
        own = particles[i : i + 1]
        single = forces_of(model, q[i : i + 1], own, neighbour_matrix(q[i : i + 1], own, cutoff=2.0))
        assert torch.allclose(single[0], forces[i], rtol=0, atol=1e-5 * float(forces.detach().abs().max()))


def test_refined_moments_see_angles_at_a_symmetric_site(make_model):
    """As above: the vectors of the centre vanish, its second moments do not."""
    angles = torch.tensor([1.35, 1.45, torch.pi / 2], dtype=torch.float64)
    first = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, -1)
    second = torch.stack([angles.cos(), angles.sin()], dim=-1)
    q = torch.stack([torch.zeros_like(first), first, -first, second, -second], dim=1)
    model = make_model(dim=2, cutoff=1.24, lifting="moments", num_moments=2, num_layers=1)
    assert float(model.energy(q, identical(3, 5)).detach().std()) > 1e3 * BLIND
