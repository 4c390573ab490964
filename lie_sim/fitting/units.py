"""Numbers about 1: observations in units of their own spread and pace.

    q′ = q / s,   t′ = t / τ,   v′ = v τ / s,        s: spread of positions, τ = s / typical speed
    with masses m′ = m / ⟨m⟩:   p′ = m′ v′,   H = ⟨m⟩ (s/τ)² H′

Reference: Press and others, "Numerical Recipes", 3rd ed., §15.1 (fits want parameters of one size).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lie_sim.errors import DataError
from lie_sim.fitting.table import Track


@dataclass(frozen=True)
class Units:
    """What 1 is.

    Args:
        length: s, in the unit of the table.
        time: τ, likewise.

    Example:
        >>> Units(2.0, 0.5).factors(1, velocities=True).tolist()
        [2.0, 4.0]
    """

    length: float
    time: float

    @property
    def speed(self) -> float:
        """S / τ."""
        return self.length / self.time

    def factors(self, dim: int, *, velocities: bool) -> np.ndarray:
        """Of each measurement, shape (M,)."""
        return np.array([self.length] * dim + [self.speed] * (dim if velocities else 0))


def units_of(tracks: Sequence[Track], dim: int) -> Units:
    """The spread of all positions about the mean of their track, and the time in which particles move as far.

    Args:
        tracks: in the units of the table.
        dim: components of a position.

    Raises:
        DataError: nothing moves.
    """
    positions = [each.values[..., :dim] for each in tracks]
    spread = [x - np.nanmean(x, axis=(0, 1)) for x in positions]
    length = float(np.sqrt(np.nanmean(np.concatenate([x.ravel() for x in spread]) ** 2)))
    speed = _speed(tracks, dim, length)
    if not (length > 0 and speed > 0):
        raise DataError("nothing moves: all positions are the same")
    return Units(length, length / speed)


def _speed(tracks: Sequence[Track], dim: int, length: float) -> float:
    """Root mean square of a component of the velocity.

    Without velocities, over the shortest time in which positions change by half of their spread: over shorter ones the
    noise of observations may be larger than the motion.
    """
    velocities = np.concatenate([each.values[..., dim:].ravel() for each in tracks])
    velocities = velocities[np.isfinite(velocities)]
    if np.any(velocities):
        return float(np.sqrt(np.mean(velocities**2)))
    series = [
        (track.times[there], column[there])
        for track in tracks
        for column in track.values[..., :dim].reshape(len(track.times), -1).T
        if (there := np.isfinite(column)).sum() > 1
    ]
    lag, longest = 1, max(len(t) for t, _ in series)
    while True:
        changes = [(t[lag:] - t[:-lag], x[lag:] - x[:-lag]) for t, x in series if len(t) > lag]
        duration, change = (np.concatenate(part) for part in zip(*changes, strict=True))
        moved = float(np.sqrt(np.mean(change**2)))
        if moved >= length / 2 or 2 * lag >= longest:
            return moved / float(np.mean(duration))
        lag *= 2
