"""``lie-sim serve``: a model of atoms for programs elsewhere, by HTTP."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated

import tyro

from lie_sim.cli.errors import UsageError
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import show
from lie_sim.distributed import cluster
from lie_sim.distributed import serve as served_model


@dataclass(frozen=True)
class ServeOptions:
    """Serve a model of atoms until Ctrl-C; programs use it by RemoteCalculator(url).

    Args:
        model: folder or name of the model.
        host: address to listen on; others than that of this machine need --token-file.
        port: to listen on.
        token_file: file with the token that every request must carry, at least 16 characters.
        replicas: processes that compute.
        max_atoms: of a system, and of a batch.
        max_wait: seconds to wait for more requests once there is one.
        device: cpu or cuda.
        dtype: float32 or float64; by default that of the model.
        address: a Ray to compute on: local, auto, or an address.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    replicas: int = 1
    max_atoms: int = 512
    max_wait: float = 0.002
    device: str = "cpu"
    dtype: str | None = None
    address: str = "local"


def serve(argv: Sequence[str]) -> None:
    """Serve, and say where."""
    options = parse(ServeOptions, argv, prog="lie-sim serve")
    with ExitStack() as stack:
        if options.address != "local":
            stack.enter_context(cluster(options.address))
        served = stack.enter_context(
            served_model(
                options.model,
                host=options.host,
                port=options.port,
                token=_token(options.token_file),
                max_atoms=options.max_atoms,
                num_replicas=options.replicas,
                max_wait=options.max_wait,
                device=options.device,
                dtype=options.dtype,
            )
        )
        show([("serving", options.model), ("at", served.url), ("digest", served.facts.model)])
        print(f'RemoteCalculator("{served.url}"); Ctrl-C stops', flush=True)
        _wait_for_the_end()


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise UsageError(f"{file} is empty: it must hold the token")
    return token


def _wait_for_the_end() -> None:
    """Until Ctrl-C, or a polite kill."""
    stopped = Event()
    before = {each: signal.signal(each, lambda *_: stopped.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        stopped.wait()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
