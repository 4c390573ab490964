"""What a run is: everything that its frames depend on, written once and never changed.

    frames = f(manifest, start),      segment k of chunk c = f(manifest, c, state after segment k − 1)

    segments a chunk   K = ⌈steps / segment_steps⌉
    frames of segment  k·s/e + 1 … (k + 1)·s/e,   s = segment_steps, e = save_every;   the first has frame 0 too

Which trajectory is in which chunk is part of it: a network that is applied to another batch rounds differently, so
retries and more workers may move chunks, but never regroup them.

Shape letters: B systems of a chunk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lie_sim
from lie_sim.errors import ConfigError, DataError
from lie_sim.integrators import Method, get_method
from lie_sim.plain import from_plain, to_plain

NAME = "manifest.json"
FORMAT = 1
_MAY_DIFFER = ("versions", "machine", "motion")
"""What does not make another run: its frames may differ in the last bits."""


@dataclass(frozen=True)
class ChunkEntry:
    """Systems that are advanced together.

    Args:
        size: B.
        start: digest of their initial states, particles and names.
    """

    size: int
    start: str


@dataclass(frozen=True)
class Manifest:
    """The immutable description of a run.

    Args:
        model: what moves the systems: ``kind`` and digest or options; see :mod:`lie_sim.distributed.models`.
        method: name of the integrator.
        method_options: its options.
        dt: length of a step.
        steps: how many.
        save_every: steps from one frame to the next.
        segment_steps: steps of a segment, a multiple of ``save_every``.
        chunks: who is advanced together.
        membership: digest of the table trajectory → chunk, row.
        dtype: of states.
        device: where segments are computed, ``"cpu"`` or ``"cuda"``.
        threads: of torch, for a segment.
        divergence_bound: largest coordinate or momentum that is taken seriously.
        drift_bound: largest drift of the energy of a trajectory; beyond, it ends. None for no bound.
        motion: digest of force, velocity and energy where the first chunk starts.
        machine: what kind of processor began the run.
        versions: of the packages that began the run.
    """

    model: dict[str, Any]
    method: str
    method_options: dict[str, Any]
    dt: float
    steps: int
    save_every: int
    segment_steps: int
    chunks: tuple[ChunkEntry, ...]
    membership: str
    dtype: str
    device: str = "cpu"
    threads: int = 1
    divergence_bound: float = 1e6
    drift_bound: float | None = None
    motion: str = ""
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(to_plain(self), sort_keys=True).encode()).hexdigest()

    @property
    def num_trajectories(self) -> int:
        """Of all chunks."""
        return sum(chunk.size for chunk in self.chunks)

    @property
    def num_frames(self) -> int:
        """Frames of a trajectory, the initial state among them."""
        return self.steps // self.save_every + 1

    @property
    def num_segments(self) -> int:
        """Segments of a chunk."""
        return max(1, -(-self.steps // self.segment_steps))

    def frames_of(self, number: int) -> range:
        """Numbers of the frames of a segment.

        Example:
            >>> frames = {"steps": 50, "save_every": 10, "segment_steps": 20}
            >>> one = Manifest({}, "leapfrog", {}, 0.1, **frames, chunks=(), membership="", dtype="float64")
            >>> [list(one.frames_of(k)) for k in range(one.num_segments)]
            [[0, 1, 2], [3, 4], [5]]
        """
        each = self.segment_steps // self.save_every
        return range(number * each + 1 if number else 0, min((number + 1) * each + 1, self.num_frames))

    def integrator(self) -> Method:
        """The method with its options."""
        return get_method(self.method, **self.method_options)

    def to_bytes(self) -> bytes:
        """The content of ``manifest.json``."""
        return (json.dumps({"digest": self.digest, **to_plain(self)}, indent=1) + "\n").encode()

    @staticmethod
    def load(folder: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            DataError: there is no run in the folder, or the file was altered.
        """
        path = folder / NAME
        if not path.is_file():
            raise DataError(f"no run in {folder}: it has no {NAME}")
        try:
            values = json.loads(path.read_bytes())
            digest, version = values.pop("digest"), values["format"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}): restore it from a copy") from error
        if version != FORMAT:
            raise DataError(f"{path} has format {version}, this version of lie_sim reads format {FORMAT}")
        try:
            found = from_plain(Manifest, values, source=str(path))
        except ConfigError as error:
            raise DataError(f"{path} is damaged: {error}") from error
        if found.digest != digest:
            raise DataError(f"{path} was altered after it was written: its digest does not fit its content")
        return found


def difference(found: Manifest, wanted: Manifest) -> str:
    """What makes a stored run another one, in words; "" if they are the same.

    Example:
        >>> one = Manifest({}, "leapfrog", {}, 0.1, 100, 10, 10, (), "", "float64")
        >>> difference(one, Manifest({}, "pefrl", {}, 0.2, 100, 10, 10, (), "", "float64"))
        "method is 'leapfrog' there and 'pefrl' here; dt is 0.1 there and 0.2 here"
    """
    there, here = to_plain(found), to_plain(wanted)
    names = [name for name in {**there, **here} if name not in _MAY_DIFFER]
    return "; ".join(
        _words(name, there.get(name), here.get(name)) for name in names if there.get(name) != here.get(name)
    )


def _words(name: str, there: Any, here: Any) -> str:
    if name == "membership":
        return "trajectories are in other chunks"
    if name == "chunks":
        counts = [sum(int(chunk["size"]) for chunk in chunks) for chunks in (there, here)]
        if counts[0] != counts[1]:
            return f"there are {counts[0]} initial states there and {counts[1]} here"
        return "the initial states differ, or how many are in a chunk"
    return f"{name} is {there!r} there and {here!r} here"


def versions() -> dict[str, str]:
    """Of the packages whose rounding a run depends on."""
    return {"lie_sim": lie_sim.__version__, "torch": torch.__version__, "numpy": np.__version__}


def missing_device(device: str) -> str:
    """Why PyTorch does not have a device here; empty if it has.

    Example:
        >>> missing_device("cpu"), bool(missing_device("gpu"))
        ('', True)
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return ""


def machine(device: str) -> str:
    """The kind of processor: runs are the same to the bit on one kind.

    Example:
        >>> machine("cpu").startswith("cpu ")
        True
    """
    if torch.device(device).type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def plain_options(method: Method) -> Mapping[str, Any]:
    """The options of a method as values that JSON holds.

    Raises:
        ValueError: the method, or one of its options, cannot be written down.
    """
    options = {name: _plain(value) for name, value in method.options().items() if value is not None}
    try:
        made = get_method(method.name, **json.loads(json.dumps(options)))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{method.name} cannot be written into the manifest of a run ({error}): its options must be plain "
            "numbers and words, its name one of lie_sim.integrators.methods()"
        ) from error
    if made != method:
        raise ValueError(
            f"{method.name} with these coefficients is not the method of that name, so workers could not make it"
        )
    return options


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
