"""Tracks cut into segments, their starts, and motions of segments as those of tracks again.

Shape letters: S segments, W times of a segment, T times of a track, N particles, d space dimension, M measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lie_sim.fitting.gaps import Filled
from lie_sim.fitting.shooting import Shooting, segment_tensors
from lie_sim.fitting.table import Track
from lie_sim.state import Particles

_SLOPE_POINTS = 3
"""On each side of a time, from which a velocity is read off."""


class Segments:
    """How tracks are cut.

    Args:
        tracks: in units of their spread and pace.
        dim: components of a position.
        particles: one system.
        steps: intervals of a segment.
    """

    def __init__(self, tracks: Sequence[Track], dim: int, particles: Particles, steps: int) -> None:
        self.tracks, self.dim, self.particles, self.steps = tuple(tracks), dim, particles, steps
        self.counts = [-(-(len(each.times) - 1) // steps) for each in tracks]
        self.step_size = min(0.05, float(np.median([spacing(each) for each in tracks])) / 2)
        """Of the integrator: half the spacing of the observations, but no more than a twentieth of the unit of time. By
        what leapfrog is off the energy is wrong."""

    @property
    def lasts(self) -> Tensor:
        """Numbers of the last segments of the tracks."""
        return torch.tensor(self.counts).cumsum(0) - 1

    def tensors(self, filled: Sequence[Filled], noise: float, *, trusted: bool) -> dict[str, Tensor]:
        """What :class:`~lie_sim.fitting.shooting.ShootingTask` takes; gaps count only where they are ``trusted``."""
        parts: list[dict[str, Tensor]] = []
        for track, filling, first in zip(self.tracks, filled, np.cumsum([0, *self.counts]), strict=False):
            beside = 1 / (noise**2 + 2 * filling.scale**2) if trusted else np.zeros_like(filling.scale)
            weights = np.where(np.isfinite(track.values), 1 / noise**2, beside)
            values, weighted, times = (torch.from_numpy(x) for x in (filling.values, weights, track.times))
            parts.append(
                segment_tensors(values, weighted, times, self.particles, steps=self.steps, first=int(first))
            )
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def starts(self, filled: Sequence[Filled]) -> tuple[Tensor, Tensor]:
        """Positions and momenta at the starts, each (S, N, d)."""
        places, speeds = [], []
        for track, filling, count in zip(self.tracks, filled, self.counts, strict=True):
            for begin in range(0, count * self.steps, self.steps):
                q, v = _line(track.times, filling.values[..., : self.dim], begin)
                measured = filling.values[begin, :, self.dim :]
                places.append(q)
                speeds.append(measured if measured.size else v)
        momenta = torch.from_numpy(np.stack(speeds)) * self.particles.masses[0, :, None]
        return torch.from_numpy(np.stack(places)), momenta

    def many(self, count: int) -> Particles:
        """So many systems of the particles."""
        return self.particles[torch.zeros(count, dtype=torch.long)]

    def measured(self, q: Tensor, p: Tensor) -> Tensor:
        """Positions, and velocities where they were observed, (…, N, M)."""
        velocity = p / self.particles.masses[0, :, None]
        return torch.cat([q, velocity], dim=-1)[..., : self.tracks[0].values.shape[-1]]

    @torch.no_grad()
    def moved(self, shooting: Shooting, times: Tensor) -> list[np.ndarray]:
        """The motion of every track, (T, N, M); ``times`` of the segments, (S, W)."""
        every = torch.arange(sum(self.counts))
        q, p = shooting.motion(every, times, self.many(len(every)), step_size=self.step_size)
        rows = self.measured(q, p).numpy()
        found = []
        for track, count, end in zip(self.tracks, self.counts, np.cumsum(self.counts), strict=True):
            part = rows[end - count : end]
            line = np.concatenate([part[:, :-1].reshape(-1, *part.shape[2:]), part[-1, -1:]])
            found.append(line[: len(track.times)])
        return found

    def refilled(self, shooting: Shooting) -> tuple[list[Filled], float]:
        """Gaps as the motion fills them, and the root mean square of what is left of observed positions."""
        blank = [Filled(np.zeros_like(each.values), np.zeros_like(each.values)) for each in self.tracks]
        lines = self.moved(shooting, self.tensors(blank, 1.0, trusted=False)["times"])
        off = [(line - each.values) for line, each in zip(lines, self.tracks, strict=True)]
        left = np.concatenate(
            [
                np.full(
                    self.dim, np.sqrt(np.nanmean(np.concatenate([x[..., kind].ravel() for x in off]) ** 2))
                )
                for kind in (slice(None, self.dim), slice(self.dim, None))[: off[0].shape[-1] // self.dim]
            ]
        )
        filled = []
        for line, track in zip(lines, self.tracks, strict=True):
            there = np.isfinite(track.values)
            scale = np.where(there, 0.0, left / np.sqrt(2))
            filled.append(Filled(np.where(there, track.values, line), scale))
        return filled, float(left[0])


def spacing(track: Track) -> float:
    """Median time between two observations of the same particle: particles may be seen at times of their own.

    Example:
        >>> x = np.array([[1, np.nan], [np.nan, 1], [1, np.nan], [np.nan, 1]])[..., None]
        >>> spacing(Track("", np.array([0.0, 0.1, 1.0, 1.1]), x))
        1.0
    """
    seen = np.isfinite(track.values).any(-1).T
    between = np.concatenate([np.diff(track.times[there]) for there in seen])
    return float(np.median(between if between.size else np.diff(track.times)))


def _line(times: np.ndarray, q: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities at a time, by a parabola through those around it, each (N, d)."""
    near = slice(max(0, at - _SLOPE_POINTS), at + _SLOPE_POINTS + 1)
    t = times[near] - times[at]
    degree = min(2, len(t) - 1)
    fitted = np.polynomial.polynomial.polyfit(t / np.abs(t).max(), q[near].reshape(len(t), -1), degree)
    return fitted[0].reshape(q.shape[1:]), (fitted[1] / np.abs(t).max()).reshape(q.shape[1:])
