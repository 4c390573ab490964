"""Our modules that use Ray, imported when Ray is connected."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from lie_sim.distributed.cluster import cluster
from lie_sim.errors import MissingPackageError


@contextmanager
def with_ray(module: str, address: str | None, *, processors: int | None) -> Iterator[Any]:
    """A module of this package, and Ray connected inside the block.

    Ray decides on which addresses to listen when it is imported, so its environment must be there first. Its training
    and its searches leave their own answers to signals behind; those from before are there again after the block.

    Args:
        module: name in this package.
        address: of Ray; None for the one that is in use, or one of this machine that ends with the block.
        processors: of a Ray of this machine; None for all.

    Raises:
        MissingPackageError: Ray is there without what the module needs.
        ClusterError: Ray cannot be reached.
    """
    ray = sys.modules.get("ray")
    with _signals_kept(), ExitStack() as stack:
        if address is not None or ray is None or not ray.is_initialized():
            stack.enter_context(cluster(address or "local", workers=processors))
        try:
            found = importlib.import_module(f"lie_sim.distributed.{module}")
        except ImportError as error:
            raise MissingPackageError(
                f"training and searches on Ray need its parts for them ({error}): pip install 'lie_sim[train]'"
            ) from error
        yield found


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Answer Ctrl-C after the block as before it; only the main thread may say how."""
    here = threading.current_thread() is threading.main_thread()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGUSR1)} if here else {}
    try:
        yield
    finally:
        for each, answer in before.items():
            signal.signal(each, answer)
