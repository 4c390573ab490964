"""Forces: finite everywhere, equal to finite differences, twice differentiable, equivariant."""

from __future__ import annotations

import math

import pytest
import torch

from lie_sim.groups import group
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

GRADIENT_TOLERANCE = {"eps": 1e-6, "atol": 1e-6, "rtol": 1e-4}  # central differences in float64
FORCE_ROUNDING = 1e-11  # of the largest force

MOMENTS = {"lifting": "moments", "num_moments": 2, "radial": "bessel", "cutoff": 3.0}

MODELS = {
    "frame 2-D": (2, {"num_moments": 1, "chirality": True}),
    "frame 3-D": (3, {"num_moments": 1, "chirality": True}),
    "frame gaussian": (3, {"radial": "gaussian", "cutoff": 3.0, "num_moments": 1}),
    "frame coulomb": (3, {"radial": "coulomb"}),
    "frame softmax": (3, {"normalisation": "softmax", "cutoff": 2.0, "norm": "pre"}),
    "moments 2-D": (2, {"lifting": "moments", "num_moments": 2, "num_layers": 3, "cutoff": 2.0}),
    "moments bessel": (3, MOMENTS),
    "T(2)": (2, {"lifting": "haar", "group": "T(2)"}),
    "T(3)": (3, {"lifting": "haar", "group": "T(3)"}),
    "SO(2)": (2, {"lifting": "haar", "group": "SO(2)", "centre": True}),
    "R>0xSO(2)": (2, {"lifting": "haar", "group": "R>0xSO(2)"}),
    "SE(2)": (2, {"lifting": "haar", "group": "SE(2)", "num_lifts": 2}),
    "SO(3)": (3, {"lifting": "haar", "group": "SO(3)", "num_lifts": 2, "centre": True}),
    "SE(3)": (3, {"lifting": "haar", "group": "SE(3)", "num_lifts": 2, "squash": 7.0}),
    "O(3)": (3, {"lifting": "haar", "group": "O(3)", "num_lifts": 2, "centre": True}),
    "E(3)": (3, {"lifting": "haar", "group": "E(3)", "num_lifts": 2}),
    "C4": (2, {"lifting": "finite", "group": "C4"}),
    "D3": (2, {"lifting": "finite", "group": "D3", "cutoff": 2.0}),
    "T": (3, {"lifting": "finite", "group": "T", "mean_neighbours": 12.0}),
    "O": (3, {"lifting": "finite", "group": "O", "mean_neighbours": 24.0}),
}


def ring(count):
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=-1)


SHAPES = {
    "one particle": torch.zeros(1, 3),
    "all at the origin": torch.zeros(3, 3),
    "two coincident": torch.tensor([[0.0, 0, 0], [1, 0.5, 0.2], [1, 0.5, 0.2]]),
    "collinear": torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]]),
    "square": ring(4),
    "tetrahedron": torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
    "octahedron": torch.cat([torch.eye(3), -torch.eye(3)]),
    "benzene": torch.cat([1.4 * ring(6), 2.5 * ring(6)]),
}


def identical(count, dtype):
    return Particles(masses=torch.ones(1, count, dtype=dtype))


def stacked(names, dim, dtype):
    """The named shapes as one padded batch of identical particles."""
    count = max(len(SHAPES[name]) for name in names)
    q = torch.zeros(len(names), count, dim, dtype=dtype)
    mask = torch.zeros(len(names), count, dtype=torch.bool)
    for row, name in enumerate(names):
        shape = SHAPES[name][:, :dim].to(dtype)
        q[row, : len(shape)], mask[row, : len(shape)] = shape, True
    return q, Particles(masses=torch.ones(len(names), count, dtype=dtype), mask=mask)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", MODELS)
def test_forces_and_their_gradients_are_finite(make_model, make_system, forces_of, case, dtype):
    dim, options = MODELS[case]
    model = make_model(dim=dim, dtype=dtype, **options)
    q, particles = make_system(dim, dtype=dtype)
    small = case in ("T", "O")  # many lifts
    names = [name for name in SHAPES if not (small and name in ("octahedron", "benzene"))]
    one = SHAPES["one particle"][None, :, :dim].to(dtype), identical(1, dtype)
    for positions, known in ((q, particles), stacked(names, dim, dtype), one):
        forces = forces_of(model, positions, known)
        assert forces.dtype == dtype
        assert bool(forces.isfinite().all())
        second = torch.autograd.grad(forces.square().sum(), list(model.parameters()), allow_unused=True)
        assert all(bool(g.isfinite().all()) for g in second if g is not None)


@pytest.mark.parametrize(
    "shape", ["random", "two coincident", "all at the origin", "collinear", "tetrahedron"]
)
@pytest.mark.parametrize(
    "options",
    [{"num_moments": 1, "chirality": True}, {"radial": "coulomb", "softening": 0.2, "cutoff": 3.0}, MOMENTS],
)
def test_energy_and_force_are_differentiated_correctly(make_model, make_system, options, shape):
    model = make_model(dim=3, num_layers=1, **options)
    q = make_system(3, batch=1, count=3)[0] if shape == "random" else SHAPES[shape].double()[None]
    particles = identical(q.shape[1], q.dtype)
    q = q.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: model.energy(x, particles), (q,), **GRADIENT_TOLERANCE)
    assert torch.autograd.gradgradcheck(
        lambda x: model.energy(x, particles), (q,), fast_mode=True, **GRADIENT_TOLERANCE
    )


@pytest.mark.parametrize(
    "case", ["SO(2)", "SE(2)", "SO(3)", "SE(3)", "O(3)", "E(3)", "C4", "D3", "frame gaussian"]
)
def test_forces_are_finite_differences_of_the_energy(make_model, make_system, forces_of, case):
    dim, options = MODELS[case]
    model = make_model(dim=dim, noise=0.1, **options)
    q, particles = make_system(dim, batch=2, count=3)
    forces = forces_of(model, q, particles).detach()
    step = 1e-5
    for axis in range(dim):
        for particle in range(3):
            shift = torch.zeros_like(q)
            shift[:, particle, axis] = step
            with torch.no_grad():
                slope = (model.energy(q + shift, particles) - model.energy(q - shift, particles)) / (2 * step)
            error = float((forces[:, particle, axis] + slope).abs().max() / forces.abs().max())
            assert error < 1e-7, f"relative error {error:.1e} of the force, step {step}"


@pytest.mark.parametrize(("dim", "chirality"), [(2, False), (3, False), (3, True)])
def test_forces_turn_with_the_system(make_model, make_system, forces_of, dim, chirality):
    model = make_model(dim=dim, num_moments=1, chirality=chirality)
    q, particles = make_system(dim)
    rotation = group(f"SO({dim})" if chirality else f"O({dim})").random((4,), 3, dtype=q.dtype).mT
    forces = forces_of(model, q, particles)
    turned = forces_of(model, q @ rotation + 5.0, particles)
    error = float((turned - forces @ rotation).detach().abs().max() / forces.detach().abs().max())
    assert error < FORCE_ROUNDING


@pytest.mark.parametrize("options", [{"num_moments": 1}, MOMENTS])
def test_internal_forces_cancel(make_model, make_system, forces_of, options):
    q, particles = make_system(3)
    forces = forces_of(make_model(dim=3, **options), q, particles).detach()
    torque = torch.linalg.cross(q, forces).sum(1)
    largest = float(forces.abs().max())
    assert float(forces.sum(1).abs().max()) < FORCE_ROUNDING * largest
    assert float(torque.abs().max()) < FORCE_ROUNDING * largest


@pytest.mark.parametrize("options", [{"num_moments": 1}, MOMENTS])
def test_force_on_a_site_of_inversion_symmetry_is_zero(make_model, forces_of, options):
    q = torch.cat([torch.zeros(1, 3), torch.eye(3), -torch.eye(3)]).double()[None]
    forces = forces_of(make_model(dim=3, **options), q, identical(7, q.dtype)).detach()
    assert float(forces[0, 0].abs().max()) < FORCE_ROUNDING * float(forces.abs().max())
    assert float(forces.abs().max()) > 1e-3


@pytest.mark.parametrize("options", [{"num_moments": 1, "chirality": True}, MOMENTS])
def test_forces_do_not_depend_on_how_the_pairs_are_listed(make_model, make_system, forces_of, options):
    model = make_model(dim=3, **{**options, "cutoff": 2.0})
    q, particles = make_system(3)
    listed = forces_of(model, q, particles, neighbour_matrix(q, particles, cutoff=2.0))
    wider = forces_of(model, q, particles, neighbour_matrix(q, particles, cutoff=2.7))
    everything = forces_of(model, q, particles)
    scale = float(everything.detach().abs().max())
    assert float((listed - everything).detach().abs().max()) < FORCE_ROUNDING * scale
    assert float((wider - everything).detach().abs().max()) < FORCE_ROUNDING * scale
