"""A run on disk: a manifest and one file per block of frames, each with the state that the next block starts from.

    rollout.json            what the run is: digests of model, initial state and particles, method, steps
    block-000000000.safetensors, …    named by their first frame: times, q, p, energy, and the end state

Whenever a process dies, the blocks that are there are a run up to some time, and the next process continues from the
last of them, to the same bits. Blocks that were lost later are noticed, and made again by a run that is continued.

Shape letters: B batch, F frames, N particles, d space dimension.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lie_sim.errors import ConfigError, DataError
from lie_sim.files import write_atomically
from lie_sim.rollout.blocks import Blocks
from lie_sim.rollout.frames import Frames, RolloutResult
from lie_sim.rollout.manifest import difference

_MANIFEST = "rollout.json"
_BLOCKS = ("block-*.safetensors", "block-*.damaged", ".block-*", "..block-*")
"""Blocks, and what a process that died in the middle of one leaves behind."""


class StoredRollout:
    """The blocks of a run in a directory, in order; read one at a time.

    Args:
        directory: where :meth:`Rollout.run` wrote.

    Raises:
        DataError: there is no run, or a block in the middle is missing or damaged; the run that is continued in this
            directory makes it again.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        if not (self.directory / _MANIFEST).is_file():
            raise DataError(f"no rollout in {self.directory}: it has no {_MANIFEST}")
        self._blocks = Blocks(self.directory)
        gaps = [f"{first} to {last}" for first, last in self._blocks.gaps()]
        if gaps:
            raise DataError(
                f"{self.directory}: frames {', '.join(gaps)} are missing; continue the run in this directory "
                "(Rollout.run, or lie-sim rollout, as it was begun), which makes them again"
            )

    @property
    def num_frames(self) -> int:
        """Frames stored, the initial state among them."""
        return self._blocks.num_frames()

    def blocks(self) -> Iterator[Frames]:
        """The frames, block by block.

        Raises:
            DataError: a block is damaged.
        """
        for _, path in self._blocks.files():
            yield self._blocks.read(path)[0]

    def load(self) -> RolloutResult:
        """All frames at once.

        Raises:
            DataError: a block is damaged, or there is none.
        """
        blocks = list(self.blocks())
        if not blocks:
            raise DataError(f"{self.directory} has no frames yet")
        q, p, energy = (
            torch.cat([getattr(block, name) for block in blocks], 1) for name in ("q", "p", "energy")
        )
        alive = self._blocks.read(self._blocks.files()[-1][1])[1]["alive"]
        return RolloutResult(torch.cat([block.times for block in blocks]), q, p, energy, diverged=~alive)

    @staticmethod
    def open(directory: str | Path, manifest: Mapping[str, Any]) -> Blocks:
        """The blocks of the run of this manifest, which is begun if there is none; damaged ones are set aside.

        Raises:
            ConfigError: the directory holds another run; the message names what differs.
            DataError: the manifest is damaged or missing.
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
        differs = difference(found, manifest)
        if differs:
            raise ConfigError(
                f"{directory} holds another run: {differs}; use another directory, or delete this one"
            )
        blocks = Blocks(Path(directory))
        blocks.set_damaged_aside()
        return blocks

    @staticmethod
    def remove(directory: str | Path) -> None:
        """Delete the run in a directory, if there is one, and nothing else that is there."""
        folder = Path(directory)
        for pattern in (*_BLOCKS, _MANIFEST):  # the manifest last
            for path in folder.glob(pattern):
                path.unlink()
