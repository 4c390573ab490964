"""Pair lists against ASE's and the one in plain PyTorch; the skin against a search at every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.neighborlist import primitive_neighbor_list

import lie_sim.pairs
from lie_sim.neighbors import neighbour_matrix
from lie_sim.pairs import SkinnedPairs, find_pairs, neighbour_matrix_of, open_neighbour_matrix
from lie_sim.state import Particles

ROUND_OFF = 1e-12
TRICLINIC = np.array([[4.0, 0.3, 0.0], [1.1, 3.7, 0.2], [-0.6, 0.8, 5.1]])
OPEN = np.zeros((3, 3))


def scattered(count: int, seed: int = 0) -> np.ndarray:
    """Points also outside of the cell."""
    return np.random.default_rng(seed).uniform(-6, 9, (count, 3))


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("cutoff", [1.5, 6.0])
def test_pairs_are_those_of_ase(cutoff: float, pbc: tuple[int, int, int]) -> None:
    x, pbc = scattered(12), np.array(pbc, bool)
    found = find_pairs(x, TRICLINIC, pbc, cutoff)
    i, j, vectors = primitive_neighbor_list("ijD", pbc, TRICLINIC, x, cutoff)

    def ordered(i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        rows = np.column_stack([i, j, vectors.round(9) + 0.0])
        return rows[np.lexsort(rows.T[::-1])]

    assert len(found.i) == len(i)
    assert np.allclose(ordered(found.i, found.j, found.vectors), ordered(i, j, vectors), atol=1e-8)
    rebuilt = x[found.j] + found.images @ TRICLINIC - x[found.i]
    assert np.abs(rebuilt - found.vectors).max(initial=0) < ROUND_OFF


def test_neighbour_matrix_is_that_of_the_search_in_pytorch() -> None:
    x, pbc = scattered(9), np.array([True, True, False])
    q = torch.from_numpy(x)[None]
    cell, periodic = torch.from_numpy(TRICLINIC)[None], torch.from_numpy(pbc)[None]
    particles = Particles(masses=torch.ones(1, 9, dtype=torch.float64), cell=cell, pbc=periodic)
    slow = neighbour_matrix(q, particles, cutoff=4.0)
    fast = neighbour_matrix_of(
        [find_pairs(x, TRICLINIC, pbc, 4.0)], [9], [TRICLINIC], cutoff=4.0, dtype=torch.float64
    )
    for matrix in (slow, fast):
        assert matrix.shift is not None
    for row in range(9):
        sets = []
        for matrix in (slow, fast):
            there = matrix.mask[0, row]
            vectors = q[0, matrix.index[0, row]] + matrix.shift[0, row] - q[0, row]
            sets.append(sorted(map(tuple, vectors[there].numpy().round(9).tolist())))
        assert np.allclose(sets[0], sets[1], atol=1e-8)


def test_systems_of_different_size_share_a_matrix() -> None:
    molecules = [molecule("H2O"), molecule("CH3CH2OH"), molecule("H")]
    found = [find_pairs(m.positions, OPEN, m.pbc, 5.0) for m in molecules]
    matrix = neighbour_matrix_of(
        found, [len(m) for m in molecules], [OPEN] * 3, cutoff=5.0, dtype=torch.float32
    )
    assert matrix.index.shape == (3, 9, 8)
    assert matrix.mask.sum((1, 2)).tolist() == [6, 72, 0]


def test_skin_finds_the_same_pairs_as_a_search_at_every_step_and_rarely_searches() -> None:
    crystal = bulk("Cu", cubic=True) * (3, 2, 2)
    random, skinned = np.random.default_rng(0), SkinnedPairs(4.0, skin=0.6)
    x, box, pbc = crystal.positions.copy(), np.asarray(crystal.cell), np.array([True, True, True])
    drift = np.array([0.05, 0.02, -0.03])
    for step in range(60):
        x = x + drift + 0.01 * random.standard_normal(x.shape)
        wrapped = x if step % 3 else (np.linalg.solve(box.T, x.T).T % 1.0) @ box
        unwrapped, found = skinned.find(wrapped, box, pbc)
        exact = find_pairs(unwrapped, box, pbc, 4.0)
        assert (found.i == exact.i).all()
        assert (found.j == exact.j).all()
        assert (found.images == exact.images).all()
    assert skinned.searches < 20, skinned.searches


def test_skin_searches_again_when_something_else_changes() -> None:
    x, pbc, skinned = scattered(8), np.array([True, True, True]), SkinnedPairs(3.0, skin=1.0)
    skinned.find(x, TRICLINIC, pbc)
    skinned.find(x + 0.1, TRICLINIC, pbc)
    assert skinned.searches == 1
    for positions, cell, periodic in (
        (x, 1.01 * TRICLINIC, pbc),
        (x, 1.01 * TRICLINIC, ~pbc),
        (x[:5], 1.01 * TRICLINIC, ~pbc),
        (x[:5] + np.eye(3)[0], 1.01 * TRICLINIC, ~pbc),
    ):
        before = skinned.searches
        skinned.find(positions, cell, periodic)
        assert skinned.searches == before + 1


def test_what_is_wrong_is_named_and_nothing_is_no_error() -> None:
    assert len(find_pairs(np.zeros((0, 3)), OPEN, np.zeros(3, bool), 5.0).i) == 0
    assert len(find_pairs(np.zeros((1, 3)), OPEN, np.zeros(3, bool), 5.0).i) == 0
    with pytest.raises(ValueError, match="cutoff must be a positive length"):
        find_pairs(scattered(3), OPEN, np.zeros(3, bool), 0.0)
    with pytest.raises(ValueError, match="do not span them"):
        find_pairs(scattered(3), OPEN, np.ones(3, bool), 1.0)
    with pytest.raises(ValueError, match="skin must be a length"):
        SkinnedPairs(1.0, skin=-1.0)


def test_a_search_within_a_search_leaves_a_list_that_fits_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As two threads may: the second system is looked up while the first is searched."""
    near, far = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 0, 0], [9, 0, 0]])
    box, pbc = np.zeros((3, 3)), np.zeros(3, bool)
    pairs, search = SkinnedPairs(1.5, skin=0.5), lie_sim.pairs.find_pairs

    def interrupted(positions: np.ndarray, *others):
        if positions is far:
            pairs.find(near, box, pbc)
        return search(positions, *others)

    monkeypatch.setattr(lie_sim.pairs, "find_pairs", interrupted)
    for x, count in ((far, 0), (near, 2), (far, 0)):
        assert len(pairs.find(x, box, pbc)[1].i) == count


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_open_lists_are_those_of_the_plain_search(dim):
    torch.manual_seed(0)
    q = torch.rand(3, 12, dim, dtype=torch.float64)
    mask = torch.rand(3, 12) < 0.8
    known = Particles(masses=torch.ones(3, 12, dtype=torch.float64), mask=mask)
    plain, found = neighbour_matrix(q, known, cutoff=0.4), open_neighbour_matrix(q, mask, cutoff=0.4)
    assert torch.equal(found.mask.sum(-1), plain.mask.sum(-1))
    for matrix in (plain, found):
        matrix.index.masked_fill_(~matrix.mask, 99)
    assert torch.equal(found.index.sort(-1).values, plain.index.sort(-1).values)


def test_open_lists_have_three_dimensions_at_most():
    with pytest.raises(ValueError, match="at most 3 dimensions"):
        open_neighbour_matrix(torch.zeros(1, 2, 4), None, cutoff=1.0)
