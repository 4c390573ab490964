"""Neighbour matrices against a brute-force search and against ASE."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.data import Trajectories
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import LieTransformer
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles
from lie_sim.training import TrainingConfig, dynamics_task, train

ROUNDING = 1e-9
SKEW = {
    1: np.array([[2.0]]),
    2: np.array([[2.2, 0.0], [1.3, 1.9]]),
    3: np.array([[2.5, 0.0, 0.0], [1.1, 2.3, 0.0], [-0.9, 0.8, 2.1]]),
}


def brute_force(q, cell, pbc, cutoff, reach=6):
    """All (i, j, r) with |r| < cutoff, images within ``reach`` cells, without wrapping anything."""
    ranges = [range(-reach, reach + 1) if periodic else range(1) for periodic in pbc]
    found = []
    for i, j in itertools.product(range(len(q)), repeat=2):
        for image in itertools.product(*ranges):
            r = q[j] + np.array(image) @ cell - q[i]
            if (i != j or any(image)) and np.linalg.norm(r) < cutoff:
                found.append((i, j, *np.round(r, 6)))
    return sorted(found)


def listed(q, neighbours, system=0):
    """The same from a neighbour matrix."""
    found = []
    for i, row in enumerate(neighbours.index[system].tolist()):
        for k, j in enumerate(row):
            if neighbours.mask[system, i, k]:
                shift = 0 if neighbours.shift is None else neighbours.shift[system, i, k].numpy()
                found.append((i, j, *np.round(q[j] + shift - q[i], 6)))
    return sorted(found)


def particles_in(cell, pbc, count, batch=1):
    return Particles(
        masses=torch.ones(batch, count, dtype=torch.float64),
        cell=torch.tensor(cell, dtype=torch.float64).expand(batch, -1, -1),
        pbc=torch.tensor([pbc]).expand(batch, -1),
    )


def random_positions(count, dim, seed=0, width=4.0):
    return np.random.default_rng(seed).uniform(-width, width, (count, dim))


def find(q, particles, **options):
    return neighbour_matrix(torch.tensor(q)[None], particles, **options)


def equal(found, expected):
    assert len(found) == len(expected)
    return np.allclose(np.array(found), np.array(expected), atol=2e-6)


@pytest.mark.parametrize("cutoff", [0.9, 2.5, 4.7])  # the last is about twice the cell
@pytest.mark.parametrize(
    "pbc",
    [pbc for dim in (1, 2, 3) for pbc in itertools.product([False, True], repeat=dim)],
    ids=lambda pbc: "".join("FT"[periodic] for periodic in pbc),
)
def test_periodic_search_is_exact(pbc, cutoff):
    dim = len(pbc)
    q = random_positions(3, dim, width=2.5)
    reach = 8 if dim < 3 else 5
    neighbours = find(q, particles_in(SKEW[dim], list(pbc), 3), cutoff=cutoff)
    expected = brute_force(q, SKEW[dim], pbc, cutoff, reach)
    assert equal(listed(q, neighbours), expected) if expected else not neighbours.mask.any()


@pytest.mark.parametrize("cutoff", [1.5, 3.0, 6.0])
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, True)])
def test_same_pairs_as_ase(pbc, cutoff):
    q = random_positions(4, 3, seed=1)
    neighbours = find(q, particles_in(SKEW[3], list(pbc), 4), cutoff=cutoff)
    i, j, r = neighbor_list("ijD", Atoms(positions=q, cell=SKEW[3], pbc=pbc), cutoff)
    expected = sorted((a, b, *np.round(c, 6)) for a, b, c in zip(i.tolist(), j.tolist(), r, strict=True))
    assert equal(listed(q, neighbours), expected)


@given(seed=st.integers(0, 1000), dim=st.integers(1, 3), count=st.integers(1, 6), cutoff=st.floats(0.2, 5.0))
def test_open_search_is_exact(seed, dim, count, cutoff):
    q = random_positions(count, dim, seed=seed, width=2.0)
    neighbours = find(q, Particles(masses=torch.ones(1, count)), cutoff=cutoff)
    assert neighbours.shift is None
    distance = np.linalg.norm(q[:, None] - q[None], axis=-1)
    near = (distance < cutoff) & ~np.eye(count, dtype=bool)
    assert neighbours.index.shape[-1] == max(1, near.sum(1).max())
    for i in range(count):
        expected = [j for j in np.argsort(distance[i], kind="stable") if near[i, j]]
        assert neighbours.index[0, i][neighbours.mask[0, i]].tolist() == expected


def test_cells_without_vectors_in_open_directions():
    q = random_positions(4, 3, width=2.0)
    slab, full = SKEW[3].copy(), SKEW[3].copy()
    slab[2] = 0.0
    full[2] = [0.0, 0.0, 50.0]
    pbc = [True, True, False]
    assert equal(
        listed(q, find(q, particles_in(slab, pbc, 4), cutoff=2.5)),
        listed(q, find(q, particles_in(full, pbc, 4), cutoff=2.5)),
    )
    nothing = find(q, particles_in(np.zeros((3, 3)), [False] * 3, 4), cutoff=2.5)
    free = find(q, Particles(masses=torch.ones(1, 4)), cutoff=2.5)
    assert torch.equal(nothing.index[nothing.mask], free.index[free.mask])


def test_one_batch_of_different_cells():
    q = np.stack([random_positions(3, 2, seed=seed) for seed in range(3)])
    cells = np.stack([SKEW[2], 3 * np.eye(2), np.zeros((2, 2))])
    pbc = np.array([[True, True], [True, False], [False, False]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    particles = Particles(masses=torch.ones(3, 3), cell=torch.tensor(cells), pbc=torch.tensor(pbc), mask=mask)
    together = neighbour_matrix(torch.tensor(q), particles, cutoff=2.6)
    assert bool((together.shift[~together.mask] == 0).all())
    for system in range(3):
        real = mask[system].numpy()
        expected = brute_force(q[system][real], cells[system], pbc[system], 2.6)
        assert equal(listed(q[system], together, system), expected) if expected else True


def test_missing_pbc_means_periodic_everywhere():
    q = random_positions(3, 2)
    cell = torch.tensor(SKEW[2])[None]
    found = find(q, Particles(masses=torch.ones(1, 3), cell=cell), cutoff=2.0)
    assert equal(listed(q, found), brute_force(q, SKEW[2], (True, True), 2.0, 8))


def test_distances_are_sorted_and_differentiable():
    q = torch.tensor(random_positions(5, 3))[None].requires_grad_(True)
    particles = particles_in(SKEW[3], [True] * 3, 5)
    found = neighbour_matrix(q, particles, cutoff=2.5)
    r = q[0][found.index[0]] + found.shift[0] - q[0][:, None]
    distance = r.norm(dim=-1).masked_fill(~found.mask[0], torch.inf)
    finite = distance.detach().nan_to_num(posinf=1e9)
    assert bool((finite.diff(dim=-1) >= -ROUNDING).all())
    assert not found.shift.requires_grad


def test_width_is_limited_on_request():
    q = random_positions(6, 2, width=1.0)
    particles = Particles(masses=torch.ones(1, 6))
    assert find(q, particles, cutoff=9.0, max_neighbours=5).index.shape == (1, 6, 5)
    with pytest.raises(ValueError, match=r"5 neighbours within 9.0, more than max_neighbours=4"):
        find(q, particles, cutoff=9.0, max_neighbours=4)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("inf"), float("nan")])
def test_cutoff_must_be_a_length(cutoff):
    with pytest.raises(ValueError, match="cutoff must be a positive length"):
        find(random_positions(2, 2), Particles(masses=torch.ones(1, 2)), cutoff=cutoff)


def test_impossible_cells_are_refused():
    q = random_positions(2, 2)
    with pytest.raises(ValueError, match="a periodic direction has a zero lattice vector"):
        find(q, particles_in([[1.0, 0.0], [0.0, 0.0]], [True, True], 2), cutoff=1.0)
    with pytest.raises(ValueError, match="linearly dependent"):
        find(q, particles_in([[1.0, 0.0], [2.0, 0.0]], [True, True], 2), cutoff=1.0)


def test_a_list_made_without_the_mask_does_not_bring_back_padding() -> None:
    model = LieTransformer.default(dim=2, cutoff=3.0, num_layers=1)
    q, masses = torch.randn(1, 3, 2), torch.ones(1, 3)
    masked = Particles(masses=masses, mask=torch.tensor([[True, True, False]]))
    careless = neighbour_matrix(q, Particles(masses=masses), cutoff=3.0)
    careful = neighbour_matrix(q, masked, cutoff=3.0)
    torch.testing.assert_close(model(q, masked, careless), model(q, masked, careful))


def test_a_model_finds_the_neighbours_of_a_periodic_system_itself() -> None:
    """Also while particles cross the border: the energy is that of an explicit list, and continuous."""
    torch.manual_seed(0)
    model = LieTransformer.default(dim=2, cutoff=1.5, num_layers=1, radial="gaussian").double()
    q = 3 * torch.rand(2, 6, 2, dtype=torch.float64)
    cell = (3 * torch.eye(2, dtype=torch.float64)).expand(2, 2, 2)
    particles = Particles(masses=torch.ones(2, 6, dtype=torch.float64), cell=cell)
    explicit = model.energy(q, particles, neighbour_matrix(q, particles, cutoff=1.5))
    assert torch.equal(model.energy(q, particles), explicit)
    moved = q + torch.tensor([3.0, -6.0], dtype=torch.float64)
    assert float((model.energy(moved, particles) - explicit).detach().abs().max()) < 1e-12
    path = torch.linspace(-0.01, 0.01, 41, dtype=torch.float64)  # the first particle crosses x = 0
    energies = [
        model.energy(torch.cat([x.expand(1, 1, 2), q[:1, 1:]], 1), particles[:1]).detach() for x in path
    ]
    steps = torch.cat(energies).diff().abs()
    assert float(steps.max()) < 3 * float(steps.median())


def test_a_periodic_system_can_be_trained() -> None:
    generator = torch.Generator().manual_seed(0)
    times = torch.linspace(0, 0.1, 5, dtype=torch.float64)
    p = torch.randn(6, 1, 4, 2, generator=generator, dtype=torch.float64).expand(6, 5, 4, 2)
    q = 3 * torch.rand(6, 1, 4, 2, generator=generator, dtype=torch.float64) + times[:, None, None] * p
    p = p + times[:, None, None] * q.sin()
    cell = (3 * torch.eye(2, dtype=torch.float64)).expand(6, 2, 2)
    data = Trajectories(q, p, times, Particles(masses=torch.ones(6, 4, dtype=torch.float64), cell=cell))
    for loss in ("derivatives", "rollout"):
        config = TrainingConfig(max_steps=2, batch_size=2, loss=loss)
        model = LieTransformer.default(
            dim=2, cutoff=1.2, num_layers=1, radial="gaussian", width=8, num_heads=2
        )
        result = train(Hamiltonian(model), dynamics_task(config, data[:4], data[4:]), config, progress=False)
        assert result.steps == 2
