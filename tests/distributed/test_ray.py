"""On Ray the result is the serial one, to the byte: whichever worker, node or driver is killed.

One small cluster for all tests; only processes that it started are killed, by their number.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lie_sim.distributed import FailedChunksError, Run, simulate
from lie_sim.distributed.cluster import ClusterError, cluster
from lie_sim.distributed.journal import events
from lie_sim.systems import Springs
from tests.distributed.chaos import snapshot
from tests.distributed.conftest import OBJECT_STORE

pytestmark = pytest.mark.ray

SYSTEM = Springs(num_particles=3)
OPTIONS: dict[str, Any] = {
    "steps": 600,
    "dt": 0.01,
    "save_every": 5,
    "chunk": 2,
    "segment": 100,
    "method": "csvr",
}
CHUNKS, SEGMENTS = 4, 6
PATIENCE = 120.0
"""Seconds that a driver in another process may take to begin."""

DRIVER = """
import sys, torch
from lie_sim.distributed import cluster, simulate
from lie_sim.systems import Springs
system = Springs(num_particles=3)
ensemble = system.sample(8, generator=torch.Generator().manual_seed(0))
with cluster(sys.argv[1]):
    sys.modules["lie_sim.distributed.ray_executor"].STRETCH = 0.0  # tasks of one segment
    simulate(system, ensemble, store=sys.argv[2], steps=600, dt=0.01, save_every=5, chunk=2, segment=100, method="csvr")
"""


def begun(store: Path) -> Run:
    ensemble = SYSTEM.sample(8, generator=torch.Generator().manual_seed(0))
    return simulate(SYSTEM, ensemble, store=store, wait=False, **OPTIONS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = begun(tmp_path_factory.mktemp("serial"))
    run.finish()
    return snapshot(run.folder)


def test_a_run_that_no_node_can_compute_says_so(nodes: Any, tmp_path: Path) -> None:
    executors = sys.modules["lie_sim.distributed.ray_executor"]
    ensemble = SYSTEM.sample(8, generator=torch.Generator().manual_seed(0))
    run = simulate(SYSTEM, ensemble, store=tmp_path, wait=False, threads=3, **OPTIONS)
    with pytest.warns(UserWarning, match=r"needs 3 processors .* the largest node of this cluster has 1"):
        executors.RayExecutor(run.folder)
    with pytest.warns(UserWarning, match=r"no node of this cluster has a GPU"):
        sys.modules["lie_sim.distributed.ray_nodes"].warn_if_no_node_has("GPU", 1)
    with pytest.warns(UserWarning, match=r"need 5 processors, this cluster has 2"):
        sys.modules["lie_sim.distributed.ray_nodes"].warn_if_cluster_lacks("CPU", 5)
    with pytest.warns(UserWarning, match=r"has 1 chunk, so that only as many of 2 workers"):
        sys.modules["lie_sim.distributed.ray_nodes"].warn_if_few_chunks(1, 2)


def test_a_run_that_the_nodes_can_compute_is_not_warned_of(nodes: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sys.modules["lie_sim.distributed.ray_executor"].RayExecutor(begun(tmp_path).folder)
        sys.modules["lie_sim.distributed.ray_nodes"].warn_if_cluster_lacks("CPU", 2)


def workers_of(run: Run) -> list[int]:
    """The processes that computed segments, the last one last."""
    told = [entry["worker"] for entry in events(run.folder) if entry.get("worker")]
    return [int(worker.rsplit(":", 1)[1]) for worker in dict.fromkeys(reversed(told))][::-1]


def computed(run: Run) -> int:
    return sum(entry["event"] in ("new", "duplicate") for entry in events(run.folder))


@pytest.fixture
def short_tasks(monkeypatch: pytest.MonkeyPatch, nodes: Any) -> None:
    """Of one segment each, so that the driver hears of each of them."""
    monkeypatch.setattr(sys.modules["lie_sim.distributed.ray_executor"], "STRETCH", 0.0)


def test_a_task_goes_on_in_its_chunk_until_time_is_up(nodes: Any, tmp_path: Path) -> None:
    run_segments = sys.modules["lie_sim.distributed.ray_executor"].run_segments
    run = begun(tmp_path)
    where = (str(run.folder), run.manifest.digest, 1)
    assert [each.outcome for each in run_segments(*where, 0, SEGMENTS, 0.0)] == ["new"]
    assert [each.outcome for each in run_segments(*where, 0, SEGMENTS, 60.0)] == ["present"] + 5 * ["new"]
    assert [
        each.outcome for each in run_segments(str(run.folder), run.manifest.digest, 0, 3, SEGMENTS, 60.0)
    ] == ["lost"]
    damaged = run_segments(str(tmp_path / "nowhere"), "", 0, 0, SEGMENTS, 60.0)
    assert [isinstance(each, Exception) for each in damaged] == [True]


def test_a_run_on_ray_is_the_serial_one(nodes: Any, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.finish()
    assert snapshot(tmp_path) == undisturbed
    assert os.getpid() not in workers_of(run)


def test_workers_are_killed_at_twenty_random_moments(
    short_tasks: None, nodes: Any, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    dice, kills, runs = random.Random(0), 0, 0
    while kills < 20:
        run, before = begun(tmp_path / str(runs)), kills
        for _ in run.work():
            if dice.random() < 0.6 and kills < 20:
                time.sleep(dice.uniform(0, 0.1))
                with contextlib.suppress(ProcessLookupError):  # it may be the one that was killed before
                    os.kill(workers_of(run)[-1], signal.SIGKILL)
                    kills += 1
        assert snapshot(run.folder) == undisturbed
        assert computed(run) <= CHUNKS * SEGMENTS + kills - before
        assert not (run.folder / "quarantine").exists()
        runs += 1


def test_a_node_is_removed_and_another_one_comes(
    short_tasks: None, nodes: Any, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    run = begun(tmp_path)
    for number, _ in enumerate(run.work()):
        if number == 4:
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
        if number == 10:
            with contextlib.suppress(Exception):  # no node within 30 s: the run goes on without it
                nodes.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    assert snapshot(tmp_path) == undisturbed
    assert computed(run) <= CHUNKS * SEGMENTS + 2


def test_the_driver_is_killed(nodes: Any, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """Its tasks may go on for a while: two drivers on one store."""
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, nodes.address, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + PATIENCE
    while len(snapshot(tmp_path)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    _, message = process.communicate()
    assert 3 <= len(snapshot(tmp_path)) < CHUNKS * SEGMENTS, message.decode()
    run = begun(tmp_path)
    run.finish()
    assert snapshot(tmp_path) == undisturbed
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "begin" for line in lines) == 2


def test_an_error_in_a_worker_is_told(nodes: Any, tmp_path: Path) -> None:
    run = begun(tmp_path)
    start = run.store.start_path(1)
    start.write_bytes(run.store.start_path(0).read_bytes())
    with pytest.raises(FailedChunksError, match=r"1 of 4 chunks .* DataError: .*other initial states"):
        run.finish()
    assert run.present().sum(1).tolist() == [6, 0, 6, 6]


def test_ray_runs_already(nodes: Any) -> None:
    with pytest.raises(ClusterError, match="Ray runs in this process already"), cluster("local"):
        pass
