"""A store without physics, whose disk and workers fail when told to: the same code, a thousand times faster.

A segment holds a hash of what came before it: a wrong order, a lost or a doubled segment changes everything after it.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lie_sim.data.storage import dump_tensors
from lie_sim.distributed.disk import Disk
from lie_sim.distributed.executors import Result
from lie_sim.distributed.schedule import Task
from lie_sim.distributed.segment_file import KIND
from lie_sim.distributed.store import SegmentStore
from lie_sim.distributed.worker import Report
from lie_sim.errors import DataError


class Killed(BaseException):
    """SIGKILL: nothing that would clean up runs after it."""


POINTS = ("before write", "in write", "after write", "before link", "after link", "after sync")
"""Where a process can be killed while it commits."""


class FailingDisk(Disk):
    """A disk of one process, which is killed at a given point, or is full."""

    def __init__(self) -> None:
        super().__init__(durable=False)
        self.kill_at: str | None = None
        self.full = False
        self.dead = False

    def write(self, path: Path, content: bytes) -> None:
        self._pass("before write")
        if self.full:
            path.write_bytes(content[: len(content) // 2])
            self.remove(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.kill_at == "in write":
            path.write_bytes(content[: len(content) // 2])
        self._pass("in write")
        super().write(path, content)
        self._pass("after write")

    def link(self, source: Path, target: Path) -> bool:
        self._pass("before link")
        made = super().link(source, target)
        self._pass("after link")
        return made

    def sync(self, folder: Path) -> None:
        self._pass()
        self._pass("after sync")

    def remove(self, path: Path) -> None:
        self._pass()
        super().remove(path)

    def _pass(self, point: str = "") -> None:
        if point and self.kill_at == point:
            self.dead = True
        if self.dead:
            raise Killed(point)


class HashWorker:
    """What a worker does, with a hash in place of a simulation."""

    def __init__(self, folder: Path, disk: Disk | None = None, seen: Callable[[Task], None] = lambda _: None):
        self.store = SegmentStore(folder, disk=disk or FailingDisk())
        self.seen = seen

    def run(self, chunk: int, number: int) -> Report:
        if self.store.has(chunk, number):
            try:
                self.store.read(chunk, number, check=True)
                return Report("present")
            except DataError:
                self.store.set_aside(chunk, number)
        try:
            before = self.store.read(chunk, number - 1, check=True).digest if number else "start"
        except (FileNotFoundError, DataError):
            self.store.set_aside(chunk, number - 1)
            return Report("lost")
        self.seen(Task(chunk, number))
        return Report(self.store.commit(chunk, number, content(before, chunk, number)))


@cache
def content(before: str, chunk: int, number: int) -> bytes:
    """A segment that depends on all before it."""
    hashed = hashlib.sha256(f"{before} {chunk} {number}".encode()).digest()
    tensors = {"energy": torch.frombuffer(bytearray(hashed), dtype=torch.uint8)[None]}
    return dump_tensors(tensors, {"chunk": chunk, "number": number}, kind=KIND)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every committed segment, by name."""
    root = folder / "seg"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.safetensors"))}


class ChaoticExecutor:
    """Workers, some of which are killed while they commit; results come in any order, some of them twice.

    Args:
        folder: of the store.
        capacity: tasks at a time.
        fate: called with a task before it runs; says where to kill, ``"full"``, ``"twice"`` or ``""``.
        pick: called with a number n; says which of n finished tasks is reported next.
        seen: told of every segment that is computed.
    """

    def __init__(
        self,
        folder: Path,
        capacity: int,
        fate: Callable[[Task], str],
        pick: Callable[[int], int],
        seen: Callable[[Task], None],
    ) -> None:
        self.folder, self.capacity, self.fate, self.pick, self.seen = folder, capacity, fate, pick, seen
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self) -> list[Result]:
        task = self.tasks.pop(self.pick(len(self.tasks)))
        result = self._computed(task)
        twice = isinstance(result, Report) and self.pick(4) == 0
        return [(task, result)] * (2 if twice else 1)

    def tell(self, event: str, **facts: Any) -> None:
        pass

    def close(self) -> None:
        self.tasks.clear()

    def _computed(self, task: Task) -> Report | Exception:
        """As a cluster does it: a task whose worker died is given to another one."""
        while True:
            fate, disk = self.fate(task), FailingDisk()
            disk.kill_at, disk.full = fate if fate in POINTS else None, fate == "full"
            try:
                report = HashWorker(self.folder, disk, self.seen).run(*task)
                return HashWorker(self.folder, seen=self.seen).run(*task) if fate == "twice" else report
            except Killed:
                continue
            except OSError as error:
                return error


def serial(folder: Path, chunks: int, segments: int) -> dict[str, bytes]:
    """What an undisturbed run leaves."""
    worker = HashWorker(folder)
    for chunk, number in np.ndindex(chunks, segments):
        worker.run(chunk, number)
    return snapshot(folder)
