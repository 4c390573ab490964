"""``lie-sim rollout``: the library's trajectories, from files, stored, continued; and its mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lie_sim.checkpoint import load_model, save_model
from lie_sim.cli.rollout import summary
from lie_sim.data import Trajectories
from lie_sim.models import LieTransformerClassifier, LieTransformerConfig
from lie_sim.rollout import RolloutResult, StoredRollout, energy_change
from lie_sim.rollout import rollout as integrate
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import Springs

Run = Callable[..., Any]
HUGE = "9" * 30


def test_rollout_writes_the_trajectories_of_the_library(springs_run: Path, lie_sim: Run) -> None:
    words = "--steps 6 --num-systems 3 --seed 4 --save-every 2 --substeps 2 --method leapfrog --no-progress"
    done = lie_sim("rollout", springs_run, *words.split())
    assert (done.code, done.err) == (0, "")
    found = Trajectories.load(springs_run / "rollout.safetensors")
    state, particles = Springs().sample(3, generator=torch.Generator().manual_seed(4))
    state = PhaseState(q=state.q.float(), p=state.p.float())
    expected = integrate(
        load_model(springs_run / "model"),
        state,
        particles.to(dtype=torch.float32),
        step_size=5 / 499,
        num_steps=6,
        save_every=2,
        substeps=2,
        method="leapfrog",
    )
    assert found.q.shape == (3, 4, 6, 2)
    assert torch.equal(found.q, expected.q)
    assert torch.equal(found.p, expected.p)
    assert "3 systems of 6 particles in 2 dimensions" in done.out
    assert "0 of 3 (0.0%)" in done.out
    assert found.metadata["system"] == "springs"
    change = energy_change(expected, particles).abs().max()
    assert "energy change / mean kinetic energy  median" in done.out
    assert f"largest {float(change):.1e}" in done.out


def test_rollout_of_systems_at_rest_has_no_scale_for_its_energy() -> None:
    rest = torch.zeros(2, 3, 1, 2)
    path = RolloutResult(torch.arange(3.0), rest, rest, torch.ones(2, 3), torch.zeros(2, dtype=torch.bool))
    found = summary(path, Particles(masses=torch.ones(2, 1)))
    assert found == {"energy change / mean kinetic energy": "unknown", "diverged": "0 of 2 (0.0%)"}


def test_rollout_from_a_file(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "new" / "second.safetensors"
    common = ("--no-progress", "--steps", 4)
    assert lie_sim("rollout", springs_run, "--num-systems", 2, "--out", first, *common).code == 0
    done = lie_sim("rollout", springs_run / "model", "--initial", first, "--out", second, *common)
    assert (done.code, done.err) == (0, "")
    assert torch.equal(Trajectories.load(first).q, Trajectories.load(second).q)


def test_rollout_mistakes(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    classifier = LieTransformerClassifier(LieTransformerConfig(width=8, num_heads=2), num_outputs=2)
    save_model(classifier, tmp_path / "classifier")
    cases = [
        ((springs_run, "--method", "pefl"), "did you mean pefrl?"),
        ((springs_run, "--system", "sprngs"), "did you mean springs?"),
        ((springs_run, "--system", "springs", "--initial", "a"), "not both"),
        ((springs_run, "--initial", tmp_path / "none"), "no trajectories file"),
        ((springs_run, "--initial", springs_run / "report.html"), "not a complete safetensors file"),
        ((springs_run, "--out", tmp_path), "is a directory"),
        ((springs_run, "--steps", 5, "--save-every", 2), "--steps must be a multiple of --save-every"),
        ((springs_run, "--steps", -5), "--steps: expected a whole number from 0"),
        ((springs_run, "--steps", 0), "--steps must be at least 1"),
        ((springs_run, "--steps", "1e30"), "expected a whole number"),
        ((springs_run, "--steps", HUGE), "--steps: expected a whole number from 0 to 2^63 - 1"),
        ((springs_run, "--step-size", 0), "--step-size must be positive, got 0.0"),
        ((springs_run, "--step-size", -0.1), "--step-size must be positive, got -0.1"),
        ((springs_run, "--step-size", "nan"), "--step-size: expected a finite number, got nan"),
        ((springs_run, "--step-size", "inf"), "--step-size: expected a finite number, got inf"),
        ((springs_run, "--step-size", "1e300"), "--step-size=1e+300 is beyond the range of torch.float32"),
        (
            (springs_run, "--step-size", "1e30", "--steps", 2),
            "all 10 systems diverged before the first saved time",
        ),
        ((springs_run, "--seed", HUGE), "--seed: expected a whole number from 0 to 2^63 - 1"),
        ((springs_run, "--seed", -1), "--seed: expected a whole number from 0 to 2^63 - 1, got -1"),
        ((springs_run, "--substeps", 0), "substeps"),
        ((springs_run, "--substeps", HUGE), "--substeps: expected a whole number"),
        ((springs_run, "--save-every", 0), "--save-every"),
        ((springs_run, "--num-systems", HUGE), "--num-systems: expected a whole number"),
        ((springs_run, "--num-systems", 0), "--num-systems"),
        ((springs_run, "--system", "gravity", "--steps", 2), "attributes per particle"),
        ((springs_run / "model",), "does not say where to start"),
        ((tmp_path / "classifier",), "has no energy"),
    ]
    for words, message in cases:
        failed = lie_sim("rollout", *words, "--no-progress")
        assert (failed.code, failed.out, failed.err.count("\n")) == (2, "", 1), (words, failed)
        assert message in failed.err


def test_solar_rollout_starts_where_training_ends(tmp_path: Path, lie_sim: Run) -> None:
    dates = ("--train-start=2000-01-01", "--train-end=2000-07-01", "--test-end=2000-08-01")
    size = ("--training.max-steps=2", "--training.batch-size=4", "--model.width=8", "--model.num-heads=2")
    trained = lie_sim("train", "solar", tmp_path, *dates, *size, "--no-progress")
    assert (trained.code, trained.err) == (0, "")
    done = lie_sim("rollout", tmp_path, "--steps", 3, "--no-progress")
    assert (done.code, done.err) == (0, "")
    assert "3 steps of 1 with leapfrog" in done.out
    found = Trajectories.load(tmp_path / "rollout.safetensors")
    assert found.q.shape == (1, 4, 10, 3)
    assert found.metadata["first_julian_date"] == 2451726.5  # 2000-07-01, 0 h


def test_a_stored_rollout_is_continued_and_begun_again(
    springs_run: Path, tmp_path: Path, lie_sim: Run
) -> None:
    """The frames of one file, in blocks; the same command goes on; another run is refused, or replaced."""
    common = ("--num-systems", 3, "--method", "leapfrog", "--save-every", 2, "--no-progress")
    file, folder = tmp_path / "whole.safetensors", tmp_path / "stored"
    whole = lie_sim("rollout", springs_run, *common, "--steps", 20, "--out", file)
    stored = ("rollout", springs_run, *common, "--directory", folder)
    assert lie_sim(*stored, "--steps", 8).code == 0
    first = sorted(folder.glob("block-*"))
    before = [path.read_bytes() for path in first]
    done = lie_sim(*stored, "--steps", 20)
    assert (done.code, done.err) == (0, "")
    assert [path.read_bytes() for path in first] == before
    expected, found = Trajectories.load(file), StoredRollout(folder).load()
    assert torch.equal(found.q, expected.q)
    assert torch.equal(found.p, expected.p)
    start = Trajectories.load(folder / "start.safetensors")
    assert torch.equal(start.q, expected.q[:, :1])
    assert torch.equal(start.particles.masses, expected.particles.masses)
    assert done.out.splitlines()[:-1] == whole.out.splitlines()[:-1]  # energy and divergence from blocks
    other = lie_sim(*stored, "--steps", 20, "--seed", 5)
    assert other.code == 2
    assert "particles differ" in other.err
    assert "--overwrite begins again here" in other.err
    (folder / "notes.txt").write_text("mine")
    assert lie_sim(*stored, "--steps", 4, "--seed", 5, "--overwrite").code == 0
    assert StoredRollout(folder).num_frames == 3
    assert not torch.equal(Trajectories.load(folder / "start.safetensors").q, start.q)
    assert (folder / "notes.txt").read_text() == "mine"


def test_stored_rollout_mistakes(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    (tmp_path / "file").write_text("")
    cases = [
        (("--overwrite",), "--overwrite goes with --directory"),
        (("--directory", tmp_path, "--out", "a.safetensors"), "--out or --directory, not both"),
        (("--directory", tmp_path / "file"), "is a file: give the name of a directory"),
        (("--directory", springs_run), "holds a training run or a model"),
        (("--directory", springs_run / "model", "--overwrite"), "holds a training run or a model"),
    ]
    for words, message in cases:
        failed = lie_sim("rollout", springs_run, *words, "--no-progress")
        assert (failed.code, failed.out, failed.err.count("\n")) == (2, "", 1), (words, failed)
        assert message in failed.err
