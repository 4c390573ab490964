"""One small Ray cluster for all tests that need one: a head without processors and two nodes of one each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lie_sim.distributed.cluster import LOCAL, cluster, environment, on_loopback

OBJECT_STORE, NODES = 80 * 2**20, 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs the tests of Ray, so that there is one cluster."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session")
def machines() -> Iterator[Any]:
    """The nodes; nobody is connected."""
    name = tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp", ignore_cleanup_errors=True)
    with name as folder, environment(LOCAL), on_loopback():
        Path(folder, "ray").mkdir()
        with environment({"RAY_TMPDIR": folder}):
            made = started(pytest.importorskip("ray.cluster_utils"))
        try:
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def nodes(machines: Any) -> Iterator[Any]:
    """The nodes, and this process connected to them."""
    with environment(LOCAL), cluster(machines.address):
        complete(machines)
        yield machines


def complete(machines: Any) -> None:
    """Nodes in place of those that a test before has lost."""
    import ray

    there = sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    try:
        for _ in range(NODES - int(there)):
            machines.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    except Exception:
        pytest.skip("this machine is too busy to start a node of Ray within 30 s")


def started(utils: Any, attempts: int = 3) -> Any:
    """Ray gives every node 30 s to start, which a busy machine may miss."""
    made = utils.Cluster()
    try:
        made.add_node(num_cpus=0, include_dashboard=False, object_store_memory=OBJECT_STORE)
        for _ in range(NODES):
            made.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    except Exception:
        made.shutdown()
        if attempts == 1:
            pytest.skip("this machine is too busy to start a node of Ray within 30 s")
        return started(utils, attempts - 1)
    return made
