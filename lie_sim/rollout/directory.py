"""A run on disk: a manifest and one file per block of frames, each with the state that the next block starts from.

    rollout.json            what the run is: digests of model, initial state and particles, method, steps
    block-000000000.safetensors, …    named by their first frame: times, q, p, energy, and the end state

A block appears under its name only when it is complete and flushed. So whenever a process dies, the blocks that are
there are a run up to some time, and the next process continues from the last of them, to the same bits.

Shape letters: B batch, F frames, N particles, d space dimension.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.errors import ConfigError, DataError
from lie_sim.files import write_atomically
from lie_sim.rollout.frames import Frames, RolloutResult
from lie_sim.rollout.manifest import explanation

_MANIFEST = "rollout.json"
_KIND = "rollout block"
_BLOCK = re.compile(r"block-(\d{9})\.safetensors")
_FRAMES = ("times", "q", "p", "energy")


class StoredRollout:
    """The blocks of a run in a directory, in order; read one at a time.

    Args:
        directory: where :meth:`Rollout.run` wrote.

    Raises:
        DataError: there is no run, or a block in the middle is missing.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        if not (self.directory / _MANIFEST).is_file():
            raise DataError(f"no rollout in {self.directory}: it has no {_MANIFEST}")

    @property
    def num_frames(self) -> int:
        """Frames stored, the initial state among them."""
        return (
            self._blocks()[-1][0] + len(self._load(self._blocks()[-1][1])[0]["times"])
            if self._blocks()
            else 0
        )

    def blocks(self) -> Iterator[Frames]:
        """The frames, block by block."""
        expected = 0
        for first, path in self._blocks():
            if first != expected:
                raise DataError(f"{self.directory}: frames {expected} to {first - 1} are missing")
            tensors, _ = self._load(path)
            expected += len(tensors["times"])
            yield Frames(first, *(tensors[name] for name in _FRAMES))

    def load(self) -> RolloutResult:
        """All frames at once."""
        blocks = list(self.blocks())
        if not blocks:
            raise DataError(f"{self.directory} has no frames yet")
        q, p, energy = (
            torch.cat([getattr(block, name) for block in blocks], 1) for name in ("q", "p", "energy")
        )
        alive = self.last_state()[0]["alive"]
        return RolloutResult(torch.cat([block.times for block in blocks]), q, p, energy, diverged=~alive)

    def last_state(self) -> tuple[dict[str, Tensor], int]:
        """What the next block starts from, and the number of frames before it; ({}, 0) if there is no block.

        A last block that is damaged is left out, with those before it unharmed.
        """
        for first, path in reversed(self._blocks()):
            try:
                tensors, _ = self._load(path)
            except DataError:
                path.rename(path.with_suffix(".damaged"))
                continue
            end = {name.removeprefix("end."): x for name, x in tensors.items() if name.startswith("end.")}
            return end, first + len(tensors["times"])
        return {}, 0

    def write(self, frames: Frames, end: Mapping[str, Tensor]) -> None:
        """Add a block; called by the runner."""
        tensors = {name: getattr(frames, name) for name in _FRAMES}
        tensors |= {f"end.{name}": value for name, value in end.items()}
        save_tensors(self.directory / f"block-{frames.first:09d}.safetensors", tensors, {}, kind=_KIND)

    @classmethod
    def open(cls, directory: str | Path, manifest: Mapping[str, Any]) -> StoredRollout:
        """The run of this manifest in a directory, begun if there is none.

        Raises:
            ConfigError: the directory holds another run; the message names what differs.
        """
        path = Path(directory) / _MANIFEST
        if not path.is_file() and any(Path(directory).glob("block-*.safetensors")):
            raise DataError(
                f"{directory} has blocks of a rollout but no {_MANIFEST}, so whose they are is unknown"
            )
        if not path.is_file():
            write_atomically(path, (json.dumps(dict(manifest), indent=2) + "\n").encode())
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path} is damaged: {error}") from error
        if not isinstance(found, dict):
            raise DataError(f"{path} is damaged: it should hold a JSON object, not {type(found).__name__}")
        differing = [key for key in {**manifest, **found} if manifest.get(key) != found.get(key)]
        if differing:
            raise ConfigError(
                f"{directory} holds another run: {', '.join(differing)} "
                f"{'differs' if len(differing) == 1 else 'differ'}{explanation(differing, found)}; use another "
                "directory, or delete this one"
            )
        return cls(directory)

    @staticmethod
    def remove(directory: str | Path) -> None:
        """Delete the run in a directory, if there is one, and nothing else that is there."""
        folder = Path(directory)
        for pattern in ("block-*.safetensors", "block-*.damaged", ".block-*", _MANIFEST):  # the manifest last
            for path in folder.glob(pattern):
                path.unlink()

    def _blocks(self) -> list[tuple[int, Path]]:
        found = [(match, path) for path in self.directory.iterdir() if (match := _BLOCK.fullmatch(path.name))]
        return sorted((int(match[1]), path) for match, path in found)

    @staticmethod
    def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return load_tensors(path, kind=_KIND)
