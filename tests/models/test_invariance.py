"""Symmetries of the energy: exact where the model declares them, broken where it does not."""

from __future__ import annotations

import pytest
import torch

from lie_sim.groups import group, random_transform
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

INVARIANCE_TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
}  # of std(E): rounding of a few hundred sums
ROUNDING = 1e-12
SYMMETRY_BROKEN = 1e-3  # of std(E): far above any rounding
KNOWN = {"num_attributes": 1, "num_species": 2}

FRAME_OPTIONS = {
    "default": {},
    "distances only": {"num_frames": 0},
    "chirality": {"chirality": True},
    "moments": {"num_moments": 2},
    "moments only": {"num_frames": 0, "num_moments": 2},
    "cutoff": {"cutoff": 2.0},
    "gaussian": {"radial": "gaussian", "cutoff": 3.0},
    "coulomb": {"radial": "coulomb", "softening": 0.05},
    "bessel": {"radial": "bessel", "cutoff": 3.0},
    "refined moments": {
        "lifting": "moments",
        "num_moments": 3,
        "radial": "bessel",
        "cutoff": 3.0,
        "num_layers": 3,
    },
    "refined moments, post norm": {"lifting": "moments", "num_moments": 2, "norm": "post", "cutoff": 3.0},
    "softmax": {
        "normalisation": "softmax",
        "location": "mlp",
        "content": "concat_linear",
        "combination": "mlp",
    },
    "equivalence principle": {"source_weight": "masses", "readout_weight": "masses", "length_scale": 2.0},
    "everything": {"chirality": True, "num_moments": 1, "cutoff": 2.5, "radial": "gaussian", "norm": "pre"},
}
FINITE_GROUPS = {
    2: ("Trivial(2)", "C2", "C3", "C4", "C6", "D1", "D3", "D4"),
    3: ("Trivial(3)", "T", "O", "I"),
}
EXACT_HAAR = (
    (1, "T(1)"),
    (2, "T(2)"),
    (3, "T(3)"),
    (2, "SO(2)"),
    (2, "C4"),
    (2, "R>0xSO(2)"),
    (3, "T(3)xTrivial(3)"),
)


def invariance_error(model, q, particles, symmetry, neighbours=None):
    """Largest change of the energy under random group elements, relative to std(E) over the inputs."""
    with torch.no_grad():
        energy = model.energy(q, particles, neighbours)
        moved = model.energy(random_transform(symmetry, q, 7), particles, neighbours)
    return float((moved - energy).abs().max() / energy.std())


def assert_same(one, other):
    """Equal to ROUNDING of the largest entry."""
    error = float((one - other).detach().abs().max() / other.detach().abs().max().clamp(min=1))
    assert error <= ROUNDING, f"relative difference {error:.1e} > {ROUNDING:.0e}"


def train_a_little(model, q, particles):
    """Three Adam steps towards random energies."""
    target = torch.randn(len(q), dtype=q.dtype)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(3):
        optimiser.zero_grad()
        (model.energy(q, particles) - target).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("case", FRAME_OPTIONS)
def test_soft_frames_are_exactly_invariant(make_model, make_system, case, dim, dtype):
    options = FRAME_OPTIONS[case]
    model = make_model(dim=dim, dtype=dtype, **KNOWN, **options)
    q, particles = make_system(dim, batch=8, dtype=dtype)
    symmetry = model.equivariant_under
    assert symmetry == f"{'SE' if options.get('chirality') else 'E'}({dim})"
    assert model.exact_symmetry
    assert invariance_error(model, q, particles, symmetry) <= INVARIANCE_TOLERANCE[dtype]
    if model.config.cutoff:
        neighbours = neighbour_matrix(q, particles, cutoff=model.config.cutoff)
        assert invariance_error(model, q, particles, symmetry, neighbours) <= INVARIANCE_TOLERANCE[dtype]


@pytest.mark.parametrize("stage", ["untrained", "trained"])
@pytest.mark.parametrize(
    ("dim", "options"),
    [
        (1, {}),
        (2, {}),
        (3, {"chirality": True}),
        (2, {"lifting": "finite", "group": "D3"}),
        (3, {"lifting": "haar", "group": "T(3)"}),
    ],
)
def test_invariance_does_not_depend_on_the_training(make_model, make_system, dim, options, stage):
    model = make_model(dim=dim, noise=0.0, **KNOWN, **options)
    q, particles = make_system(dim)
    if stage == "trained":
        train_a_little(model, q, particles)
    symmetry = f"T({dim})" if dim == 1 else model.equivariant_under
    assert invariance_error(model, q, particles, symmetry) <= INVARIANCE_TOLERANCE[torch.float64]


@pytest.mark.parametrize(
    ("dim", "name", "code"),
    [(dim, name, "matrix") for dim, names in FINITE_GROUPS.items() for name in names]
    + [(2, "C4", "index"), (2, "D3", "index"), (3, "T", "index")],
)
def test_finite_lift_is_exactly_invariant(make_model, make_system, dim, name, code):
    options = {
        "lifting": "finite",
        "group": name,
        "element_code": code,
        "mean_neighbours": 4.0 * group(name).order,
    }
    model = make_model(dim=dim, cutoff=3.0, noise=0.1, **options, **KNOWN)
    q, particles = make_system(dim, batch=4, count=2 if name == "I" else 4)
    assert model.equivariant_under == f"T({dim})x{name}"
    tolerance = INVARIANCE_TOLERANCE[torch.float64]
    assert invariance_error(model, q, particles, model.equivariant_under) <= tolerance
    neighbours = neighbour_matrix(q, particles, cutoff=3.0)
    assert invariance_error(model, q, particles, model.equivariant_under, neighbours) <= tolerance
    assert_same(model.energy(q, particles), model.energy(q, particles, neighbours))


@pytest.mark.parametrize(("dim", "name"), [(2, "C4"), (2, "D3"), (3, "O")])
def test_finite_lift_is_exactly_invariant_in_float32(make_model, make_system, dim, name):
    model = make_model(dim=dim, lifting="finite", group=name, dtype=torch.float32, noise=0.1, **KNOWN)
    q, particles = make_system(dim, count=3, dtype=torch.float32)
    assert invariance_error(model, q, particles, f"T({dim})x{name}") <= INVARIANCE_TOLERANCE[torch.float32]


@pytest.mark.parametrize("name", ["C3", "C4"])
def test_finite_lift_knows_the_directions_that_its_group_does_not_mix(make_model, make_system, name):
    model = make_model(dim=2, lifting="finite", group=name, **KNOWN)
    q, particles = make_system(2)
    assert invariance_error(model, q, particles, "SE(2)") > SYMMETRY_BROKEN


@pytest.mark.parametrize(("dim", "name"), EXACT_HAAR)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_haar_lift_is_exact_where_the_stabiliser_is_trivial(make_model, make_system, dim, name, dtype):
    model = make_model(dim=dim, lifting="haar", group=name, dtype=dtype, noise=0.1, **KNOWN)
    q, particles = make_system(dim, dtype=dtype)
    assert model.exact_symmetry
    assert invariance_error(model, q, particles, name) <= INVARIANCE_TOLERANCE[dtype]


@pytest.mark.parametrize(("dim", "count"), [(2, 4), (3, 6)])
def test_only_chirality_tells_mirror_images_apart(make_model, make_system, dim, count):
    q, particles = make_system(dim, count=count)
    mirrored = q * torch.tensor([-1.0] + [1.0] * (dim - 1), dtype=q.dtype)
    for chirality in (False, True):
        model = make_model(dim=dim, chirality=chirality, num_moments=1, **KNOWN)
        energy = model.energy(q, particles).detach()
        change = float((model.energy(mirrored, particles).detach() - energy).abs().max() / energy.std())
        if chirality:
            assert change > SYMMETRY_BROKEN
        else:
            assert change <= INVARIANCE_TOLERANCE[q.dtype]


@pytest.mark.parametrize(
    ("dim", "options"),
    [
        (3, {"num_moments": 1}),
        (3, {"cutoff": 2.0}),
        (3, {"cutoff": 2.0, "lifting": "moments", "num_moments": 2}),
        (2, {"lifting": "finite", "group": "C3"}),
        (2, {"readout": "mean"}),
    ],
)
def test_particles_have_no_order(make_model, make_system, dim, options):
    model = make_model(dim=dim, **KNOWN, **options)
    q, particles = make_system(dim)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = particles.map(lambda x: x[:, order])
    assert_same(model(q[:, order], shuffled), model(q, particles)[:, order])


def test_identical_particles_may_be_exchanged(make_model, make_system):
    model = make_model(dim=3, use_masses=False, num_moments=1)
    q, particles = make_system(3)
    assert_same(model.energy(q.flip(1), particles), model.energy(q, particles))


ALL_LIFTINGS = [
    (3, {"lifting": "moments", "num_moments": 2, "num_layers": 3, "radial": "bessel", "cutoff": 3.0}),
    (3, {"num_moments": 1, "chirality": True}),
    (2, {"cutoff": 2.0}),
    (2, {"lifting": "finite", "group": "C3", "centre": True}),
    (2, {"lifting": "haar", "group": "T(2)", "normalisation": "constant", "readout": "mean"}),
    (2, {"lifting": "haar", "group": "SE(2)", "num_lifts": 2, "location": "mlp", "gated_values": False}),
    (3, {"lifting": "haar", "group": "SO(3)", "num_lifts": 2, "centre": True, "readout": "max"}),
    (3, {"lifting": "haar", "group": "SE(3)", "num_lifts": 3, "normalisation": "softmax", "squash": 7.0}),
]


@pytest.mark.parametrize(("dim", "options"), ALL_LIFTINGS)
def test_a_batch_is_its_systems_one_by_one(make_model, make_system, dim, options):
    model = make_model(dim=dim, **KNOWN, **options)
    q, particles = make_system(dim)
    single = torch.cat([model(q[i : i + 1], particles[i : i + 1]) for i in range(len(q))])
    assert_same(model(q, particles), single)


@pytest.mark.parametrize(("dim", "options"), ALL_LIFTINGS)
def test_padding_changes_nothing(make_model, make_system, forces_of, dim, options):
    model = make_model(dim=dim, **KNOWN, **options)
    q, particles = make_system(dim)
    extra_q, extra = make_system(dim, count=12, seed=5)  # 17 in all: beyond one block of random numbers
    mask = torch.arange(17) < 5
    padded = Particles(
        masses=torch.cat([particles.masses, extra.masses], 1),
        attributes=torch.cat([particles.attributes, extra.attributes], 1),
        species=torch.cat([particles.species, extra.species], 1),
        mask=mask.expand(4, -1),
    )
    padded_q = torch.cat([q, 3 * extra_q], 1)
    energies = model(padded_q, padded)
    assert bool((energies[:, 5:] == 0).all())
    assert_same(energies[:, :5], model(q, particles))
    forces = forces_of(model, padded_q, padded)
    assert bool((forces[:, 5:] == 0).all())
    assert_same(forces[:, :5], forces_of(model, q, particles))


def test_padding_never_becomes_a_neighbour(make_model, make_system):
    model = make_model(dim=2, cutoff=2.0)
    q, particles = make_system(2)
    mask = torch.tensor([True, True, True, False, False]).expand(4, -1)
    padded = Particles(masses=particles.masses, mask=mask)
    neighbours = neighbour_matrix(q, padded, cutoff=2.0)
    alone = Particles(masses=particles.masses[:, :3])
    assert_same(model.energy(q, padded, neighbours), model.energy(q[:, :3], alone))
