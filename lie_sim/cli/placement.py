"""Where a command trains: the options ``--workers``, ``--address`` and ``--device``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from lie_sim.cli.errors import UsageError


@dataclass(frozen=True)
class Placement:
    """Here, or on workers of Ray.

    Args:
        workers: their number, or the smallest and the largest as in ``2:8``; ``0`` for this process.
        address: of the cluster; None for this machine.
        device: "cpu" or "cuda".

    Raises:
        UsageError: it is no number of workers, or an address without workers.

    Example:
        >>> Placement("2:8").words()
        ['--workers', '2:8']
    """

    workers: str = "0"
    address: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d+(:\d+)?", self.workers):
            raise UsageError(
                f"--workers must be a number, or the smallest and the largest as in 2:8; got {self.workers!r}"
            )
        if self.here and self.address is not None:
            raise UsageError(f"--address {self.address} needs --workers: say how many are to train there")

    @property
    def here(self) -> bool:
        """Whether it is this process."""
        return self.workers == "0"

    def options(self) -> dict[str, Any]:
        """As :func:`lie_sim.distributed.train` takes it; workers have as many threads as this process."""
        if self.here:
            return {"device": self.device}
        smallest, _, largest = self.workers.partition(":")
        workers = (int(smallest), int(largest)) if largest else int(smallest)
        return {
            "workers": workers,
            "address": self.address,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }

    def words(self) -> list[str]:
        """The options again."""
        where = [] if self.here else ["--workers", self.workers]
        where += [] if self.address is None else ["--address", self.address]
        return where + ([] if self.device == "cpu" else ["--device", self.device])
