"""Labels of structures as immutable records, one for each structure, in the store of runs.

    store/
      labels.json                   options, versions, digests of the structures
      start/000000.json             the structures of a chunk
      seg/000000/000003.safetensors the record of a structure: its frames as extended XYZ, or why there are none
      quarantine/  tmp/  events.jsonl

Chunk c holds the structures c·n … c·n + n − 1. A record is committed once, whatever dies when; what is there is found
by listing the folders, as in :mod:`lie_sim.distributed.store`.

Shape letters: C chunks, n structures of a chunk, S structures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import jsonio

from lie_sim.data.labelling import LabelConfig, Labelled, input_arrays
from lie_sim.data.storage import dump_tensors
from lie_sim.distributed.segment_file import KIND
from lie_sim.distributed.store import Committed, SegmentStore
from lie_sim.errors import DataError
from lie_sim.files import write_atomically
from lie_sim.models.atomic import GLOBAL_INPUTS
from lie_sim.plain import from_plain

NAME = "labels.json"
FORMAT = 1


@dataclass(frozen=True)
class LabelManifest:
    """What fixes the labels of a folder.

    Args:
        options: of the labels, a plain :class:`~lie_sim.data.labelling.LabelConfig`.
        version: of the calculator.
        chunk: structures of a task.
        structures: digest of each.
        starts: digest of the file of each chunk.
        format: of the folder.
    """

    options: dict[str, Any]
    version: dict[str, str]
    chunk: int
    structures: tuple[str, ...]
    starts: tuple[str, ...]
    format: int = FORMAT

    @property
    def config(self) -> LabelConfig:
        """The options."""
        return from_plain(LabelConfig, self.options, source=NAME)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()

    def numbers(self, chunk: int) -> range:
        """The structures of a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, len(self.structures)))

    def to_bytes(self) -> bytes:
        """The content of ``labels.json``."""
        return (json.dumps({"digest": self.digest, **vars(self)}, indent=1) + "\n").encode()

    @staticmethod
    def load(folder: Path) -> LabelManifest:
        """Read ``labels.json``.

        Raises:
            DataError: there are no labels in the folder, or the file was altered.
        """
        path = folder / NAME
        if not path.is_file():
            raise DataError(f"no labels in {folder}: it has no {NAME}")
        try:
            values = json.loads(path.read_bytes())
            digest = values.pop("digest")
            names = {field.name for field in fields(LabelManifest)}
            if values.get("format") != FORMAT or set(values) != names:
                raise ValueError(
                    f"it has format {values.get('format')}, this version of lie_sim reads {FORMAT}"
                )
            lists = {name: tuple(values[name]) for name in ("structures", "starts")}
            found = LabelManifest(**(values | lists))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}): restore it from a copy") from error
        if found.digest != digest:
            raise DataError(f"{path} was altered after it was written: its digest does not fit its content")
        return found


class LabelStore:
    """Structures and their records in a folder.

    Args:
        folder: where they are.
        records: how they are kept; made from the folder if None.

    Attributes:
        manifest: what fixes the labels.
        digest: of it.

    Raises:
        DataError: there are none.
    """

    def __init__(self, folder: Path, *, records: SegmentStore | None = None) -> None:
        self.folder = folder
        self.records = records or SegmentStore(folder)
        self.manifest = LabelManifest.load(folder)
        self.digest = self.manifest.digest

    @staticmethod
    def begin(records: SegmentStore, manifest: LabelManifest, starts: Sequence[bytes]) -> None:
        """Write the structures, and last of all the manifest; one that is there stays.

        Structures without a manifest are of a process that died, and are replaced.
        """
        (records.folder / "start").mkdir(exist_ok=True)
        for chunk, content in enumerate(starts):
            write_atomically(start_path(records.folder, chunk), content)
        records.write_once(NAME, manifest.to_bytes())

    def structures(self, chunk: int) -> list[Atoms]:
        """The structures of a chunk.

        Raises:
            DataError: they are not those of the manifest.
        """
        path = start_path(self.folder, chunk)
        content = path.read_bytes()
        if digest_of(content) != self.manifest.starts[chunk]:
            raise DataError(f"{path} holds other structures than {NAME} names: restore it")
        return [_atoms(**each) for each in jsonio.decode(content.decode())]

    def present(self) -> np.ndarray:
        """Which records are there, shape (S,)."""
        found = self.records.scan(len(self.manifest.starts), self.manifest.chunk)
        return found.reshape(-1)[: len(self.manifest.structures)]

    def commit(self, chunk: int, number: int, labelled: Labelled) -> Committed:
        """Add the record of a structure, once.

        Raises:
            DifferingSegmentError: another one was there; ours is in ``quarantine/``.
            OSError: it could not be written.
        """
        return self.records.commit(chunk, number, self._content(chunk, number, labelled))

    def read(self, chunk: int, number: int) -> Labelled:
        """The record of a structure.

        Raises:
            FileNotFoundError: it is not there.
            DataError: it is damaged, or of other structures.
        """
        found = self.records.read(chunk, number, check=True)
        facts = dict(found.metadata)
        place = {name: facts.pop(name, None) for name in ("manifest", "chunk", "number")}
        if place != {"manifest": self.digest, "chunk": chunk, "number": number}:
            raise DataError(f"{found.source} is not a record of these labels, or not of this place")
        return Labelled(text=found.array("text").tobytes().decode(), **facts)

    def _content(self, chunk: int, number: int, labelled: Labelled) -> bytes:
        text = torch.from_numpy(np.frombuffer(labelled.text.encode(), np.uint8).copy())
        facts = {"frames": labelled.frames, "dropped": labelled.dropped, "error": labelled.error}
        place = {"manifest": self.digest, "chunk": chunk, "number": number}
        return dump_tensors({"text": text}, facts | place, kind=KIND)


def start_path(folder: Path, chunk: int) -> Path:
    """The file of the structures of a chunk."""
    return folder / "start" / f"{chunk:06d}.json"


def start_bytes(structures: Sequence[Atoms]) -> bytes:
    """The file of the structures of a chunk; numbers are kept to the bit.

    Example:
        >>> start_bytes([Atoms("H")])[:14]
        b'[{"numbers": {'
    """
    plain = [
        {
            "numbers": atoms.numbers,
            "positions": atoms.positions,
            "cell": np.asarray(atoms.cell),
            "pbc": atoms.pbc,
            "info": {name: atoms.info[name] for name in GLOBAL_INPUTS if name in atoms.info},
        }
        | ({"arrays": arrays} if (arrays := input_arrays(atoms)) else {})
        for atoms in structures
    ]
    return str(jsonio.encode(plain)).encode()


def _atoms(*, arrays: dict[str, np.ndarray] | None = None, **known: Any) -> Atoms:
    atoms = Atoms(**known)
    atoms.arrays |= arrays or {}
    return atoms


def digest_of(content: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(content).hexdigest()
