"""What a stored run is continued from: the same model to the bit, all of its blocks, every block handed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, Particles, PhaseState
from lie_sim.errors import ConfigError, ConvergenceError, DataError
from lie_sim.integrators import Method, SplittingMethod, get_method
from lie_sim.models.base import EnergyModel
from lie_sim.rollout import Frames, Rollout, StoredRollout, rollout
from lie_sim.systems import Springs

SYSTEM = Springs(num_particles=3)
RUN = Rollout(SYSTEM, "leapfrog", 0.01, frames_per_block=4)


class Wells(EnergyModel):
    """V = k s Σ |q|² / 2, k a plain attribute, s a buffer that is not saved."""

    def __init__(self, stiffness: float = 1.0, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.stiffness, self.offset = stiffness, offset
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64), persistent=False)

    def forward(self, q: Tensor, particles: Particles, neighbours: object = None) -> Tensor:
        return self.offset + self.stiffness * self.scale * q.square().sum(-1) / 2


class Noisy(Wells):
    """A force that is another one each time."""

    def forward(self, q: Tensor, particles: Particles, neighbours: object = None) -> Tensor:
        return super().forward(q, particles) * torch.rand(())


class Quartic(EnergyModel):
    """V = a Σ q⁴ / 4, a an attribute of the particles."""

    def forward(self, q: Tensor, particles: Particles, neighbours: object = None) -> Tensor:
        assert particles.attributes is not None
        return (q**4).sum(-1) / 4 * particles.attributes[..., 0]


def springs(count: int = 3) -> tuple[PhaseState, Particles]:
    return SYSTEM.sample(count, generator=torch.Generator().manual_seed(0))


def store(folder: Path, model: EnergyModel, steps: int = 20, method: str | Method = "leapfrog") -> None:
    state, particles = springs()
    run = Rollout(Hamiltonian(model), method, 0.01, frames_per_block=4)
    run.run(state, steps, particles=particles, save_every=5, directory=folder)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Wells(stiffness=9.0), r"motion differs \(names, weights and options are the same, but force"),
        (Wells(offset=1.0), "motion differs"),
        (Wells(scale=9.0), "buffers differs;"),
    ],
)
def test_what_the_weights_do_not_hold_makes_another_run(other: Wells, message: str, tmp_path: Path) -> None:
    store(tmp_path, Wells())
    with pytest.raises(ConfigError, match=message):
        store(tmp_path, other, 40)
    store(tmp_path, Wells(), 40)


def test_other_coefficients_of_one_name_make_another_run(tmp_path: Path) -> None:
    facts = {"name": "mine", "order": 2, "citation": "none"}
    store(tmp_path, Wells(), method=SplittingMethod(kicks=(0.5, 0.5), drifts=(1.0,), **facts))
    other = SplittingMethod(kicks=(0.3, 0.4, 0.3), drifts=(0.5, 0.5), **facts)
    with pytest.raises(ConfigError, match="method_options differs"):
        store(tmp_path, Wells(), 40, other)


def test_a_model_that_draws_random_numbers_can_be_continued(tmp_path: Path) -> None:
    """Not to the same bits, which it never has; and its numbers are those of a run that is not stored."""
    state, particles = springs()
    torch.manual_seed(0)
    options = {"step_size": 0.01, "num_steps": 20, "method": "leapfrog", "save_every": 5}
    plain = rollout(Hamiltonian(Noisy()), state, particles, **options)
    torch.manual_seed(0)
    store(tmp_path, Noisy())
    assert torch.equal(StoredRollout(tmp_path).load().q, plain.q)
    store(tmp_path, Noisy(), 40)


def quartic(method: str | Method, **options: object) -> tuple[list[bool], Tensor]:
    """Three systems, the second too stiff for the step."""
    state, _ = springs()
    stiff = torch.tensor([1.0, 1e8, 1.0], dtype=torch.float64).reshape(3, 1, 1).expand(3, 3, 1)
    particles = Particles(masses=torch.ones(3, 3, dtype=torch.float64), attributes=stiff)
    steps = {"step_size": 0.1, "num_steps": 40, "save_every": 10}
    found = rollout(Hamiltonian(Quartic()), state, particles, method=method, **steps, **options)
    return found.diverged.tolist(), found.q


@pytest.mark.parametrize("method", ["gauss4", "gauss6", "implicit_midpoint_h"])
def test_a_step_that_is_not_solved_stops_its_own_system_only(method: str) -> None:
    diverged, q = quartic(method)
    assert diverged == [False, True, False]
    assert bool(q[[0, 2]].isfinite().all())
    _, alone = quartic(method, batch_size=1)
    assert torch.equal(q[[0, 2]], alone[[0, 2]])


def test_a_method_given_as_an_object_is_taken_as_it_is() -> None:
    with pytest.raises(ConvergenceError, match=r"1 of 3 systems \(batch indices 1\)"):
        quartic(get_method("gauss4"))
    assert quartic(get_method("gauss4", on_failure="nan"))[0] == [False, True, False]


def test_an_error_of_the_method_may_be_left_behind_in_a_stored_run(tmp_path: Path) -> None:
    store(tmp_path, Wells(), method=get_method("gauss4"))
    store(tmp_path, Wells(), 40, "gauss4")


def test_another_dtype_is_named(tmp_path: Path) -> None:
    state, particles = springs()
    RUN.run(state, 10, particles=particles, directory=tmp_path)
    single = PhaseState(q=state.q.float(), p=state.p.float())
    with pytest.raises(ValueError, match="one dtype: q is float32, p float32, the masses are float64"):
        RUN.run(single, 20, particles=particles, directory=tmp_path)
    with pytest.raises(ConfigError, match="start, particles, dtype differ"):
        RUN.run(single, 20, particles=particles.to(dtype=torch.float32), directory=tmp_path)


@pytest.mark.parametrize("content", ["null", "[]", "{"])
def test_a_damaged_manifest_is_named(content: str, tmp_path: Path) -> None:
    state, particles = springs()
    RUN.run(state, 10, particles=particles, directory=tmp_path)
    (tmp_path / "rollout.json").write_text(content)
    with pytest.raises(DataError, match=r"rollout.json is damaged"):
        RUN.run(state, 20, particles=particles, directory=tmp_path)


def stored_run(folder: Path, steps: int = 60, frames_per_block: int = 2, **options: object) -> Tensor:
    """Springs, 13 frames in 7 blocks; the frames stored."""
    state, particles = springs()
    run = Rollout(SYSTEM, "csvr", 0.01, frames_per_block=frames_per_block)
    run.run(state, steps, particles=particles, save_every=5, directory=folder, **options)
    return StoredRollout(folder).load().q


def blocks_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("block-*.safetensors"))


@pytest.mark.parametrize("frames_per_block", [1, 2, 5])
@pytest.mark.parametrize("lost", [[0], [2], [0, 1, 4], [2, 3, 5, 6], range(7)])
def test_lost_blocks_are_noticed_and_made_again(
    lost: list[int], frames_per_block: int, tmp_path: Path
) -> None:
    """Blocks of another length too, and only what is missing."""
    expected = stored_run(tmp_path)
    whole = stored_run(tmp_path / "longer", 80)
    paths = blocks_of(tmp_path)
    for number in lost:
        paths[number].unlink()
    if 6 not in lost:
        first, last = 2 * lost[0], 2 * lost[-1] + 1
        with pytest.raises(DataError, match=rf"frames {first} to .*{last} are missing; continue the run"):
            StoredRollout(tmp_path)
    made: list[int] = []
    again = stored_run(
        tmp_path,
        frames_per_block=frames_per_block,
        on_frames=lambda block: made.extend(range(block.first, block.first + len(block.times))),
    )
    assert torch.equal(again, expected)
    assert made == [frame for k in lost for frame in (2 * k, 2 * k + 1) if frame < 13]
    assert torch.equal(stored_run(tmp_path, 80), whole)


def test_a_block_cut_short_in_the_middle_is_made_again(tmp_path: Path) -> None:
    expected = stored_run(tmp_path)
    middle = blocks_of(tmp_path)[2]
    middle.write_bytes(middle.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"block-000000004.safetensors is damaged .* makes it again"):
        StoredRollout(tmp_path)
    assert torch.equal(stored_run(tmp_path), expected)


def test_a_block_inside_another_is_refused(tmp_path: Path) -> None:
    stored_run(tmp_path)
    blocks_of(tmp_path)[2].rename(tmp_path / "block-000000003.safetensors")
    with pytest.raises(DataError, match="begins at frame 3, inside the block before it"):
        StoredRollout(tmp_path)


def test_a_run_stopped_by_drift_in_a_gap_stays_there(tmp_path: Path) -> None:
    state, particles = springs()
    coarse = Rollout(SYSTEM, "leapfrog", 0.2, frames_per_block=2)
    run = {"particles": particles, "save_every": 5, "directory": tmp_path}
    coarse.run(state, 60, **run)
    blocks_of(tmp_path)[0].unlink()
    with pytest.warns(UserWarning, match="the run ends here"):
        end = replace(coarse, drift_bound=1e-3, on_drift="stop").run(state, 60, **run)
    assert (end.stopped_by_drift, end.num_steps) == (True, 5)


def test_a_block_whose_callback_raised_is_handed_over_again(tmp_path: Path) -> None:
    """At least once: the block was stored before, and no run handed it over again."""
    expected, seen = stored_run(tmp_path / "calm"), []

    def once(block: Frames) -> None:
        if block.first == 6 and 6 not in failed:
            failed.append(6)
            raise OSError("no space left")
        seen.append(block.first)

    failed: list[int] = []
    with pytest.raises(OSError, match="no space left"):
        stored_run(tmp_path, on_frames=once)
    assert StoredRollout(tmp_path).num_frames == 6
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert torch.equal(stored_run(tmp_path, on_frames=once), expected)
    assert seen == [0, 2, 4, 6, 8, 10, 12]


def test_what_a_callback_does_to_its_frames_is_not_stored(tmp_path: Path) -> None:
    expected = stored_run(tmp_path / "calm")
    assert torch.equal(stored_run(tmp_path, on_frames=lambda block: block.q.zero_()), expected)
