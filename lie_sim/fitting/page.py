"""The page of a fit: what the table held, what was filled in, and how good the forecast is."""

from __future__ import annotations

import numpy as np

from lie_sim.fitting.fit import Fit
from lie_sim.fitting.forecast import FittedTrack
from lie_sim.fitting.table import ObservedTable
from lie_sim.report import Plot, ReportData, Table

_TRACKS, _PARTICLES = 2, 3
"""Most that are drawn."""
_BAND = float(np.log(2))
"""Half of a Laplace distribution is within scale × log 2."""
_NOTE = (
    "Lines are observed values and, where it is shaded, what was filled in, with the band in which half of the true "
    "values are expected. Forecasts begin at the mark; what was observed after it was not used."
)


def report_of(fit: Fit, table: ObservedTable) -> ReportData:
    """A page from plain numbers.

    Args:
        fit: what was found.
        table: of what.
    """
    time, length = table.units
    filled = sum(int((~each.observed[: each.fitted]).sum()) for each in fit.tracks)
    seen = sum(int(each.observed.sum()) for each in fit.tracks)
    summary = {
        "trajectories": f"{len(table.tracks):,}",
        "particles": f"{len(table.particles):,}",
        "values observed": f"{seen:,}",
        "values filled in": f"{filled:,}",
    }
    if "forecast" in fit.figures:
        summary["error of the forecast (RMSE)"] = _with_unit(fit.figures["forecast"], length)
    drawn = [(track, k) for track in fit.tracks[:_TRACKS] for k in _most_gappy(track)[:_PARTICLES]]
    plots = [_plot(table, track, k, first=n == 0) for n, (track, k) in enumerate(drawn)]
    return ReportData(
        title="A Hamiltonian from observations",
        subtitle=f"{', '.join(table.particles[:6])}{', …' if len(table.particles) > 6 else ''}",
        summary=summary,
        plots=plots,
        tables=[_rows(table), _errors(fit, length)],
        configuration={
            "units": {
                "time": fit.units.time,
                "length": fit.units.length,
                "of_the_table": f"{time} {length}".strip(),
            },
            "masses_over_their_mean": dict(
                zip(table.particles, fit.particles.masses.flatten().tolist(), strict=True)
            ),
        },
    )


def _with_unit(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".strip()


def _rows(table: ObservedTable) -> Table:
    ledger = table.ledger
    rows: list[list[str | int | float | None]] = [
        ["all", ledger.rows],
        ["used", ledger.used],
        ["copies of others", ledger.copies],
        ["without any number", ledger.empty],
    ]
    rows += [[f"refused: {why}", len(lines)] for why, lines in ledger.refused.items()]
    note = " ".join(f"{each[0].upper()}{each[1:]}." for each in ledger.notes)
    return Table(["rows of the table", "number"], rows, title="What became of every row", note=note)


def _errors(fit: Fit, length: str) -> Table:
    names = {
        "noise": "noise of observed positions, as it was assumed",
        "residual": "what the fitted motion leaves of them",
        "imputed": "positions that were hidden from attention, before the fit (mean absolute)",
        "forecast": "forecast of what was held out",
        "forecast_at_rest": "staying where it was",
        "forecast_straight": "going straight on",
    }
    rows: list[list[str | int | float | None]] = [
        [text, fit.figures[name]] for name, text in names.items() if name in fit.figures
    ]
    column = f"error ({length})" if length else "error"
    note = f"Root mean square, but where something else is said. {fit.warning}".strip()
    return Table(["of", column], rows, title="Errors", note=note)


def _most_gappy(track: FittedTrack) -> list[int]:
    missing = (~track.observed[: track.fitted]).sum((0, 2))
    return [int(k) for k in np.argsort(-missing, kind="stable")]


def _plot(table: ObservedTable, track: FittedTrack, particle: int, *, first: bool) -> Plot:
    time, length = table.units
    end = track.fitted
    curves, bands = {}, {}
    for m, name in enumerate(table.measurements[: table.dim]):
        curves[name] = (track.times[:end], track.values[:end, particle, m])
        bands[name] = _BAND * track.scale[:end, particle, m]
    for m, name in enumerate(table.measurements[: table.dim]):
        curves[f"{name}, forecast"] = (track.future, track.forecast[:, particle, m])
    for m, name in enumerate(table.measurements[: table.dim]):
        there = np.flatnonzero(track.observed[end:, particle, m])
        if there.size:
            part = slice(end, end + int(there[-1]) + 1)
            later = np.where(track.observed[part, particle, m], track.values[part, particle, m], np.nan)
            curves[f"{name}, observed later"] = (track.times[part], later)
    where = f" of trajectory {track.name}" if track.name else ""
    return Plot(
        title=f"Particle {table.particles[particle]}{where}",
        curves=curves,
        x_name="time",
        x_unit=time,
        y_name="position",
        y_unit=length,
        bands=bands,
        shaded={"filled in": _gaps(track, particle)},
        marks={"forecast begins": np.array([track.times[end - 1]])},
        note=_NOTE if first else "",
    )


def _gaps(track: FittedTrack, particle: int) -> np.ndarray:
    """Stretches of time in which something of the particle is missing, half an interval wider on both sides."""
    missing = (~track.observed[: track.fitted, particle]).any(-1)
    edges = np.concatenate([track.times[:1], (track.times[1:] + track.times[:-1]) / 2, track.times[-1:]])
    turns = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]])))
    return np.array([[edges[a], edges[b]] for a, b in turns.reshape(-1, 2)]).reshape(-1, 2)
