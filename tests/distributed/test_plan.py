"""A plan counts what a run would have, and the real driver, played with a virtual clock, needs as long as it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lie_sim.cli.main import main
from lie_sim.distributed import simulate
from lie_sim.distributed.plan import Costs, Workload, plan
from lie_sim.distributed.rehearsal import VirtualCluster, rehearse
from lie_sim.distributed.schedule import Task
from lie_sim.errors import ConfigError
from lie_sim.systems import Springs

MILLION = Workload(trajectories=10**6, steps=300_000, workers=1000)
ROUNDING = 1e-9
HEADER = 4096
"""Bytes of the names and digests in a segment, at most."""


def test_a_million_trajectories_have_fewer_chunks_than_gpus() -> None:
    found = plan(MILLION)
    assert (found.chunks, found.bottleneck) == (977, "chunks")
    assert found.advice[0].endswith("1,000 workers busy: ask for chunks of at most 1,000 systems")
    better = plan(replace(MILLION, chunk=1000))
    assert (better.bottleneck, better.advice, better.workers_busy) == ("workers", [], 1.0)


@pytest.mark.parametrize(
    ("changes", "bottleneck", "advice"),
    [
        ({"chunk": 500, "segment_seconds": 0.5, "save_every": 50}, "driver", "segments of at least 0.8 s"),
        ({"save_every": 10}, "disk", "save fewer frames"),
        ({"trajectories": 10}, "chunks", "use 10 workers"),
        ({"chunk": 500, "segment_seconds": 0.1, "save_every": 10}, "driver", "more than 1,000,000 files"),
    ],
)
def test_the_first_bottleneck_is_named(changes: dict[str, Any], bottleneck: str, advice: str) -> None:
    found = plan(
        replace(MILLION, **changes), Costs(disk_bytes_per_second=1e12 if "chunk" in changes else 1e9)
    )
    assert found.bottleneck == bottleneck
    assert advice in " ".join(found.advice)


def test_counts_are_those_of_a_real_run(tmp_path: Path) -> None:
    ensemble = Springs(num_particles=3).sample(10, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"steps": 50, "save_every": 5, "chunk": 4}
    run = simulate(Springs(num_particles=3), ensemble, dt=0.01, segment=20, store=tmp_path, **options)
    work = Workload(
        10, workers=1, particles=3, dimension=2, segment_seconds=0.2, step_seconds=0.01, **options
    )
    found, status = plan(work), run.status()
    files = [path for folder in ("seg", "start") for path in (tmp_path / folder).rglob("*.safetensors")]
    assert (found.segments, found.files, found.segment_steps) == (status.total_segments, len(files), 20)
    size = sum(path.stat().st_size for path in files)
    assert found.num_bytes <= size <= found.num_bytes + HEADER * len(files)


def test_the_driver_keeps_a_thousand_workers_busy() -> None:
    """95 % of the ideal, at segments of 10 s."""
    work = Workload(2 * 10**6, steps=3000, workers=1000, chunk=1000, segment_seconds=10, save_every=50)
    found = rehearse(work)
    assert work.segment_time == 10
    assert found.efficiency >= 0.95, found
    assert rehearse(replace(work, segment_seconds=0.5, steps=50)).efficiency < 0.95, (
        "too short for one driver"
    )


WORKLOADS = st.builds(
    Workload,
    trajectories=st.integers(1, 60),
    steps=st.integers(1, 60),
    workers=st.integers(1, 20),
    chunk=st.integers(1, 4),
    save_every=st.just(1),
    segment_seconds=st.floats(0.01, 1.0),
    step_seconds=st.just(0.05),
)


@settings(max_examples=60)
@given(WORKLOADS)
def test_no_run_is_faster_than_its_plan(work: Workload) -> None:
    """Of any size: every segment is played once, no bound is beaten, and free costs come near to it."""
    found, played = plan(work), rehearse(work, spread=0.0)
    assert played.seconds >= found.seconds * (1 - ROUNDING)
    free = rehearse(work, Costs(0.0, 0.0, 0.0), spread=0.0)
    rounds = max(-(-found.segments // work.workers), work.segments)
    # Chains of one length, the shortest first: at most one more round than the bound.
    assert free.seconds <= (rounds + 1) * work.segment_time * (1 + ROUNDING)


def test_a_driver_that_is_too_slow_sets_the_pace() -> None:
    work = Workload(trajectories=100, steps=10, workers=50, chunk=1, save_every=1, segment_seconds=0.01)
    costs = Costs(driver_seconds=1.0)
    assert rehearse(work, costs).seconds == pytest.approx(plan(work, costs).seconds, rel=0.01)
    assert rehearse(work, costs).driver_load == pytest.approx(1.0, rel=0.01)


def test_a_waiting_task_starts_without_the_driver() -> None:
    """Two tasks, one worker: the second begins a gap after the first, while the driver waits."""
    cluster = VirtualCluster(1, 10.0, Costs(driver_seconds=0.2, gap_seconds=0.5, latency_seconds=1.0))
    cluster.submit(Task(0, 0))
    cluster.submit(Task(1, 0))
    assert [task for task, _ in cluster.wait()] == [Task(0, 0)]
    assert cluster.clock == pytest.approx(0.1 + 1.0 + 10.0 + 0.1)
    assert [task for task, _ in cluster.wait()] == [Task(1, 0)]
    assert cluster.clock == pytest.approx(11.1 + 0.5 + 10.0 + 0.1)


def test_one_seed_is_one_rehearsal() -> None:
    work = Workload(trajectories=50, steps=100, workers=7, chunk=2, save_every=10, segment_seconds=0.1)
    times = [rehearse(work, seed=seed).seconds for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]
    assert np.isfinite(times).all()


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("workers", -1), ("segment_seconds", float("nan"))]
)
def test_impossible_workloads(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be positive, got {value}"):
        replace(MILLION, **{name: value})
    with pytest.raises(ConfigError, match="the disk must take in something"):
        Costs(disk_bytes_per_second=0)


def test_extreme_times_of_a_segment() -> None:
    whole = replace(MILLION, segment_seconds=1e300, step_seconds=1e-300)
    assert (whole.segment_steps, whole.segments) == (MILLION.steps, 1)


def test_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--gpus", "1000", "--trajectories", "1e6"]
    assert main([*words, "--steps", "3000", "--rehearse", "--no-progress"]) == 0
    out = capfd.readouterr().out
    for expected in (
        "977 of up to 1,024",
        "977 of 3,000 steps, 30 s each",
        "fewer chunks than GPUs",
        "rehearsed",
    ):
        assert expected in out
    assert main([*words, "--chunk", "0"]) == 2
    assert "chunk must be positive, got 0" in capfd.readouterr().err
