"""What a fit leaves in its folder.

model/           the Hamiltonian, in its own units, which its metadata tell
filled.csv       every value of the fitted part, with the error to expect; 0 where it was observed
forecast.csv     the motion from the last fitted time on
fit.json         errors, units, and what became of every row of the table
report.html      the same to look at; its plots are in figures/
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lie_sim.checkpoint import save_model
from lie_sim.files import write_atomically
from lie_sim.fitting.fit import Fit
from lie_sim.fitting.page import report_of
from lie_sim.fitting.table import ObservedTable
from lie_sim.report import write_report

MODEL, FILLED, FORECAST, FACTS = "model", "filled.csv", "forecast.csv", "fit.json"


def save_fit(fit: Fit, table: ObservedTable, folder: str | Path) -> Path:
    """Write everything that a fit found; returns the folder.

    Args:
        fit: what was found.
        table: of what.
        folder: made if there is none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    masses = dict(zip(table.particles, fit.particles.masses[0].tolist(), strict=True))
    facts = {
        "units": {"length": [fit.units.length, table.units[1]], "time": [fit.units.time, table.units[0]]},
        "masses": masses,
        "errors": fit.figures,
    }
    save_model(fit.hamiltonian, folder / MODEL, metadata=facts)
    time, length = table.units
    names = [
        _headed(name, length if k < table.dim else f"{length}/{time}")
        for k, name in enumerate(table.measurements)
    ]
    errors = [
        _headed(f"{name}_error", length if k < table.dim else f"{length}/{time}")
        for k, name in enumerate(table.measurements)
    ]
    several = len(table.tracks) > 1
    beginning = (["trajectory"] if several else []) + [_headed("time", time), "particle"]
    filled: list[list[str]] = []
    ahead: list[list[str]] = []
    for track in fit.tracks:
        label = [track.name] if several else []
        end = track.fitted
        both = np.concatenate([track.values[:end], track.scale[:end]], axis=-1)
        filled += _rows(label, track.times[:end], table.particles, both)
        ahead += _rows(label, track.future, table.particles, track.forecast)
    _write(folder / FILLED, [*beginning, *names, *errors], filled)
    _write(folder / FORECAST, [*beginning, *names], ahead)
    ledger = asdict(table.ledger) | {"lines": table.ledger.lines()}
    write_atomically(folder / FACTS, json.dumps(facts | {"rows": ledger}, indent=2, default=list).encode())
    write_report(report_of(fit, table), folder)
    return folder


def _headed(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit.strip("/") else name


def _rows(
    label: Sequence[str], times: np.ndarray, particles: Sequence[str], values: np.ndarray
) -> Iterable[list[str]]:
    for time, frame in zip(times.tolist(), values, strict=True):
        for particle, row in zip(particles, frame.tolist(), strict=True):
            yield [*label, repr(time), particle, *map(repr, row)]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
