"""FrameLift: the location of a pair is invariant, and with orthonormal frames it is the relative pose."""

from __future__ import annotations

import pytest
import torch

from lie_sim.groups import group
from lie_sim.lifting import FrameLift
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

ROUNDING = 1e-12


def system(dim, count=5):
    q = torch.randn(2, count, dim, dtype=torch.float64)
    particles = Particles(masses=torch.ones(2, count, dtype=torch.float64))
    return q, particles, torch.rand(2, count, 1, dtype=torch.float64)


def lift(dim, **options):
    return FrameLift(dim, num_scalars=1, **options).double()


@pytest.mark.parametrize(
    ("dim", "chirality"), [(1, False), (2, False), (2, True), (3, False), (3, True), (4, False)]
)
def test_every_entry_of_the_location_is_invariant(dim, chirality):
    lifting = lift(dim, num_frames=3, num_moments=2, chirality=chirality)
    q, particles, scalars = system(dim)
    turn = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))[0]
    if chirality and torch.linalg.det(turn) < 0:
        turn = turn * torch.tensor([-1.0] + [1.0] * (dim - 1), dtype=torch.float64)
    before = lifting(q, particles, None, scalars)
    after = lifting(q @ turn.mT + 3.0, particles, None, scalars)
    assert before.location.shape == (2, 5, 5, lifting.location_dim)
    assert float((before.location - after.location).detach().abs().max()) < ROUNDING
    if dim > 1:  # no entry is constant; on a line the traceless moments are 0
        assert float(before.location.detach().std(dim=(0, 1, 2)).min()) > 0


@pytest.mark.parametrize("dim", [2, 3])
def test_mirrors_change_the_pseudo_scalars_only(dim):
    lifting = lift(dim, num_frames=2, num_moments=1, chirality=True)
    q, particles, scalars = system(dim)
    before = lifting(q, particles, None, scalars).location.detach()
    after = lifting(
        -q if dim == 3 else q * torch.tensor([1.0, -1.0]), particles, None, scalars
    ).location.detach()
    first = lifting.radial.size + 2 * 2 + 2 * 2
    pseudo = slice(first, first + 2)
    assert torch.allclose(after[..., pseudo], -before[..., pseudo], rtol=0, atol=ROUNDING)
    kept = [i for i in range(lifting.location_dim) if not first <= i < first + 2]
    assert torch.allclose(after[..., kept], before[..., kept], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("dim", [2, 3])
def test_orthonormal_frames_give_the_relative_pose(dim):
    """With A_i = R_iᵀ the entries A_i r̂ and A_i A_jᵀ are the two blocks of u_i⁻¹ u_j."""
    q = system(dim)[0]
    rotation = group(f"SO({dim})").random((2, 5), 0, dtype=torch.float64)
    turn = torch.nn.functional.pad(rotation, (0, 1, 0, 1))
    turn[..., -1, -1] = 1.0
    pose = group(f"SE({dim})")
    elements = pose.compose(pose.section(q), turn)
    relative = pose.relative(elements[:, :, None], elements[:, None])
    r = q[:, None] - q[:, :, None]
    softened = (r.square().sum(-1, keepdim=True) + 1e-2).sqrt()
    unit = r / softened
    large = 1e8 * rotation.mT @ torch.linalg.pinv(unit)  # weights whose vectors are long and orthogonal
    own, other, between = lift(dim, num_frames=dim)._frame_invariants(large.mT, unit, None)
    assert torch.allclose(own * softened, relative[..., :dim, dim], rtol=0, atol=ROUNDING)
    assert torch.allclose(
        -other * softened, relative.mT[:, :, :, dim, :dim].transpose(1, 2), rtol=0, atol=ROUNDING
    )
    assert torch.allclose(between.unflatten(-1, (dim, dim)), relative[..., :dim, :dim], rtol=0, atol=ROUNDING)


def test_a_listed_pair_is_described_as_among_all_pairs():
    lifting = lift(3, num_frames=2, num_moments=1, chirality=True, cutoff=2.0)
    q, particles, scalars = system(3)
    dense = lifting(q, particles, None, scalars)
    neighbours = neighbour_matrix(q, particles, cutoff=2.0)
    listed = lifting(q, particles, neighbours, scalars)
    rows = torch.arange(2)[:, None, None], torch.arange(5)[None, :, None]
    difference = dense.location[*rows, neighbours.index] - listed.location
    assert float(difference[neighbours.mask].detach().abs().max()) < ROUNDING
    assert float((dense.envelope.sum(-1) - listed.envelope.sum(-1)).abs().max()) < ROUNDING
    assert bool((dense.envelope.diagonal(dim1=1, dim2=2) == 0).all())


@pytest.mark.parametrize(("dim", "frames"), [(1, 4), (2, 0), (3, 1), (4, 4)])
def test_chirality_needs_enough_vectors(dim, frames):
    with pytest.raises(ValueError, match=f"chirality needs .* got dim={dim}, num_frames={frames}"):
        FrameLift(dim, num_scalars=1, num_frames=frames, chirality=True)


def test_dimension_and_periodic_cell_are_checked():
    q, particles, scalars = system(3)
    with pytest.raises(ValueError, match="for 2-dimensional positions, got 3"):
        lift(2)(q, particles, None, scalars)
    cell = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    with pytest.raises(ValueError, match="this model has no cutoff: set the cutoff"):
        lift(3)(q, Particles(masses=particles.masses, cell=cell), None, scalars)
