"""What happens after the fitted part of every track, and how far off it is where it was observed.

Shape letters: T times, F times of the forecast, K tracks, N particles, M measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lie_sim.fitting.gaps import Filled
from lie_sim.fitting.segments import Segments, spacing
from lie_sim.fitting.shooting import Shooting
from lie_sim.fitting.table import Track
from lie_sim.integrators import odeint

_SLOPE_TIMES = 4
"""Last observations of a particle, from which those that go straight on have their velocity."""


@dataclass(frozen=True)
class FittedTrack:
    """What came out for a track, in the units of the table.

    Args:
        name: of the track.
        times: of the observations, shape (T,).
        observed: which values were, shape (T, N, M).
        values: observed, or filled in, shape (T, N, M).
        scale: mean absolute error to expect of what was filled in, 0 elsewhere.
        fitted: how many of the times were fitted; the others are held out.
        future: times of the forecast, from the last fitted one on.
        forecast: positions, and velocities if they were observed, shape (F, N, M).
    """

    name: str
    times: np.ndarray
    observed: np.ndarray
    values: np.ndarray
    scale: np.ndarray
    fitted: int
    future: np.ndarray
    forecast: np.ndarray

    def in_units(self, seen: Track, time: float, factors: np.ndarray, centre: np.ndarray) -> FittedTrack:
        """The same in the units of the table; what was observed is as it was observed, to the bit.

        Args:
            seen: the track as it was read.
            time: τ.
            factors: of the measurements, shape (M,).
            centre: from which they were counted, shape (M,).
        """
        held = len(self.times) - self.fitted
        future = self.future * time + seen.times[0]
        future[: held + 1] = seen.times[self.fitted - 1 :]
        return FittedTrack(
            self.name,
            seen.times,
            self.observed,
            np.where(self.observed, seen.values, self.values * factors + centre),
            self.scale * factors,
            self.fitted,
            future,
            self.forecast * factors + centre,
        )


def forecasts(
    segments: Segments,
    shooting: Shooting,
    tracks: Sequence[Track],
    filled: Sequence[Filled],
    beyond: float,
) -> tuple[list[FittedTrack], dict[str, float]]:
    """All tracks, and root mean square errors of the positions that were held out, if there are any.

    Args:
        segments: of the ends of the fitted parts.
        shooting: fitted to them.
        tracks: whole.
        filled: their fitted parts.
        beyond: time after the end of each, in parts of its time.
    """
    futures = [_future(track, len(part.values), beyond) for track, part in zip(tracks, filled, strict=True)]
    moved = _motions(segments, shooting, futures)
    found = []
    for track, part, future, motion in zip(tracks, filled, futures, moved, strict=True):
        end = len(part.values)
        values = np.concatenate([part.values, track.values[end:]])
        scale = np.concatenate([part.scale, np.zeros_like(track.values[end:])])
        seen = np.isfinite(track.values)
        found.append(FittedTrack(track.name, track.times, seen, values, scale, end, future, motion))
    return found, _errors(found, segments.dim)


def _future(track: Track, end: int, beyond: float) -> np.ndarray:
    """Times from the last fitted one on: those that were held out, then some more."""
    step = spacing(track)
    count = round(beyond * (track.times[-1] - track.times[0]) / step)
    return np.concatenate([track.times[end - 1 :], track.times[-1] + step * np.arange(1, count + 1)])


@torch.no_grad()
def _motions(segments: Segments, shooting: Shooting, futures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Positions, and velocities, at these times of each track, from the start of its last segment."""
    lasts, times = segments.lasts, []
    length = max(map(len, futures))
    for track, count, future in zip(segments.tracks, segments.counts, futures, strict=True):
        begin = track.times[(count - 1) * segments.steps]
        more = future[-1] + spacing(track) * np.arange(
            1, length - len(future) + 1
        )  # all together, so none may be shorter
        times.append(np.concatenate([[begin], future, more]))
    q, p = odeint(
        shooting.hamiltonian.bind(segments.many(len(times))),
        (shooting.q[lasts], shooting.p[lasts]),
        torch.from_numpy(np.stack(times, axis=1)),
        method="leapfrog",
        options={"step_size": segments.step_size},
    )
    measured = segments.measured(q, p)[1:].numpy()
    return [measured[: len(future), k] for k, future in enumerate(futures)]


def _latest(track: FittedTrack, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The last observed position of each particle, its velocity by the last few, and when that was."""
    last, velocity, since = [], [], []
    for k in range(track.values.shape[1]):
        there = np.flatnonzero(track.observed[: track.fitted, k, :dim].all(-1))[-_SLOPE_TIMES:]
        t, q = track.times[there], track.values[there, k, :dim]
        last.append(q[-1])
        velocity.append(np.polynomial.polynomial.polyfit(t - t[-1], q, 1)[1])
        since.append(t[-1])
    return np.array(last), np.array(velocity), np.array(since)


def _errors(tracks: Sequence[FittedTrack], dim: int) -> dict[str, float]:
    """Of the forecast, of particles that stay where they were, and of those that go straight on."""
    off: dict[str, list[np.ndarray]] = {"forecast": [], "forecast_at_rest": [], "forecast_straight": []}
    for track in tracks:
        held, end = len(track.times) - track.fitted, track.fitted - 1
        if not held:
            continue
        true = np.where(track.observed[end + 1 :], track.values[end + 1 :], np.nan)[..., :dim]
        last, velocity, since = _latest(track, dim)
        ahead = track.times[end + 1 :, None, None] - since[:, None]
        for name, guess in (
            ("forecast", track.forecast[1 : held + 1, :, :dim]),
            ("forecast_at_rest", last),
            ("forecast_straight", last + ahead * velocity),
        ):
            off[name].append(
                (guess - true)[np.isfinite(true)]
            )  # a guess that is not finite has no finite error
    joined = {name: np.concatenate(parts) for name, parts in off.items() if parts}
    return {name: float(np.sqrt(np.mean(x**2))) for name, x in joined.items() if x.size}
