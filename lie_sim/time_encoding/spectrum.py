"""The strongest periods of a signal that was sampled at irregular times.

    P(ω) = Σ_channels  ‖y‖² − min_{a,b,c} ‖y − a cos ωt − b sin ωt − c‖²        (Lomb–Scargle, floating mean)

One frequency after the other: the highest peak of P, then all found so far are refined together by least squares, and
what they explain is taken away. Frequencies closer than 2π / (duration) cannot be told apart.

Shape letters: S samples, K frequencies.
References: Scargle, Astrophys. J. 263 (1982) 835; Zechmeister, Kürster, Astron. Astrophys. 496 (2009) 577 (floating
mean); Golub, Pereyra, SIAM J. Numer. Anal. 10 (1973) 413 (variable projection).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import lombscargle

OVERSAMPLING = 5
"""Points of the search for each resolved frequency."""
_FEWEST = 8
"""Samples."""
_NOTHING = 1e-20
"""Share of the sum of squares that is rounding."""


@dataclass(frozen=True)
class Spectrum:
    """What was found.

    Args:
        frequencies: angular, the strongest first, shape (K,).
        explained: share of the variance that all frequencies up to this one explain, shape (K,).
        resolution: smallest difference of two frequencies that the samples tell apart, 2π over their duration.
    """

    frequencies: np.ndarray
    explained: np.ndarray
    resolution: float

    @property
    def periods(self) -> np.ndarray:
        """2π/ω, shape (K,)."""
        return 2 * math.pi / self.frequencies


def spectral_frequencies(
    times: np.ndarray,
    values: np.ndarray,
    count: int,
    *,
    shortest_period: float | None = None,
    longest_period: float | None = None,
) -> Spectrum:
    """The strongest periods of one or more signals together.

    Args:
        times: of the samples, in any order and at any distances, shape (S,).
        values: the signals, shape (S, …); samples with a NaN in any of them are left out.
        count: K.
        shortest_period: None means twice the median distance of times.
        longest_period: None means the duration.

    Raises:
        ValueError: there are too few samples or no room between the two periods, the signals are constant, or there
            are fewer than K frequencies in them.

    Example:
        >>> t = np.random.default_rng(1).uniform(0, 100, 400)
        >>> found = spectral_frequencies(t, np.cos(1.3 * t) + 0.5 * np.sin(3.1 * t), 2)
        >>> found.frequencies.round(3).tolist(), bool(found.explained[-1] > 0.999)
        ([1.3, 3.1], True)
    """
    t, y = _cleaned(times, values, count)
    duration = float(np.ptp(t))
    gaps = np.diff(np.unique(t))
    shortest = 2 * float(np.median(gaps)) if shortest_period is None else shortest_period
    longest = duration if longest_period is None else longest_period
    if not 0 < shortest < longest:
        raise ValueError(
            f"periods from {shortest:g} to {longest:g} leave nothing to look for: the samples last {duration:g}, "
            f"with a median distance of {float(np.median(gaps)):g}"
        )
    t = t - t.mean()  # phases of a late start lose digits
    step = 2 * math.pi / duration / OVERSAMPLING
    grid = np.arange(2 * math.pi / longest, 2 * math.pi / shortest + step, step)
    found, explained, left = np.empty(0), [], y
    for number in range(count):
        if np.square(left).sum() <= _NOTHING * np.square(y).sum():
            raise ValueError(f"{number} frequencies explain all of the signal: ask for no more")
        found = _refined(t, y, np.append(found, _highest(t, left, grid)), low=grid[0] / 2)
        left = y - _fitted(t, y, found)
        explained.append(1 - float(np.square(left).sum() / np.square(y).sum()))
    return Spectrum(found, np.array(explained), 2 * math.pi / duration)


def _cleaned(times: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and signals of mean 0, shapes (S,) and (S, C)."""
    t, y = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if t.ndim != 1 or y.shape[:1] != t.shape:
        raise ValueError(
            f"times must have shape (S,) and values (S, …) of the same samples, got {t.shape} and {y.shape}"
        )
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    y = y.reshape(len(t), -1)
    kept = np.isfinite(t) & np.isfinite(y).all(1)
    t, y = t[kept], y[kept]
    if len(np.unique(t)) < max(_FEWEST, 4 * count):
        raise ValueError(
            f"{count} frequencies need at least {max(_FEWEST, 4 * count)} samples at different times, got "
            f"{len(np.unique(t))} without a NaN"
        )
    y = y - y.mean(0)
    if not np.square(y).sum() > 0:
        raise ValueError("the signals are constant: there is no period in them")
    return t, y


def _highest(t: np.ndarray, y: np.ndarray, grid: np.ndarray) -> float:
    """The frequency of the grid with the largest power, of all signals together."""
    power = sum(lombscargle(t, signal, grid, floating_mean=True) for signal in y.T if np.square(signal).sum())
    return float(grid[int(np.argmax(power))])


def _waves(t: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """1, cos ωt, sin ωt, shape (S, 2K + 1)."""
    phase = t[:, None] * omega
    return np.concatenate([np.ones((len(t), 1)), np.cos(phase), np.sin(phase)], axis=1)


def _fitted(t: np.ndarray, y: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """What waves of these frequencies explain, shape (S, C)."""
    waves = _waves(t, omega)
    fitted: np.ndarray = waves @ np.linalg.lstsq(waves, y, rcond=None)[0]
    return fitted


def _refined(t: np.ndarray, y: np.ndarray, omega: np.ndarray, *, low: float) -> np.ndarray:
    """The frequencies near these that explain most, amplitudes being eliminated."""
    width = 2 * math.pi / np.ptp(t)
    scale = math.sqrt(float(np.square(y).sum()))
    found = least_squares(
        lambda shift: ((y - _fitted(t, y, omega + width * shift)) / scale).ravel(),
        np.zeros(len(omega)),
        bounds=(np.maximum(-1.0, (low - omega) / width - 1e-9), 1.0),
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-14,
    )
    refined: np.ndarray = omega + width * found.x
    return refined
