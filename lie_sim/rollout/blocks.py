"""The blocks of a run as files: which are there, which are missing, and the state that follows them.

    block-000000000.safetensors, …    named by their first frame f; frames f … f + F − 1, and the state after them

A block appears under its name only when it is complete, flushed and handed over, so whoever is told of frames is told
of each of them at least once, however often the process dies. Frames that are missing in the middle can be made again
from the state after those before them, to the same bits.

Shape letters: F frames of a block.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.errors import DataError
from lie_sim.files import replacing
from lie_sim.rollout.frames import Frames

_KIND = "rollout block"
_NAME = re.compile(r"block-\d{9}\.safetensors")
_FRAMES = ("times", "q", "p", "energy")


class Blocks:
    """The files of a run's blocks.

    Args:
        directory: where they are, or will be.

    Example:
        >>> import tempfile
        >>> blocks = Blocks(Path(tempfile.mkdtemp()))
        >>> blocks.num_frames(), blocks.gaps(), blocks.state_after(0)
        (0, [], ({}, 0))
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def files(self) -> list[tuple[int, Path]]:
        """First frame and file of each block, in order."""
        return sorted((_first(path), path) for path in self.directory.iterdir() if _NAME.fullmatch(path.name))

    def num_frames(self) -> int:
        """Frames up to the end of the last block."""
        files = self.files()
        return files[-1][0] + _length(files[-1][1]) if files else 0

    def gaps(self) -> list[tuple[int, int]]:
        """First and last of the frames that are missing before a block that is there.

        Raises:
            DataError: a block before the last is damaged, or begins inside another.
        """
        found, expected, files = [], 0, self.files()
        for number, (first, path) in enumerate(files):
            if first < expected:
                raise DataError(
                    f"{path} begins at frame {first}, inside the block before it, which ends at {expected - 1}: remove "
                    "the one that does not belong to this run"
                )
            if first > expected:
                found.append((expected, first - 1))
            expected = first + _length(path) if number + 1 < len(files) else 0
        return found

    def read(self, path: Path) -> tuple[Frames, dict[str, Tensor]]:
        """The frames of a block, and the state after them.

        Raises:
            DataError: the file is damaged.
        """
        tensors, _ = load_tensors(path, kind=_KIND)
        end = {name.removeprefix("end."): x for name, x in tensors.items() if name.startswith("end.")}
        return Frames(_first(path), *(tensors[name] for name in _FRAMES)), end

    def write(
        self, frames: Frames, end: Mapping[str, Tensor], hand_over: Callable[[Frames], None] | None
    ) -> None:
        """Add a block; it is not there if handing it over raises."""
        tensors = {name: getattr(frames, name) for name in _FRAMES}
        tensors |= {f"end.{name}": value for name, value in end.items()}
        path = self.directory / f"block-{frames.first:09d}.safetensors"
        if hand_over is None:
            save_tensors(path, tensors, {}, kind=_KIND)
            return
        with replacing(path) as pending:
            save_tensors(pending, tensors, {}, kind=_KIND)  # before the frames are in other hands
            hand_over(frames)

    def state_after(self, frames: int) -> tuple[dict[str, Tensor], int]:
        """The state after the blocks that follow on without a gap, and the number of frames before it.

        Args:
            frames: number of frames before these blocks; if none follows, the result is ({}, frames). A damaged one
                at the end of them is set aside.
        """
        last, done = None, frames
        for first, path in self.files():
            if first == done:
                last, done = path, first + _length(path)
        if last is None:
            return {}, frames
        try:
            return self.read(last)[1], done
        except DataError:
            _set_aside(last)
            return self.state_after(frames)

    def set_damaged_aside(self) -> None:
        """Rename blocks that are no complete files, so that they are made again."""
        for _, path in self.files():
            try:
                _length(path)
            except DataError:
                _set_aside(path)


def _first(path: Path) -> int:
    return int(path.name[len("block-") :].split(".")[0])


def _set_aside(path: Path) -> None:
    path.rename(path.with_suffix(".damaged"))


def _length(path: Path) -> int:
    """F, from the head of the file alone."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return int(file.get_slice("times").get_shape()[0])
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is damaged ({error}): continue the run in this directory, which makes it again"
        ) from error
