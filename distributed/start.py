"""Where the systems of a chunk begin, in memory and as a file.

Shape letters: B systems of a chunk, N particles, d space dimension.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from lie_sim.data.storage import load_tensors, save_tensors, tensors_digest
from lie_sim.state import Particles

_KIND = "initial states of a chunk"
_PARTICLES = "particles."


@dataclass(frozen=True)
class ChunkStart:
    """Where the systems of a chunk begin.

    Args:
        q: positions, shape (B, N, d).
        p: momenta, shape (B, N, d).
        particles: what they are.
        trajectories: numbers of the trajectories, int64, shape (B,); they key the noise.
    """

    q: Tensor
    p: Tensor
    particles: Particles
    trajectories: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name."""
        values = {entry.name: getattr(self.particles, entry.name) for entry in fields(Particles)}
        own = {"q": self.q, "p": self.p, "trajectories": self.trajectories}
        return own | {f"{_PARTICLES}{name}": x for name, x in values.items() if x is not None}

    def to(self, device: str) -> ChunkStart:
        """The same on a device."""
        q, p, names = (x.to(device) for x in (self.q, self.p, self.trajectories))
        return ChunkStart(q, p, self.particles.to(device=device), names)

    def digest(self) -> str:
        """SHA-256 of all of it."""
        return tensors_digest(self.tensors())

    def save(self, path: Path) -> None:
        """Write a file of its own."""
        save_tensors(path, self.tensors(), {}, kind=_KIND)

    @staticmethod
    def load(path: Path) -> ChunkStart:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: it is missing or damaged.
        """
        tensors, _ = load_tensors(path, kind=_KIND)
        values = {
            name.removeprefix(_PARTICLES): x for name, x in tensors.items() if name.startswith(_PARTICLES)
        }
        return ChunkStart(tensors["q"], tensors["p"], Particles(**values), tensors["trajectories"])
