"""What is in a folder, trajectories or labels: what an executor must know of it, and who computes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lie_sim.distributed.label_store import NAME, LabelManifest
from lie_sim.distributed.label_worker import LabelWorker
from lie_sim.distributed.manifest import Manifest
from lie_sim.distributed.worker import Report, Worker


@runtime_checkable
class AnyWorker(Protocol):
    """Computes tasks of one folder."""

    def run(self, chunk: int, number: int) -> Report:
        """Make sure that a task is done."""


@dataclass(frozen=True)
class Job:
    """What an executor must know of a folder.

    Args:
        digest: of its manifest.
        on_gpu: whether a task needs a GPU.
        threads: processors of a task.
    """

    digest: str
    on_gpu: bool
    threads: int


def job_of(folder: Path) -> Job:
    """What is in a folder.

    Raises:
        DataError: nothing.
    """
    if (folder / NAME).is_file():
        return Job(LabelManifest.load(folder).digest, on_gpu=False, threads=1)
    manifest = Manifest.load(folder)
    return Job(manifest.digest, manifest.device.startswith("cuda"), manifest.threads)


def worker_of(folder: Path) -> AnyWorker:
    """Who computes it.

    Raises:
        DataError: there is nothing to compute.
    """
    return LabelWorker(folder) if (folder / NAME).is_file() else Worker(folder)
