"""The segments of a complete chunk in one file: fewer names for the same bytes.

    pack = segment 0 | segment 1 | … | index | length of the index (8 bytes, little-endian)

Each segment begins at a multiple of eight bytes; the index is JSON: [[offset, length], …]. A pack is written once, when
all segments are there, and committed like a segment; then the single files go. Their content stays as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.errors import DataError

_ALIGNMENT = 8
_LENGTH = 8


class Packs:
    """The packs in a folder.

    Args:
        folder: where they are.

    Example:
        >>> Packs(Path("nowhere")).has(0, 0)
        False
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._indices: dict[int, list[list[int]]] = {}

    def path(self, chunk: int) -> Path:
        """The file of a chunk."""
        return self.folder / f"{chunk:06d}.pack"

    def count(self, chunk: int) -> int:
        """How many segments are packed; those of a pack whose index is damaged do not count."""
        try:
            return len(self._index(chunk))
        except DataError:
            return 0

    def has(self, chunk: int, number: int) -> bool:
        """Whether a segment is packed."""
        return number < self.count(chunk)

    def read(self, chunk: int, number: int) -> SegmentFile:
        """A packed segment.

        Raises:
            FileNotFoundError: it is not packed.
            DataError: the pack is damaged.
        """
        index = self._index(chunk)
        if number >= len(index):
            raise FileNotFoundError(f"segment {number} of chunk {chunk} is not there: {self.path(chunk)}")
        offset, length = index[number]
        return SegmentFile.open(self.path(chunk), offset=offset, length=length)

    def _index(self, chunk: int) -> list[list[int]]:
        if not self.path(chunk).exists():
            self._indices.pop(chunk, None)
            return []
        if chunk not in self._indices:
            self._indices[chunk] = read_index(self.path(chunk))
        return self._indices[chunk]


def packed(segments: Sequence[bytes]) -> bytes:
    r"""The content of a pack.

    Example:
        >>> packed([b"one", b"three"])[:16]
        b'one\x00\x00\x00\x00\x00three\x00\x00\x00'
    """
    parts, index, offset = [], [], 0
    for content in segments:
        parts += [content, b"\0" * (-len(content) % _ALIGNMENT)]
        index.append([offset, len(content)])
        offset += len(content) + len(parts[-1])
    table = json.dumps(index).encode()
    return b"".join([*parts, table, len(table).to_bytes(_LENGTH, "little")])


def read_index(path: Path) -> list[list[int]]:
    """Offset and length of every segment of a pack.

    Raises:
        DataError: it is damaged.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _LENGTH))
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > size - _LENGTH:
            raise DataError(f"{path} is cut short")
        file.seek(size - _LENGTH - length)
        try:
            index: list[list[int]] = json.loads(file.read(length))
        except ValueError as error:
            raise DataError(f"{path} has a damaged index: {error}") from error
    if any(offset + count > size for offset, count in index):
        raise DataError(f"{path} is cut short")
    return index
