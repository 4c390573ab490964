"""The SE(3)-Transformer: exact symmetry before and after training, smooth forces, files, motion, the paper's head."""

from __future__ import annotations

import copy
import pickle
import sys
from dataclasses import replace

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lie_sim.checkpoint import load_model, save_model
from lie_sim.errors import MissingPackageError
from lie_sim.groups import group, random_transform
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import (
    SE3Transformer,
    SE3TransformerConfig,
    SE3TransformerDynamics,
    build_model,
    config_as_dict,
    parameter_count,
    se3_preset,
)
from lie_sim.neighbors import neighbour_matrix
from lie_sim.rollout import rollout
from lie_sim.state import Particles, PhaseState

pytest.importorskip("e3nn")

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Of energies over their spread and of forces over the largest: the promise of the model."""
SYMMETRY_BROKEN = 1e-3
GRADIENT_TOLERANCE = {"eps": 1e-6, "atol": 1e-6, "rtol": 1e-4}
SMALL = {"width": 8, "num_heads": 2, "kernel_hidden": 8, "num_attributes": 1, "num_species": 2}
CASES = {
    "default": {},
    "cutoff": {"cutoff": 2.0, "radial": "bessel"},
    "both parities": {"parity": "both", "lmax": 1, "num_layers": 4},
    "rotations only": {"parity": "none", "num_layers": 3},
    "dense": {"kernel": "dense", "lmax": 1, "length_scale": 2.0},
    "coulomb": {"radial": "coulomb", "softening": 0.1, "lmax": 3},
    "plane": {"dim": 2},
    "plane, rotations only": {"dim": 2, "parity": "none"},
}


def make(*, dtype=torch.float64, noise=0.3, cls=SE3Transformer, **options):
    """A small model with noise on all parameters: zero-initialised layers would hide what follows them."""
    torch.manual_seed(1)
    model = cls(SE3TransformerConfig(**{**SMALL, **options})).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    return model


def train(model, q, particles, *, steps=3):
    """Adam towards random energies and no forces, through double backward."""
    target = torch.randn(len(q), dtype=q.dtype)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        x = q.detach().requires_grad_(True)
        energy = model.energy(x, particles)
        (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        ((energy - target).square().mean() + slope.square().mean()).backward()
        optimiser.step()


def energy_and_forces(model, q, particles, neighbours=None):
    x = q.detach().requires_grad_(True)
    energy = model.energy(x, particles, neighbours)
    return energy.detach(), -torch.autograd.grad(energy.sum(), x)[0]


def symmetry_error(model, q, particles, matrix):
    """Largest error of energies and forces under x ↦ x matrixᵀ + 1 and a permutation of the particles."""
    order = torch.randperm(q.shape[1], generator=torch.Generator().manual_seed(0))
    energy, forces = energy_and_forces(model, q, particles)
    moved, shuffled = (q @ matrix.mT + 1)[:, order], particles.map(lambda x: x[:, order])
    energy_there, forces_there = energy_and_forces(model, moved, shuffled)
    forces = (forces @ matrix.mT)[:, order]
    return max(
        float((energy_there - energy).abs().max() / energy.std()),
        float((forces_there - forces).abs().max() / forces.abs().max()),
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_energy_and_forces_turn_with_the_system_before_and_after_training(make_system, case, dtype):
    model = make(dtype=dtype, **CASES[case])
    dim, symmetry = model.config.dim, model.equivariant_under
    assert symmetry == {"rotations only": "SE(3)"}.get(case, f"E({dim})")
    q, particles = make_system(dim, count=4, dtype=dtype)
    matrix = group("SO(3)" if symmetry == "SE(3)" else f"O({dim})").random((4,), 3, dtype=torch.float64)
    matrix = matrix.to(dtype)
    for when in ("before", "after"):
        error = symmetry_error(model, q, particles, matrix)
        assert error <= TOLERANCE[dtype], f"{when} training: {error:.1e}"
        train(model, q, particles)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_any_motion_leaves_the_energy_alone(seed):
    q = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    model = make(num_attributes=0, num_species=0)
    particles = Particles(masses=1 + torch.arange(6.0).double().expand(4, 6))
    with torch.no_grad():
        energy = model.energy(q, particles)
        moved = model.energy(random_transform(group("E(3)"), q, seed), particles)
    assert float((moved - energy).abs().max() / energy.std()) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize(("parity", "blind"), [("natural", True), ("both", True), ("none", False)])
def test_only_a_model_of_rotations_tells_mirror_images_apart(make_system, parity, blind):
    model = make(parity=parity, num_layers=3)
    q, particles = make_system(3, count=6)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=q.dtype))
    error = symmetry_error(model, q, particles, mirror)
    assert error <= TOLERANCE[q.dtype] if blind else error > SYMMETRY_BROKEN


def test_a_constant_rounded_to_single_precision_would_be_noticed(make_system):
    model = make()
    for module in model.modules():
        if hasattr(module, "value") and isinstance(module.value, torch.Tensor):
            module.value = module.value.float().double()
    q, particles = make_system(3)
    matrix = group("O(3)").random((4,), 3, dtype=q.dtype)
    assert symmetry_error(model, q, particles, matrix) > TOLERANCE[q.dtype]


def test_it_sees_angles(make_system):
    """Two triplets with the same distances to the middle; two blocks, for one sees pairs alone."""
    model = make(num_attributes=0, num_species=0, cutoff=1.5)
    bent = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 0], [-1, 0, 0]]]).double()
    bent[0, 2] = torch.tensor([0.0, 1.2, 0.0])
    bent[1, 2] = torch.tensor([-1.2, 0.0, 0.0])
    with torch.no_grad():
        energy = model.energy(bent, Particles(masses=torch.ones(2, 3).double()))
    assert float((energy[0] - energy[1]).abs()) > SYMMETRY_BROKEN


@pytest.mark.parametrize("options", [{}, {"cutoff": 2.0}, {"kernel": "dense", "lmax": 1}])
@pytest.mark.parametrize("shape", ["random", "near", "coincident", "collinear"])
def test_energy_and_force_are_differentiated_correctly(options, shape):
    model = make(num_attributes=0, num_species=0, **options)
    q = {
        "random": torch.randn(1, 3, 3),
        "near": torch.tensor([[[0.0, 0, 0], [1e-9, 0, 0], [1, 0, 0]]]),
        "coincident": torch.zeros(1, 3, 3),
        "collinear": torch.tensor([[[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]]]),
    }[shape]
    q, particles = q.double().requires_grad_(True), Particles(masses=torch.ones(1, 3).double())
    assert torch.autograd.gradcheck(lambda x: model.energy(x, particles), (q,), **GRADIENT_TOLERANCE)
    assert torch.autograd.gradgradcheck(
        lambda x: model.energy(x, particles), (q,), fast_mode=True, **GRADIENT_TOLERANCE
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_forces_and_their_gradients_are_finite_everywhere(dtype):
    model = make(dtype=dtype, num_attributes=0, num_species=0)
    for q in (
        torch.zeros(1, 1, 3),
        torch.zeros(1, 4, 3),
        1e-6 * torch.randn(1, 4, 3),
        100 * torch.randn(1, 4, 3),
    ):
        x = q.to(dtype).requires_grad_(True)
        energy = model.energy(x, Particles(masses=torch.ones(q.shape[:2], dtype=dtype))).sum()
        (slope,) = torch.autograd.grad(energy, x, create_graph=True)
        second = torch.autograd.grad(slope.square().sum(), list(model.parameters()), allow_unused=True)
        assert bool(slope.isfinite().all())
        assert all(bool(g.isfinite().all()) for g in second if g is not None)


def test_a_neighbour_leaves_the_cutoff_smoothly():
    """The force falls to zero with the square of what is left to the cutoff."""
    model = make(num_attributes=0, num_species=0, cutoff=2.0)
    particles, sizes = Particles(masses=torch.ones(1, 2).double()), []
    for distance in (1.96, 1.98, 2.0, 2.1):
        q = torch.tensor([[[0.0, 0, 0], [distance, 0, 0]]]).double()
        sizes.append(float(energy_and_forces(model, q, particles)[1].norm()))
    assert 3 < sizes[0] / sizes[1] < 5
    assert sizes[2:] == [0.0, 0.0]


def test_pairs_may_be_listed_in_any_way(make_system):
    model = make(cutoff=2.0)
    q, particles = make_system(3)
    _, expected = energy_and_forces(model, q, particles)
    for reach in (2.0, 2.7):
        listed = neighbour_matrix(q, particles, cutoff=reach)
        error = (energy_and_forces(model, q, particles, listed)[1] - expected).abs().max()
        assert float(error / expected.abs().max()) < 1e-11


def test_padding_and_batches_change_nothing(make_system):
    model = make()
    q, particles = make_system(3)
    mask = torch.tensor([True, True, True, False, False]).expand(4, -1)
    padded = replace(particles, mask=mask)
    energies = model(q, padded).detach()
    short = model(q[:, :3], particles.map(lambda x: x[:, :3])).detach()
    assert bool((energies[:, 3:] == 0).all())
    torch.testing.assert_close(energies[:, :3], short, rtol=1e-12, atol=1e-12)
    single = torch.cat([model(q[i : i + 1], particles[i : i + 1]) for i in range(4)]).detach()
    torch.testing.assert_close(model(q, particles).detach(), single, rtol=1e-12, atol=1e-12)


def test_copies_pickles_and_files_compute_the_same(make_system, tmp_path):
    model = make(dtype=torch.float32, parity="both", lmax=1)
    q, particles = make_system(3, dtype=torch.float32)
    expected = model(q, particles)
    save_model(model, tmp_path / "model")
    others = [load_model(tmp_path / "model"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    plain = build_model("se3_transformer", config_as_dict(model))
    plain.load_state_dict(model.state_dict())
    for other in (*others, plain):
        assert torch.equal(other(q, particles), expected)


def test_energy_is_kept_along_a_trajectory():
    """Leapfrog: the error of the energy falls with the square of the step."""
    model = make(num_attributes=0, num_species=0, lmax=1, noise=0.1).requires_grad_(False)
    generator, changes = torch.Generator().manual_seed(0), []
    q = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    state, particles = (
        PhaseState(q=q, p=torch.randn(q.shape, generator=generator, dtype=q.dtype)),
        Particles(masses=torch.ones(2, 4).double()),
    )
    for step in (0.05, 0.025):
        found = rollout(
            Hamiltonian(model),
            state,
            particles,
            step_size=step,
            num_steps=round(1 / step),
            method="leapfrog",
            save_every=round(0.2 / step),
        )
        energy = found.energy
        changes.append(float((energy - energy[:, :1]).abs().max()))
    assert 3.5 < changes[0] / changes[1] < 4.5
    assert float((found.q - q[:, None]).norm()) > 0.1, "nothing moved"


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("options", [{}, {"parity": "none"}, {"dim": 2}, {"cutoff": 2.0, "num_layers": 1}])
def test_displacements_turn_with_positions_and_velocities(make_system, dtype, options):
    model = make(dtype=dtype, cls=SE3TransformerDynamics, **options)
    dim = model.config.dim
    q, particles = make_system(dim, dtype=dtype)
    velocities = torch.randn(q.shape, dtype=dtype)
    name = "SO(3)" if model.equivariant_under == "SE(3)" else f"O({dim})"
    matrix = group(name).random((4,), 3, dtype=torch.float64).to(dtype)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(3):
        found = model(q, velocities, particles)
        moved = model(q @ matrix.mT + 1, velocities @ matrix.mT, particles)
        for one, other in zip(found, moved, strict=True):
            error = float(((other - one @ matrix.mT).abs().max() / one.abs().max()).detach())
            assert error <= TOLERANCE[dtype], f"{error:.1e}"
        optimiser.zero_grad()
        sum((x - 1).square().mean() for x in found).backward()
        optimiser.step()


def test_displacements_depend_on_the_velocities_and_padding_stays(make_system):
    model = make(cls=SE3TransformerDynamics)
    q, particles = make_system(3)
    masked = replace(particles, mask=torch.tensor([True] * 4 + [False]).expand(4, -1))
    still, moving = (model(q, v, masked) for v in (torch.zeros_like(q), torch.ones_like(q)))
    assert not torch.allclose(still[0], moving[0])
    assert all(bool((x[:, 4] == 0).all()) for x in (*still, *moving))


def test_the_preset_has_the_sizes_of_the_paper():
    config = se3_preset("nbody")
    assert (config.num_layers, config.representations, config.width, config.num_heads) == (
        4,
        ("0e", "1e", "2e", "3e"),
        8,
        2,
    )
    small = SE3Transformer.paper("nbody", lmax=1, num_layers=2)
    assert parameter_count(small) > 10_000
    with pytest.raises(ValueError, match="unknown paper preset 'qm8'; choose one of nbody"):
        SE3Transformer.paper("qm8")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dim": 4}, "dim must be 2 or 3"),
        ({"width": 6, "num_heads": 4}, "width 6 is not a multiple of num_heads 4"),
        ({"radial": "bessel"}, "the bessel basis needs a cutoff"),
        ({"kernel": "sparse"}, "unknown kernel 'sparse'; choose one of depthwise, dense"),
        ({"parity": "odd"}, "unknown parity 'odd'"),
        ({"lmax": -1}, "lmax must be at least 0"),
        ({"length_scale": 0.0}, "length_scale must be positive"),
    ],
)
def test_impossible_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        SE3TransformerConfig(**options)


def test_impossible_uses_are_refused():
    with pytest.raises(ValueError, match="give lmax >= 1"):
        SE3TransformerDynamics(SE3TransformerConfig(lmax=0))
    with pytest.raises(ValueError, match="velocity_scale must be positive"):
        SE3TransformerDynamics(SE3TransformerConfig(), velocity_scale=0.0)
    with pytest.raises(ValueError, match="the model is float32, the positions are float64"):
        make(dtype=torch.float32)(torch.zeros(1, 2, 3).double(), Particles(masses=torch.ones(1, 2)))


def test_without_e3nn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "e3nn", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'lie_sim\[se3\]'"):
        SE3Transformer.default()


def test_moments_for_heads_are_bounded_and_turn_with_the_system() -> None:
    torch.manual_seed(0)
    model = SE3Transformer.default(keep_moments=True).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    q, particles = torch.randn(2, 6, 3).double(), Particles(masses=torch.ones(2, 6).double())
    moments = model.features(q, particles).moments
    assert moments is not None
    assert moments.shape == (2, 6, 10, model.config.width)
    for part in moments.split([1, 3, 6], dim=2):
        assert 0.1 < float(part.detach().norm(dim=2).max()) < 1
    away = model.features(q[..., [1, 2, 0]], particles).moments  # x, y, z and the six products, likewise
    assert away is not None
    swapped = moments[:, :, [0, 2, 3, 1, 7, 8, 5, 9, 6, 4]]
    assert float((away - swapped).detach().abs().max()) < 1e-12


def test_velocities_that_do_not_fit_are_refused_and_those_of_padding_do_not_matter(make_system):
    jaxtyping.config.update("jaxtyping_disable", True)  # which would find it in tests alone
    model = make(cls=SE3TransformerDynamics)
    q, particles = make_system(3)
    for wrong in (torch.zeros_like(q)[..., :2], torch.zeros_like(q)[:, :4], torch.zeros_like(q).float()):
        with pytest.raises(ValueError, match="velocities must have the shape and dtype of q"):
            model(q, wrong, particles)
    masked = replace(particles, mask=torch.tensor([True] * 4 + [False]).expand(4, -1))
    velocities = torch.ones_like(q)
    velocities[:, 4] = torch.nan
    for found, expected in zip(
        model(q, velocities, masked), model(q, torch.ones_like(q), masked), strict=True
    ):
        assert torch.equal(found, expected)
