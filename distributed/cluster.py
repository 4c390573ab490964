"""Where a run is computed: here without Ray, on a Ray of this machine, or on a cluster that is there.

    with cluster():                      in this process; Ray is not imported
    with cluster("local", workers=4):    a Ray of its own, which ends with the block
    with cluster("auto"):                the cluster that RAY_ADDRESS or ``ray start`` names
    with cluster("ray://head:10001"):    a remote cluster; the store must be on a disk that its nodes share

Ray of this machine listens on the loopback interface only, sends no telemetry, runs its workers at normal priority, and
keeps its files in a folder of its own, which is removed at the end.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lie_sim.distributed.executors import using
from lie_sim.errors import LieSimError

LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray 2.60 else listens on all interfaces of a Linux machine
    "RAY_worker_niceness": "0",  # else 15: workers starve beside anything (ray#33287)
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under ``uv run`` workers would build an environment of their own
    "GLOO_SOCKET_IFNAME": "lo",  # torch.distributed else listens on the address of the machine's name
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # tasks without a GPU keep what they see, and a warning is silent
}
"""Environment of a Ray of this machine."""
OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory: only a few words per segment cross the wire. Ray's default is 30 % of the memory."""
_PATIENCE = 5.0
"""Seconds for a machine to answer."""
_STARTS = 3
"""Ray gives a node 30 s to start, which a busy machine may miss."""


class ClusterError(LieSimError):
    """Ray could not be started or reached; the message says why."""


@dataclass(frozen=True)
class Cluster:
    """What :func:`cluster` gives.

    Args:
        address: of Ray; None for this process.
        workers: segments at a time; None for as many as the cluster has processors.
    """

    address: str | None
    workers: int | None


@contextmanager
def cluster(address: str | None = None, *, workers: int | None = None) -> Iterator[Cluster]:
    """Compute the runs inside the ``with`` block somewhere.

    Args:
        address: None, ``"local"``, ``"auto"``, or the address of a cluster.
        workers: segments at a time; for ``"local"`` None means one per processor of this machine, otherwise as many
            as the cluster has.

    Raises:
        ValueError: a number of workers without a cluster, or none of them.
        ClusterError: Ray cannot be started or reached, or runs already in this process.

    Example:
        >>> with cluster() as here:
        ...     here.address is None
        True
    """
    check_place(address, workers)
    if address is None:
        yield Cluster(None, None)
        return
    with ExitStack() as stack:
        if address == "local":
            workers = workers or len(os.sched_getaffinity(0))
            stack.enter_context(_local_environment())
        ray = importlib.import_module("ray")
        if address == "local":
            stack.enter_context(on_loopback())
        _connect(stack, ray, address, workers)
        make = importlib.import_module("lie_sim.distributed.ray_executor").RayExecutor
        stack.enter_context(using(lambda folder: make(folder, workers=workers)))
        yield Cluster(ray.get_runtime_context().gcs_address, workers)


def check_place(address: str | None, workers: int | None) -> None:
    """Refuse what :func:`cluster` would refuse, before anything is begun.

    Raises:
        ValueError: a number of workers without a cluster, or none of them.
        ClusterError: nobody listens at the address.
    """
    if workers is not None and (workers < 1 or address is None):
        raise ValueError(
            f"workers={workers} needs a cluster and must be at least 1: give an address, such as 'local'"
        )
    if address is not None:
        require_reachable(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)


def _connect(stack: ExitStack, ray: Any, address: str, workers: int | None) -> None:
    """Connect Ray until the stack is left."""
    if ray.is_initialized():
        raise ClusterError("Ray runs in this process already: leave its block, or ray.shutdown(), first")
    options: dict[str, Any] = {"address": address, "configure_logging": False, "log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        options["_temp_dir"] = str(Path(os.environ["RAY_TMPDIR"], "ray"))
    for attempt in range(_STARTS):
        try:
            ray.init(**options)
            break
        except Exception as error:  # of no class of its own, where a node was too slow to start (Ray 2.60)
            ray.shutdown()
            if attempt + 1 == _STARTS or address != "local":
                raise ClusterError(f"no Ray at {address!r}: {error}") from error
    stack.callback(ray.shutdown)


def require_reachable(address: str) -> None:
    """Refuse the address of a cluster where nobody listens; Ray would look for it for minutes, and not be stopped.

    Args:
        address: ``HOST:PORT`` or ``ray://HOST:PORT``; anything else is Ray's own matter.

    Raises:
        ClusterError: there is no such machine, or it does not answer within some seconds.

    Example:
        >>> require_reachable("127.0.0.1:1")
        Traceback (most recent call last):
        lie_sim.distributed.cluster.ClusterError: no Ray at '127.0.0.1:1' (Connection refused): ...
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ClusterError(
            f"no Ray at {address!r} ({why}): give HOST:PORT as `ray start` prints it, ray://HOST:10001, auto or local"
        ) from error


@contextmanager
def on_loopback() -> Iterator[None]:
    """Ray read its environment when it was imported, which may have been before it was ours."""
    constants: Any = importlib.import_module("ray._private.ray_constants")
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _local_environment() -> Iterator[None]:
    """What a Ray of this machine needs to know before it starts."""
    folder = tempfile.mkdtemp(
        prefix="ls-", dir="/tmp" if Path("/tmp").is_dir() else None
    )  # socket names are short
    Path(folder, "ray").mkdir()
    try:
        with environment({**LOCAL, "RAY_TMPDIR": folder}):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables, set inside the block where they are not set already.

    Example:
        >>> with environment({"LIE_SIM_EXAMPLE": "1"}):
        ...     os.environ["LIE_SIM_EXAMPLE"]
        '1'
        >>> "LIE_SIM_EXAMPLE" in os.environ
        False
    """
    own = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)
