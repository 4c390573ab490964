"""What a worker does with a task: read the state before, compute, commit.

    (folder, chunk, number)  →  a file in the store, and a few words to the driver

Nothing else crosses the wire. A worker that dies loses one segment; one that is asked twice finds the segment there.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from torch import Tensor

from lie_sim.distributed.manifest import Manifest, machine
from lie_sim.distributed.models import load_moving
from lie_sim.distributed.object_store import open_store
from lie_sim.distributed.segment import ChunkSegments, segment_bytes
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.distributed.start import ChunkStart
from lie_sim.distributed.store import SegmentStore
from lie_sim.errors import DataError
from lie_sim.memory import keep_freed_memory

Outcome = Literal["new", "duplicate", "present", "lost"]
_Value = TypeVar("_Value")
_KEPT = 4
"""Chunks that a worker keeps ready."""


@dataclass(frozen=True)
class Report:
    """What a worker tells the driver about a segment.

    Args:
        outcome: ``"new"``; ``"duplicate"``, computed although it was there; ``"present"``, not computed because it was
            there; ``"lost"``, not computed because the segment before is missing or damaged.
        seconds: of computing.
        idle: seconds that the worker had nothing to do before; NaN for its first segment.
        ended: trajectories of the chunk that have ended so far.
        drift: largest drift of the energy of the chunk so far.
        worker: machine and process.
        machine: its kind of processor.
    """

    outcome: Outcome
    seconds: float = 0.0
    idle: float = math.nan
    ended: int = 0
    drift: float = math.nan
    worker: str = ""
    machine: str = ""


class Worker:
    """Computes segments of one run.

    Args:
        location: of the run, a folder or a URL.
        store: where to commit; that of the location if None.
    """

    def __init__(self, location: str | Path, store: SegmentStore | None = None) -> None:
        self.store = store or open_store(location)
        self.manifest: Manifest = self.store.manifest()
        self.digest = self.manifest.digest
        self._machine = machine(self.manifest.device)
        self._moving = load_moving(self.manifest.model, self.store.folder, device=self.manifest.device)
        if self.manifest.device == "cpu":
            keep_freed_memory()
        self._chunks: OrderedDict[int, ChunkSegments] = OrderedDict()
        self._ended_at = math.nan
        self._ends: OrderedDict[int, tuple[int, str, dict[str, Tensor]]] = OrderedDict()

    def run(self, chunk: int, number: int) -> Report:
        """Make sure that a segment is there.

        Raises:
            DataError: the initial states or the model are damaged, or the segment differs from one that is there.
            OSError: it could not be written.
        """
        idle = time.perf_counter() - self._ended_at
        report = self._made(chunk, number)
        self._ended_at = time.perf_counter()
        return replace(report, idle=idle)

    def _made(self, chunk: int, number: int) -> Report:
        there = self._there(chunk, number)
        if there is not None:
            return self._report("present", there.end())
        try:
            after, before = self._before(chunk, number)
        except (FileNotFoundError, DataError):
            self.store.set_aside(chunk, number - 1)
            return self._report("lost", {})
        begun = time.perf_counter()
        tensors = self._chunk(chunk).compute(number, before)
        content = segment_bytes(tensors, manifest=self.digest, chunk=chunk, number=number, after=after)
        seconds = time.perf_counter() - begun
        outcome = self.store.commit(chunk, number, content)
        made = SegmentFile(content, self.store.path(chunk, number))
        _keep(self._ends, chunk, (number, made.digest, made.end()))
        return self._report(outcome, made.end(), seconds)

    def _there(self, chunk: int, number: int) -> SegmentFile | None:
        """The segment, if it is there and whole."""
        if not self.store.has(chunk, number):
            return None
        try:
            found = self.store.read(chunk, number, check=True)
            self._check(found, chunk, number)
        except (FileNotFoundError, DataError):
            self.store.set_aside(chunk, number)
            return None
        return found

    def _before(self, chunk: int, number: int) -> tuple[str, dict[str, Tensor] | None]:
        """Digest and state of what comes before a segment."""
        if number == 0:
            return self.manifest.chunks[chunk].start, None
        kept = self._ends.get(chunk)
        if kept is not None and kept[0] == number - 1:
            return kept[1:]
        found = self.store.read(chunk, number - 1, check=True)
        self._check(found, chunk, number - 1)
        return found.digest, found.end()

    def _check(self, found: SegmentFile, chunk: int, number: int) -> None:
        facts = {"manifest": self.digest, "chunk": chunk, "number": number}
        differing = [name for name, value in facts.items() if found.metadata.get(name) != value]
        if differing:
            raise DataError(
                f"{found.source} is not of this run, chunk and place: {', '.join(differing)} differs"
            )

    def _chunk(self, chunk: int) -> ChunkSegments:
        if chunk not in self._chunks:
            start = ChunkStart.load(self.store.start_path(chunk))
            if start.digest() != self.manifest.chunks[chunk].start:
                raise DataError(
                    f"{self.store.start_path(chunk)} holds other initial states than the manifest names: restore it"
                )
            _keep(
                self._chunks,
                chunk,
                ChunkSegments(self.manifest, self._moving, start.to(self.manifest.device)),
            )
        self._chunks.move_to_end(chunk)
        return self._chunks[chunk]

    def _report(self, outcome: Outcome, end: Mapping[str, Tensor], seconds: float = 0.0) -> Report:
        ended = int((end["ended"] >= 0).sum()) if end else 0
        drift = float(end["drift"].max()) if end else math.nan
        name = f"{socket.gethostname()}:{os.getpid()}"
        return Report(outcome, seconds, ended=ended, drift=drift, worker=name, machine=self._machine)


def _keep(kept: OrderedDict[int, _Value], key: int, value: _Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
