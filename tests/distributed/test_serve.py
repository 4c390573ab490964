"""A served model is the local one for many clients at a time, also while a replica is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from lie_sim.calculators import LieTransformerCalculator, RemoteCalculator
from lie_sim.distributed import ClusterError, MissingPackageError, Served, serve
from lie_sim.errors import CheckpointError, ServerError
from lie_sim.models import AtomicPotential

TOKEN = "a token of some length"
SAME = 1e-10  # eV; a batch sums in another order
CLIENTS, REQUESTS = 8, 6
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, and the same within IPv6, as the kernel writes them."""

needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("fastapi", "starlette", "uvicorn")),
    reason="Ray Serve is not installed: pip install 'lie_sim[serve]'",
)


def small_potential() -> AtomicPotential:
    network = {
        "width": 16,
        "num_heads": 4,
        "num_layers": 2,
        "num_moments": 3,
        "kernel_hidden": 16,
        "cutoff": 4.0,
    }
    return AtomicPotential.default(elements=(1, 6, 8), network=network).double()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "0.0.0.0"}, "0.0.0.0 can be reached by others: give a token, or listen on 127.0.0.1"),
        ({"host": "example.org"}, "example.org can be reached by others"),
        ({"token": "short"}, "a token must have at least 16 printable ASCII characters, got 5"),
        ({"token": "sixteen characters \n"}, "printable ASCII"),
        ({"port": 0}, "port must be from 1 to 65535, got 0"),
        ({"max_atoms": 0}, "must be at least 1"),
        ({"num_replicas": 0}, "must be at least 1"),
        ({"max_wait": -1.0}, "max_wait not negative"),
    ],
)
def test_options_are_checked_before_anything_starts(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says), serve(small_potential(), **options):
        pass


@needs_packages
def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match="nowhere"), serve("nowhere"):
        pass


@needs_packages
def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        says = f"cannot listen on 127.0.0.1:{port}: .*; use another port"
        with pytest.raises(ClusterError, match=says), serve(small_potential(), port=port):
            pass


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "starlette" else name)
    says = r"serving needs the package starlette: pip install 'lie_sim\[serve\]'"
    with pytest.raises(MissingPackageError, match=says), serve(small_potential()):
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def served(nodes: Any) -> Iterator[tuple[Served, LieTransformerCalculator]]:
    torch.manual_seed(0)
    potential = small_potential()
    with serve(potential, port=free_port(), token=TOKEN, num_replicas=2) as running:
        yield running, LieTransformerCalculator(potential)


def replicas() -> list[int]:
    """Process numbers of the replicas."""
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    actors = [ray.get_actor(**each) for each in named if each["name"].startswith("SERVE_REPLICA")]
    return ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in actors])


def listening(process: int) -> set[str]:
    """Addresses, as the kernel writes them, on which a process listens."""
    links = [str(each.readlink()) for each in Path(f"/proc/{process}/fd").iterdir() if each.is_symlink()]
    mine = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in mine}


def structure(client: int, number: int) -> Atoms:
    atoms = molecule(["H2O", "CH3CH2OH", "C6H6"][(client + number) % 3])
    atoms.rattle(0.05, seed=100 * client + number)
    return atoms


@pytest.mark.ray
@needs_packages
@pytest.mark.slow
def test_many_clients_get_the_local_energies_while_a_replica_is_killed(
    served: tuple[Served, LieTransformerCalculator],
) -> None:
    running, local = served
    victim, *others = replicas()
    assert len(others) == 1

    systems = [[structure(number, k) for k in range(REQUESTS)] for number in range(CLIENTS)]

    def client(number: int) -> list[float]:
        calculator = RemoteCalculator(running.url, token=TOKEN, retries=8)
        found = []
        for k in range(REQUESTS):
            if number == 0 and k == REQUESTS // 2:
                os.kill(victim, signal.SIGKILL)
            found.append(calculator.get_potential_energy(systems[number][k]))
        return found

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(client, range(CLIENTS)))
    assert [len(each) for each in found] == [REQUESTS] * CLIENTS
    for number, energies in enumerate(found):
        for k, energy in enumerate(energies):
            expected = local.evaluate(systems[number][k], ["energy"])["energy"]
            assert abs(energy - expected) < SAME


@pytest.mark.ray
@needs_packages
@pytest.mark.slow
def test_it_listens_on_this_machine_only_and_to_those_with_the_token(
    served: tuple[Served, LieTransformerCalculator],
) -> None:
    running, _ = served
    with pytest.raises(ServerError, match="needs a token"):
        RemoteCalculator(running.url)
    for process in replicas():
        assert listening(process) <= LOOPBACK
