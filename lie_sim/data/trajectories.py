"""Trajectories of many systems on one uniform grid of times, in memory and on disk.

Shape letters: S systems, T times, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.data.storage import load_tensors, save_tensors, tensors_digest
from lie_sim.errors import DataError
from lie_sim.state import Particles, PhaseState
from lie_sim.systems.base import System

_KIND = "trajectories"
_PARTICLES = "particles."
_UNIFORM = 1e-6  # of a time step: float32 grids round by less


@dataclass(frozen=True)
class Trajectories:
    """Positions and momenta of S systems at T times.

    Args:
        q: positions, shape (S, T, N, d).
        p: momenta, shape (S, T, N, d).
        times: shape (T,), uniform; shared by all systems.
        particles: what the particles are; its batch axis is S.
        metadata: how they were made: anything JSON can hold.

    Example:
        >>> from lie_sim.systems import Springs
        >>> times = torch.linspace(0, 1, 101, dtype=torch.float64)
        >>> data = make_trajectories(Springs(), 4, seed=0, times=times)
        >>> data.q.shape, round(data.dt, 9)
        (torch.Size([4, 101, 6, 2]), 0.01)
        >>> data.chunks(5, generator=torch.Generator().manual_seed(0)).q.shape
        torch.Size([4, 5, 6, 2])
    """

    q: Float[Tensor, "S T N d"]
    p: Float[Tensor, "S T N d"]
    times: Float[Tensor, " T"]
    particles: Particles
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.q.ndim != 4 or self.q.shape != self.p.shape:
            raise ValueError(
                "q and p must have the same shape (S, T, N, d); "
                f"got {tuple(self.q.shape)} and {tuple(self.p.shape)}"
            )
        if self.times.shape != self.q.shape[1:2]:
            raise ValueError(
                f"times must have shape (T,) = ({self.q.shape[1]},), got {tuple(self.times.shape)}"
            )
        if self.particles.masses.shape != (self.q.shape[0], self.q.shape[2]):
            raise ValueError(
                f"particles must have shape (S, N) = ({self.q.shape[0]}, {self.q.shape[2]}), "
                f"got {tuple(self.particles.masses.shape)}"
            )

    def __len__(self) -> int:
        """S, the number of systems."""
        return self.q.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Trajectories:
        """Select systems by a slice, by indices or by a boolean mask."""
        return replace(self, q=self.q[index], p=self.p[index], particles=self.particles[index])

    @property
    def num_times(self) -> int:
        """T."""
        return self.q.shape[1]

    @property
    def dt(self) -> float:
        """The time step of the uniform grid."""
        if self.num_times < 2:
            raise ValueError("a time step needs at least two times, there is one")
        steps = self.times.diff()
        step = (self.times[-1] - self.times[0]) / (self.num_times - 1)
        rounding = 4 * torch.finfo(self.times.dtype).eps * float(self.times.abs().max())
        if float((steps - step).abs().max()) > _UNIFORM * abs(float(step)) + rounding:
            raise ValueError(f"times are not uniform: steps run from {steps.min():g} to {steps.max():g}")
        return float(step)

    def require_finite(self) -> None:
        """Refuse numbers that are not finite, before anything is learned from them.

        Raises:
            DataError: a position, momentum or time is NaN or infinite; the message says where.
        """
        if not bool(self.times.isfinite().all()):
            raise DataError("a time of the trajectories is not finite")
        for name, x in (("q", self.q), ("p", self.p)):
            bad = (~x.isfinite()).nonzero()
            if len(bad):
                system, time, particle, axis = bad[0].tolist()
                raise DataError(
                    f"{len(bad):,} numbers of {name} are not finite, the first at system {system}, time {time}, "
                    f"particle {particle}, coordinate {axis}: leave these systems out, or mend them"
                )

    def state(self, index: int) -> PhaseState:
        """All systems at the time ``times[index]``."""
        time = self.times[index].expand(len(self))
        return PhaseState(q=self.q[:, index], p=self.p[:, index], t=time)

    def to(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Trajectories:
        """Move to a device and, for the floating-point tensors, to a dtype."""
        move: Callable[[Tensor], Tensor] = lambda x: x.to(device=device, dtype=dtype)  # noqa: E731
        particles = self.particles.to(device=device, dtype=dtype)
        return replace(self, q=move(self.q), p=move(self.p), times=move(self.times), particles=particles)

    def split(self, *sizes: int) -> tuple[Trajectories, ...]:
        """Consecutive, disjoint parts of the given sizes; what is left over is dropped."""
        if min(sizes, default=0) < 1 or sum(sizes) > len(self):
            raise ValueError(f"sizes must be positive and sum to at most {len(self)}, got {sizes}")
        ends = torch.tensor(sizes).cumsum(0).tolist()
        return tuple(self[end - size : end] for end, size in zip(ends, sizes, strict=True))

    def chunks(self, length: int, *, generator: torch.Generator) -> Trajectories:
        """One random aligned chunk of each trajectory, as in the LieTransformer protocol.

        A trajectory is cut into ⌊T/length⌋ pieces of ``length`` points, and one piece is drawn uniformly; the
        start state of a chunk is therefore a state of the motion, not of the initial distribution.

        Returns:
            Trajectories of T = ``length``. The pieces begin at different times, so ``times`` counts from 0.
        """
        if not 1 <= length <= self.num_times:
            raise ValueError(f"length must be between 1 and T = {self.num_times}, got {length}")
        count = self.num_times // length
        start = length * torch.randint(count, (len(self),), generator=generator, device=generator.device)
        index = start.to(self.q.device)[:, None] + torch.arange(length, device=self.q.device)
        rows = torch.arange(len(self), device=self.q.device)[:, None]
        return replace(
            self,
            q=self.q[rows, index],
            p=self.p[rows, index],
            times=self.times[:length] - self.times[0],
            metadata={**self.metadata, "chunk_length": length},
        )

    def windows(self, length: int, *, stride: int | None = None) -> Trajectories:
        """Every window of ``length`` points, beginning every ``stride`` points (None: ``length``).

        Returns:
            Trajectories of T = ``length`` and S·count systems, the windows of a system next to each other.
        """
        step = length if stride is None else stride
        if not 1 <= length <= self.num_times or step < 1:
            raise ValueError(
                f"length must be between 1 and T = {self.num_times} and stride at least 1; "
                f"got {length} and {step}"
            )
        index = torch.arange(0, self.num_times - length + 1, step)[:, None] + torch.arange(length)
        return replace(
            self,
            q=self.q[:, index].flatten(0, 1),
            p=self.p[:, index].flatten(0, 1),
            times=self.times[:length] - self.times[0],
            particles=self.particles.expand(len(index)),
            metadata={**self.metadata, "window_length": length, "window_stride": step},
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names they have on disk."""
        named = {_PARTICLES + f.name: getattr(self.particles, f.name) for f in fields(self.particles)}
        present = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        return {"q": self.q, "p": self.p, "times": self.times, **present}

    def digest(self) -> str:
        """SHA-256 of all tensors; equal digests mean bit-identical data."""
        return tensors_digest(self.tensors())

    def save(self, path: str | Path) -> str:
        """Write one safetensors file, atomically, and return the digest of its tensors."""
        return save_tensors(Path(path), self.tensors(), self.metadata, kind=_KIND)

    @classmethod
    def load(cls, path: str | Path) -> Trajectories:
        """Read what :meth:`save` wrote.

        Raises:
            lie_sim.errors.DataError: the file is missing, damaged, or holds something else.
        """
        tensors, metadata = load_tensors(Path(path), kind=_KIND)
        del metadata["digest"]
        of_particles = {
            name.removeprefix(_PARTICLES): value
            for name, value in tensors.items()
            if name.startswith(_PARTICLES)
        }
        return cls(tensors["q"], tensors["p"], tensors["times"], Particles(**of_particles), metadata)


def make_trajectories(
    system: System, num_systems: int, *, seed: int, times: Float[Tensor, " T"] | None = None
) -> Trajectories:
    """Sample systems and solve them: the same arguments give the same bytes.

    Args:
        system: any ground-truth system.
        num_systems: S.
        seed: of the initial states and particles.
        times: uniform grid, shape (T,), float64; None takes ``system.default_times()``.
    """
    grid = system.default_times() if times is None else times
    state, particles = system.sample(num_systems, generator=torch.Generator().manual_seed(seed))
    q, p = system.trajectory(state, particles, grid)
    metadata = {"system": system.name, "options": system.options(), "seed": seed}
    return Trajectories(q, p, grid, particles, metadata)
