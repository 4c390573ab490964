"""One segment of one chunk: a pure function of the run, the chunk, and the state after the segment before.

    (frames, end)_k = Φ(manifest, start, end_{k−1})

A trajectory that is not finite any more, or whose energy drifts beyond the bound, ends: its frames are NaN from then
on, when and why is part of the end state, and the others go on as if it were still there, to the bit.

Shape letters: B systems of a chunk, F frames of the segment, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lie_sim.data.storage import dump_tensors
from lie_sim.distributed.atoms import bound_atoms
from lie_sim.distributed.manifest import Manifest
from lie_sim.distributed.models import Moving
from lie_sim.distributed.segment_file import END, KIND
from lie_sim.distributed.start import ChunkStart
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import AtomicPotential
from lie_sim.rollout.binding import bound_systems
from lie_sim.rollout.chunk import BoundSystem, Chunk
from lie_sim.state import PhaseState

REASONS = ("goes on", "not finite", "energy drift")
"""What the numbers of ``end.reason`` mean."""
DIVERGED, DRIFTED = 1, 2


class ChunkSegments:
    """The segments of one chunk.

    Args:
        manifest: what the run is.
        moving: the Hamiltonian or exact system.
        start: where the systems begin.
    """

    def __init__(self, manifest: Manifest, moving: Moving, start: ChunkStart) -> None:
        self.manifest, self.start = manifest, start
        self.system = bound(moving, start)

    def compute(self, number: int, before: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Frames and end state of a segment, by name.

        Args:
            number: of the segment.
            before: the state after the segment before; None for the first.
        """
        with torch.no_grad(), _threads(self.manifest.threads):
            chunk = self.begin()
            record = _Record(chunk, self.manifest.drift_bound, before)
            if before is not None:
                chunk.restore(dict(before), self.manifest.frames_of(number).start)
            for frame in self.manifest.frames_of(number):
                if frame > 0:
                    chunk.advance(self.manifest.dt, self.manifest.save_every)
                record.add(chunk, frame)
            return record.tensors(chunk)

    def begin(self) -> Chunk:
        """The chunk at its initial state."""
        method, start = self.manifest.integrator(), self.start
        named = method.named_start(start.trajectories, start.q) if method.stochastic else None
        return Chunk(
            self.system,
            method,
            method.dynamics(self.system),
            start.q,
            start.p,
            memory=named or {},
            bound=self.manifest.divergence_bound,
        )


def segment_bytes(
    tensors: Mapping[str, Tensor], *, manifest: str, chunk: int, number: int, after: str
) -> bytes:
    """The file of a segment.

    Args:
        tensors: what :meth:`ChunkSegments.compute` gave.
        manifest: digest of the run.
        chunk: number of the chunk.
        number: of the segment.
        after: digest of the segment before, or of the initial states.
    """
    facts = {"manifest": manifest, "chunk": chunk, "number": number, "after": after}
    return dump_tensors(tensors, facts, kind=KIND)


def bound(moving: Moving, start: ChunkStart) -> BoundSystem:
    """The Hamiltonian or system for the particles of a chunk."""
    state = PhaseState(q=start.q, p=start.p, t=start.t)
    ((_, system),) = bound_systems(moving, state, start.particles, None, None)
    if isinstance(moving, Hamiltonian) and isinstance(moving.potential, AtomicPotential):
        return bound_atoms(moving, start.particles, start.q)
    return system


class _Record:
    """Frames as they come, and who ended when and why."""

    def __init__(self, chunk: Chunk, drift_bound: float | None, before: Mapping[str, Tensor] | None) -> None:
        alive, self.drift_bound = chunk.alive, drift_bound
        self.frames: list[tuple[Tensor, Tensor, Tensor]] = []
        if before is None:
            self.ended = torch.full(alive.shape, -1, dtype=torch.int64)
            self.reason = torch.zeros(alive.shape, dtype=torch.int8)
            self.drift = torch.zeros(alive.shape, dtype=torch.float64)
        else:
            self.ended, self.reason, self.drift = (before[name] for name in ("ended", "reason", "drift"))

    def add(self, chunk: Chunk, frame: int) -> None:
        self._note(~chunk.alive.cpu(), frame, DIVERGED)
        q, p, energy = chunk.frame()
        drift = chunk.drift(energy).cpu()
        if self.drift_bound is not None:
            beyond = chunk.alive.cpu() & (drift > self.drift_bound)
            self._note(beyond, frame, DRIFTED)
            if bool(beyond.any()):
                chunk.alive = chunk.alive & ~beyond.to(chunk.alive.device)
                q, p, energy = chunk.frame()
        self.drift = torch.maximum(self.drift, drift)
        self.frames.append((q, p, energy))

    def tensors(self, chunk: Chunk) -> dict[str, Tensor]:
        q, p, energy = (torch.stack(part, dim=1) for part in zip(*self.frames, strict=True))
        end = chunk.tensors() | {"ended": self.ended, "reason": self.reason, "drift": self.drift}
        return {"q": q, "p": p, "energy": energy} | {f"{END}{name}": x for name, x in end.items()}

    def _note(self, who: Tensor, frame: int, reason: int) -> None:
        new = who & (self.ended < 0)
        self.ended = torch.where(new, frame, self.ended)
        self.reason = torch.where(new, torch.tensor(reason, dtype=torch.int8), self.reason)


@contextmanager
def _threads(count: int) -> Iterator[Any]:
    """So many threads of torch; other numbers of threads round in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
