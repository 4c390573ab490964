"""Simple estimates of what is missing: from the same series at other times, and from other places at the same time.

    linear     x(t₋) + (t − t₋) (x(t₊) − x(t₋)) / (t₊ − t₋),      t₋, t₊ the observations next to t; at an end the one
    cubic      Hermite polynomial between the same, slopes by three points (Catmull–Rom at unequal distances)
    places     mean over the other places at the same time, each less its own mean, plus the mean of this series
    difference the same, plus how far this series was off it before and after, linear in between
    mean       of the series

An observation enters its own estimate by the mean of its series and by the slopes beside it, what is missing not at
all. Every estimate is finite: where there is nothing to go by it is the mean, and 0 where the series has none. They are
baselines, and what :class:`~lie_sim.imputation.CDSA` begins with.

Shape letters: B windows, T times, L places (particles, stations), M measurements, K estimates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NAMES = ("linear", "cubic", "places", "difference", "mean")


@dataclass(frozen=True)
class Observations:
    """Windows of measurements, some of which are missing.

    Args:
        values: shape (B, T, L, M); what stands where nothing was observed does not matter, NaN included.
        observed: shape (B, T, L, M).
        times: rising, shape (B, T).

    Raises:
        ValueError: the shapes do not fit, times do not rise, or an observed value is not finite.

    Example:
        >>> x = torch.tensor([1.0, torch.nan, 3.0]).reshape(1, 3, 1, 1)
        >>> Observations.of(x, torch.arange(3.0)[None]).observed.flatten().tolist()
        [True, False, True]
    """

    values: Float[Tensor, "B T L M"]
    observed: Bool[Tensor, "B T L M"]
    times: Float[Tensor, "B T"]

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.observed.shape != self.values.shape:
            raise ValueError(
                "values and observed must both have shape (B, T, L, M), got "
                f"{tuple(self.values.shape)} and {tuple(self.observed.shape)}"
            )
        if self.times.shape != self.values.shape[:2]:
            raise ValueError(
                f"times must have shape (B, T) = {tuple(self.values.shape[:2])}, got {tuple(self.times.shape)}"
            )
        if not bool((self.times.diff(dim=1) > 0).all()):
            raise ValueError(
                "times must rise from each to the next: sort them, and join what has the same time"
            )
        if not bool(torch.where(self.observed, self.values, 0.0).isfinite().all()):
            raise ValueError("an observed value is NaN or infinite: mark it as not observed")

    @staticmethod
    def of(
        values: Float[Tensor, "B T L M"] | np.ndarray, times: Float[Tensor, "B T"] | np.ndarray
    ) -> Observations:
        """Of values that are NaN where nothing was observed; arrays of NumPy are taken as well."""
        found, at = torch.as_tensor(values), torch.as_tensor(times)
        return Observations(found, ~found.isnan(), at if at.is_floating_point() else at.to(found))

    def hiding(self, hidden: Bool[Tensor, "B T L M"]) -> Observations:
        """The same without some of the observations."""
        return Observations(self.values, self.observed & ~hidden, self.times)

    @property
    def known(self) -> Float[Tensor, "B T L M"]:
        """Values, 0 where nothing was observed."""
        return torch.where(self.observed, self.values, 0.0)


@dataclass(frozen=True)
class Neighbours:
    """The observations next to every entry, in its own series.

    Args:
        before: index of the last one before it, −1 if there is none, shape (B, T, L, M).
        after: index of the first one after it, T if there is none.
    """

    before: Int[Tensor, "B T L M"]
    after: Int[Tensor, "B T L M"]


def neighbours(observed: Bool[Tensor, "B T L M"]) -> Neighbours:
    """Which observations are next to each entry, itself left out.

    Example:
        >>> found = neighbours(torch.tensor([True, False, True]).reshape(1, 3, 1, 1))
        >>> found.before.flatten().tolist(), found.after.flatten().tolist()
        ([-1, 0, 0], [2, 2, 3])
    """
    length = observed.shape[1]
    index = torch.arange(length, device=observed.device).reshape(1, -1, 1, 1).expand(observed.shape)
    last = torch.where(observed, index, -1).cummax(1).values
    first = torch.where(observed, index, length).flip(1).cummin(1).values.flip(1)
    none, end = torch.full_like(last[:, :1], -1), torch.full_like(first[:, :1], length)
    return Neighbours(torch.cat([none, last[:, :-1]], 1), torch.cat([first[:, 1:], end], 1))


def series_mean(seen: Observations) -> Float[Tensor, "B 1 L M"]:
    """Mean of each series over what was observed; 0 if nothing was."""
    return seen.known.sum(1, keepdim=True) / seen.observed.sum(1, keepdim=True).clamp(min=1)


def estimates(seen: Observations) -> Float[Tensor, "B T L M K"]:
    """All simple estimates, in the order of ``NAMES``, shape (B, T, L, M, K).

    Example:
        >>> x = torch.tensor([1.0, torch.nan, 3.0]).reshape(1, 3, 1, 1)
        >>> estimates(Observations.of(x, torch.tensor([[0.0, 0.5, 2.0]])))[0, 1, 0, 0].tolist()
        [1.5, 1.5, 2.0, 1.5, 2.0]
    """
    mean = series_mean(seen).expand(seen.values.shape)
    near = neighbours(seen.observed)
    linear, (others, count) = _linear(seen, near, mean), _others(seen, mean)
    places = mean + others
    difference = torch.where(count > 0, places + _drift(seen, places, count > 0), linear)
    return torch.stack([linear, _cubic(seen, near, mean), places, difference, mean], dim=-1)


def _at(x: Tensor, index: Tensor) -> Tensor:
    """Values along the time axis; those of indices outside do not matter."""
    return x.gather(1, index.clamp(0, x.shape[1] - 1))


def _times(seen: Observations) -> Tensor:
    return seen.times[:, :, None, None].expand(seen.values.shape)


def _linear(seen: Observations, near: Neighbours, mean: Tensor) -> Tensor:
    t = _times(seen)
    has_before, has_after = near.before >= 0, near.after < t.shape[1]
    (t0, t1), (x0, x1) = ((_at(each, near.before), _at(each, near.after)) for each in (t, seen.known))
    width = torch.where(has_before & has_after, t1 - t0, 1.0)
    between = x0 + (t - t0) * (x1 - x0) / width
    one = torch.where(has_before, x0, torch.where(has_after, x1, mean))
    return torch.where(has_before & has_after, between, one)


def hermite(q: Observations, v: Observations) -> tuple[Float[Tensor, "B T L M"], Float[Tensor, "B T L M"]]:
    """Positions and velocities of the polynomial through the positions and velocities that are next to each entry.

    Where a velocity is missing it is that of the parabola. At an end of a series both are those of the observation
    next to it.

    Args:
        q: positions.
        v: their velocities, per unit of ``q.times``.

    Example:
        >>> x = torch.tensor([0.0, torch.nan, 1.0]).reshape(1, 3, 1, 1)
        >>> t = torch.tensor([[0.0, 0.5, 1.0]])
        >>> at, speed = hermite(Observations.of(x, t), Observations.of(torch.zeros_like(x), t))
        >>> at[0, 1].item(), speed[0, 1].item()
        (0.5, 1.5)
    """
    near = neighbours(q.observed)
    slope = torch.where(v.observed, v.known, _slopes(q, near))
    at_rest = Observations(slope, q.observed, q.times)
    mean = series_mean(q).expand(q.values.shape)
    inside, value, rate = _polynomial(q, near, slope)
    ends = _linear(q, near, mean), _linear(at_rest, near, torch.zeros_like(mean))
    return torch.where(inside, value, ends[0]), torch.where(inside, rate, ends[1])


def _cubic(seen: Observations, near: Neighbours, mean: Tensor) -> Tensor:
    inside, value, _ = _polynomial(seen, near, _slopes(seen, near))
    return torch.where(inside, value, _linear(seen, near, mean))


def _polynomial(seen: Observations, near: Neighbours, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where there are observations on both sides, and the Hermite polynomial and its derivative there."""
    t, x = _times(seen), seen.known
    inside = (near.before >= 0) & (near.after < t.shape[1])
    (t0, t1), (x0, x1), (v0, v1) = ((_at(each, near.before), _at(each, near.after)) for each in (t, x, slope))
    width = torch.where(inside, t1 - t0, 1.0)
    s = (t - t0) / width
    value = (
        (1 + 2 * s) * (1 - s) ** 2 * x0
        + s * (1 - s) ** 2 * width * v0
        + s**2 * (3 - 2 * s) * x1
        + s**2 * (s - 1) * width * v1
    )
    rate = 6 * s * (1 - s) * (x1 - x0) / width + (1 - s) * (1 - 3 * s) * v0 + s * (3 * s - 2) * v1
    return inside, value, rate


def _slopes(seen: Observations, near: Neighbours) -> Tensor:
    """Of each observation, from the parabola through it and those next to it; from a line at an end."""
    t, x = _times(seen), seen.known
    has_before, has_after = near.before >= 0, near.after < t.shape[1]
    h0 = torch.where(has_before, t - _at(t, near.before), 1.0)
    h1 = torch.where(has_after, _at(t, near.after) - t, 1.0)
    d0 = torch.where(has_before, (x - _at(x, near.before)) / h0, 0.0)
    d1 = torch.where(has_after, (_at(x, near.after) - x) / h1, 0.0)
    both = (h1 * d0 + h0 * d1) / (h0 + h1)
    return torch.where(has_before & has_after, both, d0 + d1)


def _others(seen: Observations, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the other places, each less its own mean, 0 where there are none; and how many there are."""
    less = (seen.known - mean) * seen.observed
    count = seen.observed.sum(2, keepdim=True) - seen.observed.int()
    return (less.sum(2, keepdim=True) - less) / count.clamp(min=1), count


def _drift(seen: Observations, places: Tensor, compared: Tensor) -> Tensor:
    """How far each series is off what the other places say, from observations before and after."""
    both = seen.observed & compared
    off = Observations((seen.known - places) * both, both, seen.times)
    return _linear(off, neighbours(both), torch.zeros_like(places))
