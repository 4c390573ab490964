"""What is at a place, trajectories or labels: what an executor must know of it, and who computes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lie_sim.distributed.label_store import NAME, LabelManifest
from lie_sim.distributed.label_worker import LabelWorker
from lie_sim.distributed.manifest import Manifest
from lie_sim.distributed.object_store import open_store
from lie_sim.distributed.worker import Report, Worker


@runtime_checkable
class AnyWorker(Protocol):
    """Computes tasks of one place."""

    def run(self, chunk: int, number: int) -> Report:
        """Make sure that a task is done."""


@dataclass(frozen=True)
class Job:
    """What an executor must know.

    Args:
        digest: of its manifest.
        on_gpu: whether a task needs a GPU.
        threads: processors of a task.
        segments: of a chunk.
        run: the manifest, where trajectories are computed.
    """

    digest: str
    on_gpu: bool
    threads: int
    segments: int = 1
    run: Manifest | None = None


def job_of(location: str | Path) -> Job:
    """What is in a folder, or at a URL.

    Raises:
        DataError: nothing.
    """
    if _has_labels(location):
        return Job(LabelManifest.load(Path(location)).digest, on_gpu=False, threads=1)
    manifest = open_store(location).manifest()
    return Job(
        manifest.digest,
        on_gpu=manifest.device.startswith("cuda"),
        threads=manifest.threads,
        segments=manifest.num_segments,
        run=manifest,
    )


def worker_of(location: str | Path) -> AnyWorker:
    """Who computes it.

    Raises:
        DataError: there is nothing to compute.
    """
    return LabelWorker(Path(location)) if _has_labels(location) else Worker(location)


def _has_labels(location: str | Path) -> bool:
    return (Path(location) / NAME).is_file()
