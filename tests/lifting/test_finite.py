"""FiniteLift against the group T(n) ⋊ K itself."""

from __future__ import annotations

import pytest
import torch

from lie_sim.groups import group
from lie_sim.lifting import FiniteLift
from lie_sim.neighbors import NeighbourMatrix, neighbour_matrix
from lie_sim.state import Particles

ROUNDING = 1e-12
GROUPS = ((2, "C1"), (2, "C3"), (2, "D4"), (3, "T"), (3, "O"))


def system(dim, count=3):
    q = torch.randn(2, count, dim, dtype=torch.float64)
    return q, Particles(masses=torch.ones(2, count, dtype=torch.float64)), q.new_zeros(2, count, 0)


@pytest.mark.parametrize(("dim", "name"), GROUPS)
def test_location_is_the_relative_pose_of_all_lifts(dim, name):
    lifting, whole = FiniteLift(group(name)), group(f"T({dim})x{name}")
    q, particles, scalars = system(dim)
    stabiliser = whole.stabiliser_elements(dtype=q.dtype)
    lifts = whole.compose(whole.section(q)[:, :, None], stabiliser).flatten(1, 2)
    expected = whole.relative_pose(lifts[:, :, None], lifts[:, None], "matrix")
    pairs = lifting(q, particles, None, scalars)
    assert pairs.num_lifts == lifting.num_lifts == group(name).order
    assert float((pairs.location - expected).abs().max()) < ROUNDING
    assert bool((pairs.envelope == 1).all())


@pytest.mark.parametrize(("dim", "name"), GROUPS)
def test_index_code_numbers_the_relative_rotation(dim, name):
    finite = group(name)
    q, particles, scalars = system(dim)
    location = FiniteLift(finite, code="index")(q, particles, None, scalars).location
    matrices = FiniteLift(finite)(q, particles, None, scalars).location[..., dim:].unflatten(-1, (dim, dim))
    assert torch.equal(location[..., -1].long(), finite.index_of(matrices))


def test_a_group_element_only_permutes_the_lifts():
    lifting = FiniteLift(group("D3"))
    q, particles, scalars = system(2)
    element = group("D3").elements(dtype=q.dtype)[4]
    before = lifting(q, particles, None, scalars).location
    after = lifting(q @ element.mT, particles, None, scalars).location
    table = group("D3").multiplication_table()[4]  # lift k of the turned system is lift g⁻¹k of the first
    order = torch.arange(3)[:, None] * 6 + table
    assert torch.allclose(after[:, order.flatten()][:, :, order.flatten()], before, rtol=0, atol=ROUNDING)


def test_listed_pairs_include_the_lifts_of_the_particle_itself():
    lifting = FiniteLift(group("C4"), cutoff=1.5)
    q, particles, scalars = system(2)
    dense = lifting(q, particles, None, scalars)
    listed = lifting(q, particles, neighbour_matrix(q, particles, cutoff=1.5), scalars)
    total = torch.zeros_like(dense.envelope).scatter_add(-1, listed.index, listed.envelope)
    assert float((total - dense.envelope).abs().max()) < ROUNDING
    rows = torch.arange(2)[:, None, None], torch.arange(12)[None, :, None]
    difference = (dense.location[*rows, listed.index] - listed.location)[listed.envelope > 0]
    assert float(difference.abs().max()) < ROUNDING


def test_own_pair_is_not_shifted_by_the_cell():
    q, particles, scalars = system(2, count=1)
    periodic = Particles(masses=particles.masses, cell=torch.eye(2, dtype=q.dtype).expand(2, 2, 2))
    neighbours = neighbour_matrix(q, periodic, cutoff=1.2)
    assert isinstance(neighbours, NeighbourMatrix)
    pairs = FiniteLift(group("C1"), cutoff=1.2)(q, periodic, neighbours, scalars)
    lengths = pairs.location[..., :2].norm(dim=-1)
    assert torch.allclose(lengths[:, 0], torch.tensor([0.0, 1, 1, 1, 1], dtype=q.dtype), atol=ROUNDING)


def test_wrong_groups_and_codes_are_refused():
    with pytest.raises(ValueError, match=r"needs a finite group such as .* got SE\(2\)"):
        FiniteLift(group("SE(2)"))
    with pytest.raises(ValueError, match="code must be 'matrix' or 'index', got 'one_hot'"):
        FiniteLift(group("C4"), code="one_hot")
