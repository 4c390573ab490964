"""Where the systems of a chunk begin, in memory and as a file.

Shape letters: B systems of a chunk, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from torch import Tensor

from lie_sim.data.storage import load_tensors, save_tensors, tensors_digest
from lie_sim.state import Particles

_KIND = "initial states of a chunk"
_PARTICLES, _INFO = "particles.", "info."


@dataclass(frozen=True)
class ChunkStart:
    """Where the systems of a chunk begin.

    Args:
        q: positions, shape (B, N, d).
        p: momenta, shape (B, N, d).
        particles: what they are.
        trajectories: numbers of the trajectories, int64, shape (B,); they key the noise.
        t: time at which each begins, shape (B,), float64; None means 0. It matters to what depends on time.
        info: what structures say of themselves by name, charge and spin, shape (B,); NaN where one says nothing.
    """

    q: Tensor
    p: Tensor
    particles: Particles
    trajectories: Tensor
    t: Tensor | None = None
    info: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name."""
        values = {entry.name: getattr(self.particles, entry.name) for entry in fields(Particles)}
        own = {"q": self.q, "p": self.p, "trajectories": self.trajectories}
        own |= {} if self.t is None else {"t": self.t}
        own |= {f"{_INFO}{name}": x for name, x in self.info.items()}
        return own | {f"{_PARTICLES}{name}": x for name, x in values.items() if x is not None}

    def to(self, device: str) -> ChunkStart:
        """The same on a device."""
        q, p, names = (x.to(device) for x in (self.q, self.p, self.trajectories))
        t = None if self.t is None else self.t.to(device)
        return ChunkStart(q, p, self.particles.to(device=device), names, t, self.info)

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
        particles, info = _those(tensors, _PARTICLES), _those(tensors, _INFO)
        return ChunkStart(
            tensors["q"],
            tensors["p"],
            Particles(**particles),
            tensors["trajectories"],
            tensors.get("t"),
            info,
        )


def _those(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
