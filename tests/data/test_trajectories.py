"""Trajectories: selection, chunks and windows are pieces of the whole; bytes depend on the seed alone."""

from dataclasses import replace
from pathlib import Path

import jaxtyping
import pytest
import torch

from lie_sim.data import Trajectories, make_trajectories, solar_trajectories
from lie_sim.errors import DataError
from lie_sim.state import Particles
from lie_sim.systems import PendulumChain, Springs

TIMES = torch.linspace(0.0, 0.5, 23, dtype=torch.float64)


@pytest.fixture(scope="module")
def data() -> Trajectories:
    return make_trajectories(Springs(), 300, seed=5, times=TIMES)


def test_same_seed_gives_the_same_bytes(data: Trajectories, tmp_path: Path) -> None:
    again = make_trajectories(Springs(), 300, seed=5, times=TIMES)
    data.save(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert data.digest() == again.digest()
    assert data.digest() != make_trajectories(Springs(), 300, seed=6, times=TIMES).digest()


def test_round_trip_through_a_file(data: Trajectories, tmp_path: Path) -> None:
    digest = data.save(tmp_path / "a.safetensors")
    loaded = Trajectories.load(tmp_path / "a.safetensors")
    assert loaded.digest() == data.digest() == digest
    assert loaded.metadata == data.metadata == {
        "system": "springs", "options": {"num_particles": 6, "dim": 2}, "seed": 5,
    }  # fmt: skip


def test_all_particle_fields_survive_the_file(data: Trajectories, tmp_path: Path) -> None:
    part = data[:2]
    particles = Particles(
        masses=part.particles.masses,
        species=torch.arange(12).reshape(2, 6),
        mask=torch.ones(2, 6, dtype=torch.bool),
        cell=torch.eye(2).expand(2, 2, 2),
        pbc=torch.zeros(2, 2, dtype=torch.bool),
    )
    replace(part, particles=particles).save(tmp_path / "a")
    loaded = Trajectories.load(tmp_path / "a").particles
    assert loaded.attributes is None
    for name in ("masses", "species", "mask", "cell", "pbc"):
        assert torch.equal(getattr(loaded, name), getattr(particles, name)), name


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("not a dataset")
    with pytest.raises(DataError, match="not a complete safetensors file"):
        Trajectories.load(tmp_path / "a")


def test_chunks_are_aligned_pieces_of_their_trajectory(data: Trajectories) -> None:
    chunks = data.chunks(5, generator=torch.Generator().manual_seed(0))
    assert chunks.q.shape == (300, 5, 6, 2)
    assert torch.equal(chunks.times, TIMES[:5])
    assert chunks.dt == pytest.approx(0.5 / 22)
    pieces = torch.stack([data.q[:, start : start + 5] for start in (0, 5, 10, 15)], 1)  # 20..22 is too short
    found = (pieces == chunks.q[:, None]).all((2, 3, 4))
    assert bool((found.sum(1) == 1).all())
    assert found.float().mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.1)
    start = found.int().argmax(1) * 5
    assert torch.equal(chunks.p[7], data.p[7, start[7] : start[7] + 5])
    again = data.chunks(5, generator=torch.Generator().manual_seed(0))
    assert again.digest() == chunks.digest()


def test_windows_are_all_pieces_and_carry_their_particles(data: Trajectories) -> None:
    part = data[:2]
    windows = part.windows(5, stride=9)
    assert windows.q.shape == (6, 5, 6, 2)  # from 0, 9 and 18
    assert torch.equal(windows.q[4], part.q[1, 9:14])
    assert torch.equal(windows.p[5], part.p[1, 18:23])
    assert torch.equal(windows.particles.masses, part.particles.masses[[0, 0, 0, 1, 1, 1]])
    assert len(part.windows(5)) == 8


def test_split_and_selection(data: Trajectories) -> None:
    first, second = data.split(100, 150)
    assert torch.equal(torch.cat([first.q, second.q]), data.q[:250])
    assert torch.equal(second.particles.attributes, data.particles.attributes[100:250])
    picked = data[torch.tensor([7, 3])]
    assert torch.equal(picked.p[1], data.p[3])
    assert torch.equal(picked.particles.masses[0], data.particles.masses[7])


def test_state_and_conversion(data: Trajectories) -> None:
    state = data.state(4)
    assert torch.equal(state.q, data.q[:, 4])
    assert state.t is not None
    assert state.t.tolist() == [float(TIMES[4])] * 300
    single = data.to(dtype=torch.float32)
    assert {x.dtype for x in single.tensors().values()} == {torch.float32}
    assert single.dt == pytest.approx(data.dt, rel=1e-6)


def test_uneven_times_have_no_step(data: Trajectories) -> None:
    uneven = replace(data[:1], times=TIMES**2)
    with pytest.raises(ValueError, match="times are not uniform"):
        _ = uneven.dt


def test_wrong_shapes_and_lengths_are_explained(data: Trajectories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(ValueError, match=r"same shape \(S, T, N, d\)"):
        replace(data, p=data.p[:1])
    with pytest.raises(ValueError, match=r"times must have shape \(T,\) = \(23,\)"):
        replace(data, times=TIMES[:2])
    with pytest.raises(ValueError, match=r"particles must have shape \(S, N\) = \(300, 6\)"):
        replace(data, particles=data.particles[:3])
    with pytest.raises(ValueError, match="between 1 and T = 23"):
        data.chunks(24, generator=torch.Generator())
    with pytest.raises(ValueError, match="stride at least 1"):
        data.windows(3, stride=0)
    with pytest.raises(ValueError, match="sum to at most 300"):
        data.split(200, 101)


def test_other_systems_and_the_ephemeris_fit_in(tmp_path: Path) -> None:
    pendulums = make_trajectories(PendulumChain(stiffness=0.5), 2, seed=0, times=TIMES[:3])
    assert pendulums.q.shape == (2, 3, 6, 1)
    assert pendulums.metadata["options"]["stiffness"] == 0.5
    planets = solar_trajectories("2000-01-01", "2000-02-01", step_days=0.5)
    planets.save(tmp_path / "planets")
    assert Trajectories.load(tmp_path / "planets").metadata["bodies"][0] == "sun"
    assert planets.dt == 0.5


def test_a_long_grid_in_float32_is_still_uniform() -> None:
    data = make_trajectories(Springs(num_particles=2), 1, seed=0).to(dtype=torch.float32)
    assert data.dt == pytest.approx(5 / 499, rel=1e-6)
