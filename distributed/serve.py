"""A model behind HTTP, by Ray Serve: requests that come at the same time are computed as one batch.

    with serve("model", port=8000) as served:       atoms.calc = RemoteCalculator(served.url), here or elsewhere
        ...

    request → proxy → replica → batch of padded atoms ≤ max_atoms → results       replicas = processes with the model

A replica that dies is replaced; the calculator sends again what it was asked. Whoever may connect may use the
processor: the server listens on this machine only, unless told otherwise, and then not without a token.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.options import Source
from lie_sim.calculators.wire import Facts, Request
from lie_sim.distributed.cluster import ClusterError, cluster
from lie_sim.distributed.service import Outcome, Service, facts_of, outcomes
from lie_sim.errors import MissingPackageError

NAME = "lie_sim"
"""Of the application in Ray Serve."""
AT_ONCE = 256
"""Requests that a replica has at a time, waiting ones included."""
QUEUE = 4096
"""Requests that wait in a proxy; beyond it, the answer is 503, and the calculator tries again."""
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Served:
    """What :func:`serve` gives.

    Args:
        url: for :class:`~lie_sim.calculators.RemoteCalculator`.
        facts: what the server says of itself.
    """

    url: str
    facts: Facts


@contextmanager
def serve(
    model: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    max_atoms: int = 512,
    num_replicas: int = 1,
    max_wait: float = 0.002,
    device: str = "cpu",
    dtype: str | None = None,
) -> Iterator[Served]:
    """Serve a model inside the ``with`` block.

    Inside ``with cluster(...)`` the replicas run there, otherwise on a Ray of this machine that ends with the block.

    Args:
        model: as of :class:`~lie_sim.calculators.LieTransformerCalculator`; its calibration is served with it.
        host: address to listen on.
        port: from 1 to 65535.
        token: of at least 16 ASCII characters, which every request must carry; HTTP does not hide it, so put a proxy
            with TLS before a server that others can reach.
        max_atoms: of a system, and of a batch, padding included.
        num_replicas: processes that compute.
        max_wait: seconds to wait for more requests once there is one.
        device: of each replica, ``"cpu"`` or ``"cuda"``.
        dtype: as of the calculator.

    Raises:
        ValueError: an option is impossible, or others could use the server and there is no token.
        CheckpointError: there is no such model.
        MissingPackageError: Ray Serve is not installed.
        ClusterError: Ray or the server cannot be started, or the port is taken.
    """
    _check(host, port, token, max_atoms=max_atoms, num_replicas=num_replicas, max_wait=max_wait)
    _require_packages()
    calculator = LieTransformerCalculator(model, device=device, dtype=dtype, on_uncertain="ignore")
    facts = facts_of(calculator, max_atoms=max_atoms)
    with ExitStack() as stack:
        if not _is_connected():
            _require_free(host, port)
            stack.enter_context(cluster("local", workers=num_replicas))
        library = importlib.import_module("ray.serve")
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if library.status().proxies:
            raise ClusterError(
                "Ray Serve runs on this cluster already: stop it (serve shutdown), or take another one"
            )
        stack.callback(library.shutdown)
        resource = "GPU" if device.startswith("cuda") else "CPU"
        nodes = importlib.import_module("lie_sim.distributed.ray_nodes")
        nodes.warn_if_cluster_lacks(resource, num_replicas)
        deployment = library.deployment(
            Replica,
            name="model",
            num_replicas=num_replicas,
            max_ongoing_requests=AT_ONCE,
            max_queued_requests=QUEUE,
            ray_actor_options={f"num_{resource.lower()}s": 1},
        )
        replica = deployment.bind(
            calculator.models[0], calculator.calibration, facts, token, max_wait, device, dtype
        )
        try:
            library.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
            library.run(replica, name=NAME, route_prefix="/", logging_config={"log_level": "WARNING"})
        except (RuntimeError, OSError, ValueError) as error:
            raise ClusterError(f"the server could not be started: {error}") from error
        yield Served(_url(host, port), facts)


class Replica:
    """A process that computes: requests of Starlette in, responses out.

    Args:
        model: the potential.
        calibration: of it, or None.
        facts: what is told of it.
        token: that a request must carry, or None.
        max_wait: seconds to wait for more requests.
        device: where to compute.
        dtype: in which.
    """

    def __init__(
        self,
        model: Any,
        calibration: Any,
        facts: Facts,
        token: str | None,
        max_wait: float,
        device: str,
        dtype: str | None,
    ) -> None:
        _keep_replicas_on_loopback()
        calculator = LieTransformerCalculator(
            model, calibration=calibration, device=device, dtype=dtype, on_uncertain="ignore"
        )

        async def together(requests: list[Request]) -> list[Outcome]:
            return await asyncio.to_thread(outcomes, calculator, requests, max_atoms=facts.max_atoms)

        batched = importlib.import_module("ray.serve").batch(
            together,
            max_batch_size=facts.max_atoms,
            batch_wait_timeout_s=max_wait,
            batch_size_fn=padded_atoms,
        )
        self._response = importlib.import_module("starlette.responses").Response
        self._service = Service(facts, batched, token=token)

    async def __call__(self, request: Any) -> Any:
        """Answer a request of HTTP."""
        reply = await self._service.reply(request.method, request.headers, request.stream())
        return self._response(reply.body, status_code=reply.status, media_type="application/json")


def padded_atoms(requests: Sequence[Request]) -> int:
    """Size of a batch.

    Example:
        >>> from ase import Atoms
        >>> padded_atoms([Request(Atoms("H"), ("energy",)), Request(Atoms("OH2"), ("energy",))])
        6
    """
    return len(requests) * max(len(each.atoms) for each in requests)


def _check(
    host: str, port: int, token: str | None, *, max_atoms: int, num_replicas: int, max_wait: float
) -> None:
    if not 1 <= port <= 65535:
        raise ValueError(f"port must be from 1 to 65535, got {port}")
    if max_atoms < 1 or num_replicas < 1 or not 0 <= max_wait < float("inf"):
        raise ValueError(
            "max_atoms and num_replicas must be at least 1 and max_wait not negative, got "
            f"{max_atoms}, {num_replicas} and {max_wait}"
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ValueError(
            f"a token must have at least {SHORTEST_TOKEN} printable ASCII characters, got {len(token)}"
        )
    if token is None and not _is_loopback(host):
        raise ValueError(f"{host} can be reached by others: give a token, or listen on 127.0.0.1")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int) -> str:
    """Of what listens there.

    Example:
        >>> _url("127.0.0.1", 8000), _url("::1", 8000)
        ('http://127.0.0.1:8000', 'http://[::1]:8000')
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_connected() -> bool:
    """Whether there is a Ray; it is not imported, as it reads its environment then."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _require_free(host: str, port: int) -> None:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ClusterError(f"cannot listen on {host}:{port}: {error.strerror}; use another port") from error


def _keep_replicas_on_loopback() -> None:
    """Ray Serve 2.60 opens a port of every replica on all interfaces, even where all nodes are on the loopback one."""
    ray = importlib.import_module("ray")
    replica: Any = importlib.import_module("ray.serve._private.replica")
    add: Callable[[Any, str], int] | None = getattr(replica, "add_port_to_grpc_server", None)
    head = ray.get_runtime_context().gcs_address.rpartition(":")[0]
    if add is not None and _is_loopback(head):
        replica.add_port_to_grpc_server = lambda server, address: add(
            server, address.replace("[::]", "127.0.0.1")
        )


def _require_packages() -> None:
    """What Ray Serve needs; Ray itself is not imported before its environment is there."""
    missing = [name for name in ("fastapi", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"serving needs the package {missing[0]}: pip install 'lie_sim[serve]'")
