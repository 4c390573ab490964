"""The segments of a run as immutable files, committed exactly once whatever dies when.

    run/
      manifest.json                 what the run is
      model/                        the model, unless it is an exact system
      membership.safetensors        trajectory → chunk, row
      start/000000.safetensors      initial states and particles of a chunk
      seg/000000/000000.safetensors frames of a segment and the state after them
      quarantine/                   what differs or is damaged, kept for inspection
      tmp/                          files being written; deletable
      events.jsonl                  what happened when; advisory

    commit = write to tmp/, fsync, link to the final name, fsync the folder

Whoever finds the name taken compares: the same bytes are dropped, others are put in quarantine and reported. What is
there is found by listing the folders: there is no index that could be wrong, and no clock is trusted.

Shape letters: C chunks, K segments of a chunk.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Literal

import numpy as np

from lie_sim.distributed.disk import Disk
from lie_sim.distributed.manifest import NAME, Manifest
from lie_sim.distributed.pack import Packs
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.errors import ConfigError, DataError

Committed = Literal["new", "duplicate"]
_SEGMENT = re.compile(r"\d{6}\.safetensors")
_DATA_END = re.compile(rb'"data_offsets":\[\d+,(\d+)\]')
_OF_A_RUN = {"tmp", "start", "seg", "model", "membership.safetensors", "events.jsonl", "lost+found"}
"""What a run that was killed at its very beginning may have left, and a new disk has."""
_HEAD = 4096
"""Bytes that nearly always hold the header of a segment."""


class DifferingSegmentError(DataError):
    """A segment was computed twice, with different results."""


class SegmentStore:
    """Segments in the folder of a run.

    Args:
        folder: where the manifest is.
        disk: file operations; tests put a failing one in its place.

    Attributes:
        packable: whether the segments of a chunk can be put into one file.

    Example:
        >>> import tempfile
        >>> store = SegmentStore(Path(tempfile.mkdtemp()))
        >>> store.commit(0, 0, b"content"), store.commit(0, 0, b"content"), store.has(0, 0)
        ('new', 'duplicate', True)
    """

    packable = True

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        self.folder = folder
        self.disk = disk or Disk()
        self.packs = Packs(folder / "seg")

    @property
    def location(self) -> str | Path:
        """Where the run is, for people and for workers."""
        return self.folder

    def make(self) -> None:
        """The folder, if there is none.

        Raises:
            ConfigError: a file is in its place, or the folder holds something that is of no run.
        """
        if self.folder.is_file():
            raise ConfigError(f"{self.folder} is a file: a run needs a folder of its own")
        there = {each.name for each in self.folder.iterdir()} if self.folder.is_dir() else set()
        others = sorted(name for name in there - _OF_A_RUN if not name.startswith("."))
        if others and NAME not in there:  # with it another process was first
            raise ConfigError(
                f"{self.folder} holds {', '.join(others[:3])}{', …' if len(others) > 3 else ''}: a run needs a folder "
                "of its own"
            )
        self.folder.mkdir(parents=True, exist_ok=True)

    def manifest(self) -> Manifest:
        """What the run is."""
        return Manifest.load(self.folder)

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.folder / NAME).is_file()

    def begin(self, manifest: Manifest) -> Manifest:
        """Write the manifest, last of all; returns the one that is there, should another process have been first."""
        self.write_once(NAME, manifest.to_bytes())
        return self.manifest()

    def write_once(self, name: str, content: bytes) -> None:
        """Write a file of the folder, which appears whole; one that is there stays."""
        temporary = self.temporary()
        try:
            self.disk.write(temporary, content)
            self.disk.link(temporary, self.folder / name)
            self.disk.sync(self.folder)
        finally:
            self.disk.remove(temporary)

    def path(self, chunk: int, number: int) -> Path:
        """The file of a segment that is not packed."""
        return self.folder / "seg" / f"{chunk:06d}" / f"{number:06d}.safetensors"

    def start_path(self, chunk: int) -> Path:
        """The file of the initial states of a chunk."""
        return self.folder / "start" / f"{chunk:06d}.safetensors"

    def has(self, chunk: int, number: int) -> bool:
        """Whether a segment was committed."""
        return self.path(chunk, number).exists() or self.packs.has(chunk, number)

    def commit(self, chunk: int, number: int, content: bytes) -> Committed:
        """Add a segment, once.

        Returns:
            ``"duplicate"`` if the same bytes were there.

        Raises:
            DifferingSegmentError: other bytes were there; ours are in ``quarantine/``.
            OSError: the disk is full, or fails in another way; nothing was added.
        """
        target = self.path(chunk, number)
        temporary = self.temporary()
        try:
            self.disk.write(temporary, content)
            self._make(target.parent)
            while not self.disk.link(temporary, target):
                if _content(target) == content:
                    return "duplicate"
                if not self.set_aside(chunk, number) and target.exists():
                    kept = self._quarantine() / f"{chunk:06d}-{number:06d}.differs-{secrets.token_hex(4)}"
                    self.disk.move(temporary, kept)
                    raise differing(str(kept), chunk, number)
            self.disk.sync(target.parent)
        finally:
            self.disk.remove(temporary)
        return "new"

    def read(self, chunk: int, number: int, *, check: bool = False) -> SegmentFile:
        """A committed segment.

        Args:
            chunk: number of the chunk.
            number: number of the segment.
            check: compare its digest with its content.

        Raises:
            FileNotFoundError: it is not there.
            DataError: it is damaged.
        """
        path = self.path(chunk, number)
        try:
            found = SegmentFile.open(path)
        except FileNotFoundError:
            found = self.packs.read(chunk, number)
        if check:
            found.check()
        return found

    def set_aside(self, chunk: int, number: int) -> bool:
        """Move a damaged segment to ``quarantine/``, to be made again; False if it is not there, or not damaged.

        Where it is packed, the pack goes there and leaves its sound segments as single files.
        """
        path = self.path(chunk, number)
        if not path.exists():
            return self._unpack(chunk, number)
        if self._is_whole(path):
            return False
        kept = self._quarantine() / f"{chunk:06d}-{number:06d}.damaged-{secrets.token_hex(4)}"
        return self.disk.move(path, kept)

    def _unpack(self, chunk: int, number: int) -> bool:
        """Take a pack apart, if this segment of it is damaged."""
        pack, sound = self.packs.path(chunk), dict[int, bytes]()
        for k in range(self.packs.count(chunk)):
            with contextlib.suppress(DataError, FileNotFoundError):
                found = self.packs.read(chunk, k)
                found.check()
                sound[k] = bytes(found.content)
        if not pack.exists() or number in sound:
            return False
        for k, content in sound.items():
            self.commit(chunk, k, content)
        kept = self._quarantine() / f"{pack.name}.damaged-{secrets.token_hex(4)}"
        return self.disk.move(pack, kept)

    def scan(self, num_chunks: int, num_segments: int) -> np.ndarray:
        """Which segments are there, shape (C, K); files whose length is not what their header says do not count.

        The header is not read where another file of the chunk that is sound is as long.
        """
        present = np.zeros((num_chunks, num_segments), dtype=bool)
        for chunk in range(num_chunks):
            present[chunk, : self.packs.count(chunk)] = True
            try:
                entries = os.scandir(self.folder / "seg" / f"{chunk:06d}")
            except FileNotFoundError:
                continue
            sizes = set[int]()
            with entries:
                for entry in entries:
                    if not _SEGMENT.fullmatch(entry.name) or int(entry.name[:6]) >= num_segments:
                        continue
                    size = entry.stat().st_size
                    if size in sizes or has_its_length(entry.path):
                        sizes.add(size)
                        present[chunk, int(entry.name[:6])] = True
        return present

    def quarantined(self) -> list[str]:
        """Names of what is in quarantine."""
        return sorted(path.name for path in (self.folder / "quarantine").glob("*"))

    def remove_leftovers(self) -> int:
        """Delete what processes of this machine that are no longer there left in ``tmp/``; returns how many files."""
        count, host = 0, socket.gethostname()
        for path in (self.folder / "tmp").glob("*~*~*"):
            name, process, _ = path.name.rsplit("~", 2)
            if name == host and process.isdigit() and not _is_running(int(process)):
                self.disk.remove(path)
                count += 1
        return count

    def temporary(self) -> Path:
        """A name for a file that is being written: machine, process, and something random."""
        folder = self.folder / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{socket.gethostname()}~{os.getpid()}~{secrets.token_hex(8)}"

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.disk.sync(folder.parent)

    def _quarantine(self) -> Path:
        folder = self.folder / "quarantine"
        folder.mkdir(exist_ok=True)
        return folder

    def _is_whole(self, path: Path) -> bool:
        try:
            SegmentFile.open(path).check()
        except FileNotFoundError:
            return True  # another process has moved it meanwhile
        except DataError:
            return False
        return True


def differing(kept: str, chunk: int, number: int) -> DifferingSegmentError:
    """The error that tells where the second result is kept."""
    return DifferingSegmentError(
        f"segment {number} of chunk {chunk} was computed again, with another result: the first is kept, the other "
        f"is {kept}. The machines, their number of threads or the versions of lie_sim and torch differ, or a "
        "model draws random numbers; use workers of one kind"
    )


def has_its_length(path: str | Path) -> bool:
    """Whether a file is as long as its header says; reads the header only.

    A file that was linked is complete, unless the power failed and the disk lies about fsync, or someone cut it.
    """
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a hundred thousand times
        head, size = file.read(_HEAD), os.fstat(file.fileno()).st_size
        length = int.from_bytes(head[:8], "little")
        if not 2 <= length <= size - 8:
            return False
        if length + 8 > len(head):
            head += file.read(length + 8 - len(head))
    ends = _DATA_END.findall(head, 8, 8 + length)
    return size == 8 + length + max(map(int, ends), default=0)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # another process has set it aside meanwhile
        return None


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
