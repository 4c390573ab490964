"""Without an address nothing of Ray is imported, and wrong ones are explained."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lie_sim.distributed import ClusterError, cluster
from lie_sim.distributed.cluster import environment, require_reachable

PATIENCE = 30.0
"""Seconds; most of them to import Ray."""
WITHOUT_RAY = """
import sys, torch
from lie_sim.distributed import cluster, simulate, train
from lie_sim.systems import Springs
class Nothing:
    def run(self, directory, *, progress):
        return "here"
assert train(Nothing(), run=sys.argv[1]) == "here"
system = Springs(num_particles=2)
with cluster():
    run = simulate(system, system.sample(2, generator=torch.Generator()), steps=2, dt=0.01, store=sys.argv[1])
assert run.status().complete
print("ray" in sys.modules)
"""


def test_here_means_without_ray(tmp_path: Path) -> None:
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


IMPORTED_BEFORE = """
import ray
from lie_sim.distributed import cluster
with cluster("local", workers=1):
    print([node["NodeManagerAddress"] for node in ray.nodes()])
"""


@pytest.mark.ray
def test_a_ray_that_was_imported_before_stays_on_this_machine_too() -> None:
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_BEFORE],
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["['127.0.0.1']"], 0), done.stderr


@pytest.mark.parametrize(("address", "workers"), [(None, 2), ("local", 0), ("auto", -1)])
def test_impossible_numbers_of_workers(address: str | None, workers: int) -> None:
    with (
        pytest.raises(ValueError, match="needs a cluster and must be at least 1"),
        cluster(address, workers=workers),
    ):
        pass


class SlowRay:
    """Ray on a machine that is too busy to start it at once."""

    def __init__(self, failures: int) -> None:
        self.failures, self.starts, self.stops = failures, list[dict[str, Any]](), 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.starts.append(options)
        if len(self.starts) <= self.failures:
            raise Exception("The current node timed out during startup.")

    def shutdown(self) -> None:
        self.stops += 1

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="127.0.0.1:1")


@pytest.fixture
def slow_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], SlowRay]:
    def put_in_place(failures: int) -> SlowRay:
        ray = SlowRay(failures)
        monkeypatch.setitem(sys.modules, "ray", ray)
        constants = SimpleNamespace(ENABLE_RAY_CLUSTER=True)
        monkeypatch.setitem(sys.modules, "ray._private.ray_constants", constants)
        executor = SimpleNamespace(RayExecutor=None)
        monkeypatch.setitem(sys.modules, "lie_sim.distributed.ray_executor", executor)
        return ray

    return put_in_place


def test_a_slow_start_is_tried_again(slow_ray: Callable[[int], SlowRay]) -> None:
    ray = slow_ray(2)
    with cluster("local", workers=2) as found:
        assert (found.workers, len(ray.starts)) == (2, 3)
        folder = Path(ray.starts[-1]["_temp_dir"])
        assert folder.is_dir()
    assert ray.stops == 3
    assert not folder.exists()


@pytest.mark.parametrize(("address", "starts"), [("local", 3), ("somewhere", 1)])
def test_a_ray_that_does_not_start_is_explained(
    slow_ray: Callable[[int], SlowRay], address: str, starts: int
) -> None:
    ray = slow_ray(9)
    with (
        pytest.raises(ClusterError, match=f"no Ray at '{address}': The current node timed out"),
        cluster(address),
    ):
        pass
    assert len(ray.starts) == starts


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIE_SIM_SET", "mine")
    with environment({"LIE_SIM_SET": "other", "LIE_SIM_NEW": "1"}):
        assert (os.environ["LIE_SIM_SET"], os.environ["LIE_SIM_NEW"]) == ("mine", "1")
    assert os.environ["LIE_SIM_SET"] == "mine"
    assert "LIE_SIM_NEW" not in os.environ


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-machine.invalid:6379"])
def test_an_address_where_nobody_listens_is_refused_at_once(address: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=f"no Ray at '{address}' .*: give HOST:PORT"), cluster(address):
        pass
    assert time.monotonic() - begun < PATIENCE


def test_the_address_of_the_environment_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(ClusterError, match=r"no Ray at '127.0.0.1:1' \(Connection refused\)"),
        cluster("auto"),
    ):
        pass


def test_other_addresses_are_matters_of_ray() -> None:
    for address in ("auto", "", "local", "machine"):
        require_reachable(address)
