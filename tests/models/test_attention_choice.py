"""Full, local and induced attention: the same symmetries, any N, memory that grows as it should, clear refusals."""

from __future__ import annotations

from dataclasses import asdict, replace
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lie_sim.checkpoint import load_model, save_model
from lie_sim.groups import random_transform
from lie_sim.models import LieTransformer, LieTransformerConfig, SE3Transformer, SE3TransformerConfig
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

ROUNDING = 1e-12  # of the energies, float64
STEP = 1e-5  # of central differences
DIFFERENCE_TOLERANCE = 1e-7  # of the largest force: STEP² and rounding
CUTOFF = 1.5
LIFTINGS = {
    "frame": {"radial": "coulomb", "softening": 0.2},
    "chiral": {"chirality": True, "num_moments": 1},
    "weighed": {"source_weight": "masses", "readout_weight": "masses", "length_scale": 2.0},
    "moments": {"lifting": "moments", "num_moments": 2, "radial": "bessel"},
    "finite": {"lifting": "finite", "group": "D3", "mean_neighbours": 6.0},
    "post norm": {"norm": "post"},
}


@pytest.fixture
def make_induced(make_model):
    def make(dim=2, **options):
        known = {"attention": "induced", "cutoff": CUTOFF, "num_landmarks": 3, "noise": 0.2}
        return make_model(dim=dim, **{**known, **options})

    return make


def assert_same(one, other):
    error = float((one - other).detach().abs().max() / other.detach().abs().max().clamp(min=1))
    assert error <= ROUNDING, f"relative difference {error:.1e} > {ROUNDING:.0e}"


@pytest.mark.parametrize("case", LIFTINGS)
def test_group_elements_and_permutations_leave_the_energy(make_induced, make_system, case):
    model = make_induced(**LIFTINGS[case])
    q, particles = make_system(2, count=9)
    energy = model.energy(q, particles)
    assert_same(model.energy(random_transform(model.equivariant_under, q, 3), particles), energy)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert_same(model.energy(q[:, order], Particles(masses=particles.masses[:, order])), energy)
    assert float(energy.detach().std()) > 1e-3  # and yet it sees where they are


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12), padding=st.integers(1, 5))
def test_padding_changes_nothing_for_any_number_of_particles(seed, count, padding):
    torch.manual_seed(seed)
    model = LieTransformer.default(attention="induced", cutoff=CUTOFF, width=8, num_heads=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    q = torch.randn(2, count + padding, 2, dtype=torch.float64)
    masses = 0.5 + torch.rand(2, count + padding, dtype=torch.float64)
    padded = Particles(masses=masses, mask=(torch.arange(count + padding) < count).expand(2, -1))
    alone = model(q[:, :count], Particles(masses=masses[:, :count]))
    found = model(q, padded)
    assert_same(found[:, :count], alone)
    assert not found[:, count:].any()


def test_a_system_of_padding_alone_is_finite(make_induced, forces_of):
    q = torch.zeros(1, 3, 2, dtype=torch.float64)
    nobody = Particles(masses=torch.ones_like(q[..., 0]), mask=torch.zeros(1, 3, dtype=torch.bool))
    assert not forces_of(make_induced(), q, nobody).any()


@pytest.mark.parametrize("case", ["frame", "moments"])
def test_forces_are_finite_differences(make_induced, make_system, forces_of, case):
    model = make_induced(**LIFTINGS[case])
    q, particles = make_system(2, batch=1, count=6)
    forces = forces_of(model, q, particles).detach()
    moves = STEP * torch.eye(q.numel(), dtype=q.dtype).reshape(-1, *q.shape[1:])
    many = Particles(masses=particles.masses.expand(len(moves), -1))
    with torch.no_grad():
        slope = (model.energy(q + moves, many) - model.energy(q - moves, many)) / (2 * STEP)
    error = float((slope.reshape(q.shape) + forces).abs().max() / forces.abs().max())
    assert error <= DIFFERENCE_TOLERANCE


def test_forces_are_differentiated_correctly(make_induced, make_system):
    model = make_induced(num_layers=1)
    q, particles = make_system(2, batch=1, count=4)
    assert torch.autograd.gradgradcheck(
        lambda x: model.energy(x, particles), (q.requires_grad_(),), fast_mode=True, atol=1e-6, rtol=1e-4
    )


def test_the_force_is_continuous_where_a_particle_leaves_the_cutoff(make_induced, forces_of):
    model = make_induced()
    gaps = CUTOFF + torch.tensor([-1e-6, 1e-6, -1e-3], dtype=torch.float64)
    q = torch.zeros(3, 3, 2, dtype=torch.float64)
    q[:, 1, 0], q[:, 2, 0] = gaps, -0.7
    forces = forces_of(model, q, Particles(masses=torch.ones(3, 3, dtype=torch.float64))).detach()
    across, along = (forces[0] - forces[1]).abs().max(), (forces[0] - forces[2]).abs().max()
    assert float(across) <= 1e-2 * float(along)  # as for a function with a slope: 2e-6 against 1e-3


def test_coincident_and_symmetric_particles_have_finite_second_derivatives(make_induced, forces_of):
    model = make_induced()
    square = [[1.0, 1], [1, -1], [-1, 1], [-1, -1]]
    q = torch.tensor([square, 4 * [[0.0, 0.0]]], dtype=torch.float64)
    forces = forces_of(model, q, Particles(masses=torch.ones(2, 4, dtype=torch.float64)))
    second = torch.autograd.grad(forces.square().sum(), list(model.parameters()), allow_unused=True)
    assert all(bool(g.isfinite().all()) for g in [forces, *second] if g is not None)


@pytest.mark.parametrize("lifting", ["frame", "moments", "finite"])
def test_local_attention_is_full_attention_with_a_cutoff(make_model, make_system, lifting):
    options = {"dim": 2, "cutoff": CUTOFF, **LIFTINGS[lifting]}
    full = make_model(**options)
    local = LieTransformer(replace(full.config, attention="local")).double()
    local.load_state_dict(full.state_dict())
    q, particles = make_system(2, count=8)
    assert_same(local.energy(q, particles), full.energy(q, particles))


def test_induced_attention_sees_beyond_the_cutoff(make_model, make_induced, forces_of):
    q = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [9.0, 0.3]]], dtype=torch.float64)
    three = Particles(masses=torch.ones(1, 3, dtype=torch.float64))
    local = forces_of(make_model(dim=2, attention="local", cutoff=CUTOFF), q, three)
    assert not local[0, 2].any()
    assert float(forces_of(make_induced(), q, three)[0, 2].detach().norm()) > 1e-4


class _Largest(TorchDispatchMode):
    """Counts the numbers of the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return made


@pytest.mark.parametrize(("attention", "growth"), [("full", 4.0), ("local", 2.0), ("induced", 2.0)])
def test_memory_grows_as_it_should(make_model, forces_of, attention, growth):
    model = make_model(dim=1, attention=attention, cutoff=0.0 if attention == "full" else CUTOFF)
    largest = []
    for count in (80, 160):
        chain = torch.arange(count, dtype=torch.float64)[None, :, None]
        with _Largest() as counter:
            forces_of(model, chain, Particles(masses=torch.ones(1, count, dtype=torch.float64)))
        largest.append(counter.numel)
    assert largest[1] / largest[0] == pytest.approx(growth, rel=0.01)


def test_a_list_with_a_skin_gives_the_same_energy(make_induced, make_system):
    model = make_induced()
    q, particles = make_system(2, count=9)
    wide = neighbour_matrix(q, particles, cutoff=2 * CUTOFF)
    assert_same(model.energy(q, particles, wide), model.energy(q, particles))


def test_a_checkpoint_keeps_the_choice_and_old_ones_have_full_attention(make_induced, make_system, tmp_path):
    model = make_induced()
    q, particles = make_system(2)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    assert torch.equal(loaded.double().energy(q, particles), model.energy(q, particles))
    old = {k: v for k, v in asdict(LieTransformerConfig()).items() if k not in ("attention", "num_landmarks")}
    assert LieTransformerConfig(**old).attention == "full"


def test_landmarks_in_a_periodic_cell_are_refused(make_induced, make_model, make_system):
    q, particles = make_system(2)
    crystal = replace(particles, cell=4 * torch.eye(2, dtype=q.dtype).expand(len(q), 2, 2))
    with pytest.raises(ValueError, match="periodic cell does not have: use attention='local'"):
        make_induced().energy(q, crystal)
    assert make_model(dim=2, attention="local", cutoff=CUTOFF).energy(q, crystal).isfinite().all()


def test_positions_that_are_not_finite_are_refused(make_induced, make_system):
    q, particles = make_system(2)
    q[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="among finite positions"):
        make_induced().energy(q, particles)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "linformer"}, "exchanging two of them would change the energy.*attention='induced'"),
        ({"attention": "sparse"}, "unknown attention 'sparse'; choose one of full, local, induced"),
        ({"attention": "local"}, "give cutoff > 0"),
        ({"attention": "induced"}, "give cutoff > 0"),
        ({"attention": "induced", "cutoff": 1.0, "num_landmarks": 0}, "num_landmarks must be at least 1"),
        ({"num_landmarks": 4}, "num_landmarks is for attention='induced'"),
        ({"attention": "local", "cutoff": 1.0, "lifting": "haar", "group": "T(2)"}, "describes all pairs"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LieTransformerConfig(**options)


def se3(seed=0, **options):
    """With weights that do not vanish."""
    pytest.importorskip("e3nn", reason="e3nn is not installed: pip install 'lie_sim[se3]'")
    torch.manual_seed(seed)
    model = SE3Transformer.default(**{"width": 8, "cutoff": CUTOFF, "kernel_hidden": 8, **options}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("attention", ["local", "induced"])
def test_an_se3_transformer_has_the_same_choice(make_system, attention, dim):
    model = se3(attention=attention, dim=dim, length_scale=2.0)
    q, particles = make_system(dim, count=9)
    energy = model.energy(q, particles)
    assert_same(model.energy(random_transform(f"E({dim})", q, 3), particles), energy)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert_same(model.energy(q[:, order], Particles(masses=particles.masses[:, order])), energy)
    padded = Particles(
        masses=torch.nn.functional.pad(particles.masses, (2, 0), value=1.0),
        mask=(torch.arange(11) > 1).expand(len(q), -1),
    )
    assert_same(model.energy(torch.nn.functional.pad(q, (0, 0, 2, 0)), padded), energy)
    found = load_model_again(model)
    assert_same(found.energy(q, particles), energy)


def load_model_again(model):
    with TemporaryDirectory() as folder:
        save_model(model, folder)
        return load_model(folder)


def test_local_attention_of_an_se3_transformer_is_full_attention_with_a_cutoff(make_system):
    full = se3(attention="full")
    local = SE3Transformer(replace(full.config, attention="local")).double()
    local.load_state_dict(full.state_dict())
    q, particles = make_system(3, count=8)
    assert_same(local.energy(q, particles), full.energy(q, particles))
    q, many = torch.rand(1, 600, 3).double() * 12, Particles(masses=torch.ones(1, 600).double())
    sizes = {}
    for name, model in {"full": full, "local": local}.items():
        with _Largest() as largest, torch.no_grad():
            model.energy(q, many)
        sizes[name] = largest.numel
    assert sizes["local"] < sizes["full"] / 4


def test_landmarks_of_an_se3_transformer_see_beyond_the_cutoff_and_refuse_cells(forces_of):
    q = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0], [9.0, 0.3, 0]]], dtype=torch.float64)
    three = Particles(masses=torch.ones(1, 3, dtype=torch.float64))
    assert not forces_of(se3(attention="local"), q, three)[0, 2].any()
    model = se3(attention="induced")
    assert float(forces_of(model, q, three)[0, 2].detach().norm()) > 1e-4
    assert model.needs_open_space
    box = replace(three, cell=9 * torch.eye(3).double()[None], pbc=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="landmarks"):
        model(q, box)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attention": "linformer"}, "is refused on particles"),
        ({"attention": "some"}, "unknown attention 'some'; choose one of full, local, induced"),
        (
            {"attention": "local", "cutoff": 0.0},
            "attends to the particles within the cutoff: give cutoff > 0",
        ),
        ({"num_landmarks": 4}, "num_landmarks is for attention='induced'"),
    ],
)
def test_impossible_choices_of_an_se3_transformer_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        SE3TransformerConfig(**options)


@pytest.mark.parametrize("attention", ["local", "induced"])
def test_transformations_and_half_precision_find_their_pairs(make_model, make_system, attention):
    options = {"attention": attention, "cutoff": CUTOFF}
    q, particles = make_system(2, batch=1, count=6)
    model = make_model(dim=2, **options)
    slope = torch.func.grad(lambda x: model.energy(x, particles).sum())(q)
    (expected,) = torch.autograd.grad(model.energy(q.requires_grad_(), particles).sum(), q)
    assert_same(slope, expected)
    halved = model.to(torch.bfloat16).energy(q.detach().bfloat16(), particles.to(torch.bfloat16))
    assert halved.isfinite().all()
