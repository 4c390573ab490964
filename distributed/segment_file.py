"""A segment on disk: frames, the state after them, and what they were computed from.

    safetensors:  q, p (B, F, N, d), energy (B, F)          frames of the segment
                  end.*                                     state after the last of them
    header:       chunk, number, manifest, after            the digests of the run and of what came before

The same segment is the same bytes, whoever computed it: neither times nor names of machines are in it. Reading is
lazy, by mapping the file: a trajectory is a slice of its chunk.

Shape letters: B batch, F frames, N particles, d space dimension.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lie_sim.data.storage import HEADER, parse_header, tensors_digest
from lie_sim.errors import DataError

KIND = "segment"
FRAMES = ("q", "p", "energy")
END = "end."
"""What the names of the state after the frames begin with."""

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


class SegmentFile:
    """A segment that is read as far as it is asked for.

    Args:
        content: the file, in memory or mapped.
        source: its name, for messages.

    Attributes:
        metadata: what the header says about the segment.
        content: the bytes.
        digest: SHA-256 of the tensors, as the header says; :meth:`check` compares.

    Raises:
        DataError: it is cut short, or not a segment.
    """

    def __init__(self, content: Any, source: Path) -> None:
        self.source = source
        self.content = memoryview(content)
        self._entries = self._read_header()
        facts = parse_header(source, self._entries.pop("__metadata__", {}).get(HEADER), KIND)
        self.metadata: dict[str, Any] = facts["metadata"]
        self.digest: str = facts["digest"]

    @classmethod
    def open(cls, path: Path, *, offset: int = 0, length: int | None = None) -> SegmentFile:
        """Map a file, or a part of it.

        Raises:
            DataError: it is cut short, or not a segment.
        """
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise DataError(f"{path} is empty")
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return cls(content[offset : None if length is None else offset + length], path)

    def array(self, name: str) -> np.ndarray:
        """One array, read-only, not copied."""
        entry = self._entries[name]
        begin, end = (self._begin + place for place in entry["data_offsets"])
        return np.frombuffer(self.content[begin:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])

    def tensor(self, name: str) -> Tensor:
        """One tensor, a copy."""
        return torch.from_numpy(self.array(name).copy())

    def end(self) -> dict[str, Tensor]:
        """The state after the frames."""
        return {name.removeprefix(END): self.tensor(name) for name in self._entries if name.startswith(END)}

    @property
    def num_frames(self) -> int:
        """F."""
        return int(self._entries["energy"]["shape"][1])

    def check(self) -> None:
        """Compare the digest with the content.

        Raises:
            DataError: they differ.
        """
        found = tensors_digest({name: self.tensor(name) for name in self._entries})
        if found != self.digest:
            raise DataError(
                f"{self.source} was altered after it was written: its digest should be {self.digest[:16]}…, its "
                f"content has {found[:16]}…"
            )

    def _read_header(self) -> dict[str, Any]:
        size = len(self.content)
        length = int.from_bytes(self.content[:8], "little")
        if size < 8 or length > size - 8:
            raise DataError(f"{self.source} is cut short: it has {size} bytes, too few for its header")
        try:
            entries: dict[str, Any] = json.loads(bytes(self.content[8 : 8 + length]))
            ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.source} has a damaged header: {error}") from error
        self._begin = 8 + length
        if size != self._begin + max(ends, default=0):
            raise DataError(
                f"{self.source} is cut short: it has {size} bytes, its header says {self._begin + max(ends, default=0)}"
            )
        return entries
