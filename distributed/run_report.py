"""The report of a run: progress, throughput and failures from its journal, drift and motion from its segments.

    lie-sim report runs/many        write_report(run_report(Run("runs/many")), "runs/many")

It disturbs nobody: a run that is being computed is shown as far as it is.

Shape letters: T places in time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lie_sim.distributed.history import Computed, History, history
from lie_sim.distributed.journal import events
from lie_sim.distributed.run import Run, Status
from lie_sim.distributed.run_samples import drift_plots, samples, temperature_plot, worst_table
from lie_sim.plain import to_plain
from lie_sim.report import Plot, ReportData, Table
from lie_sim.report.formatting import format_number

WORDS = {
    "begin": "driver started",
    "stop": "driver stopped before the end",
    "retry": "segment failed, to be tried again",
    "failed": "segment given up, and with it the rest of its chunk",
    "lost": "segment before was missing or damaged",
    "duplicate": "segment computed twice, with the same bytes",
    "quarantine": "segment computed twice, with other bytes",
}
"""Events that are told in the table of failures."""
MAX_NODES = 30
"""Rows of the table of nodes."""
_CURVES = 6
"""Nodes that have a curve of their own."""
_RATE = "system-steps/s of a worker"
_INTERVALS = 60
_MARKS = 100
_UNITS = ((1.0, "s", 180.0), (60.0, "min", 3 * 3600.0), (3600.0, "h", 4 * 86400.0), (86400.0, "d", np.inf))
"""Seconds of a unit of time, and up to how many seconds it is used."""
_MOTION = (
    "A few trajectories, from the smallest drift of the energy to the largest. Systems that travel further than they "
    "are wide are seen from their centre of mass."
)
"""What the page says of the trajectories that it shows."""


def run_report(run: Run) -> ReportData:
    """What the report of a run shows.

    Args:
        run: complete or not.
    """
    present, manifest = run.present(), run.manifest
    told, ends = history(events(run.folder), manifest), run.ends(present)
    tables = [_nodes_table(told), failures_table(told), worst_table(run, ends)]
    return ReportData(
        title=f"Simulation {run.folder.resolve().name}",
        subtitle=f"{manifest.num_trajectories:,} trajectories, {manifest.steps:,} steps with {manifest.method}",
        summary=_summary(run, run.status(), told),
        trajectories=samples(run, ends),
        plots=[*_journal_plots(told), *drift_plots(ends), *temperature_plot(run, ends)],
        tables=[table for table in tables if table.rows],
        configuration=_configuration(run),
        notes={"trajectories": _MOTION},
    )


def _summary(run: Run, status: Status, told: History) -> dict[str, str]:
    scale, unit = _unit(told.length)
    done = told.computed
    return {
        "Segments": f"{status.segments:,} of {status.total_segments:,} ({status.segments / status.total_segments:.1%})",
        "Frames": f"{status.frames:,}",
        "Time from first to last line": f"{format_number(told.length / scale, digits=3)} {unit}",
        "Computing time of all workers": f"{format_number(done.seconds.sum() / 3600, digits=3)} h",
        "Nodes": f"{len(set(done.node))}",
        "Workers": f"{len(set(done.worker))}",
        "Diverged": f"{len(status.diverged)}",
        "Ended by drift": f"{len(status.drifted)}",
        "Largest drift / mean kinetic energy": format_number(status.drift, digits=2),
    }


def _journal_plots(told: History) -> list[Plot]:
    return [_progress_plot(told), _throughput_plot(told)] if len(told.computed.ended) else []


def _progress_plot(told: History) -> Plot:
    scale, unit = _unit(told.length)
    times = np.concatenate([[0.0], told.computed.ended, [told.length]]) / scale
    done = np.concatenate([[0.0], np.cumsum(told.computed.kept), [told.computed.kept.sum()]])
    marks = {WORDS[event]: _thinned(told.times[event]) / scale for event in WORDS if event in told.times}
    return Plot(
        "Progress",
        {"segments": (times, done)},
        x_name="time since the first driver started",
        x_unit=unit,
        y_name="segments written",
        marks={name: places for name, places in marks.items() if name != WORDS["duplicate"]},
        note="As the journal tells it; what a driver that was killed did not write down is not there.",
    )


def _throughput_plot(told: History) -> Plot:
    scale, unit = _unit(told.length)
    computed, nodes = told.computed, np.unique(told.computed.node)
    edges = np.linspace(0.0, max(told.length, 1e-3), _INTERVALS + 1)
    curves = {"all nodes": _rate(computed, edges)}
    if 1 < len(nodes) <= _CURVES:
        curves |= {str(node): _rate(computed.of(computed.node == node), edges) for node in nodes}
    middles = (edges[1:] + edges[:-1]) / 2 / scale
    return Plot(
        "Throughput over time",
        {name: (middles, rate) for name, rate in curves.items()},
        x_name="time since the first driver started",
        x_unit=unit,
        y_name="system-steps a second",
        note="Steps of single systems; those of a segment are spread over the time that it took.",
    )


def _rate(computed: Computed, edges: np.ndarray) -> np.ndarray:
    """System-steps a second between edges in time, shape (T - 1,)."""
    rate: np.ndarray = np.diff(computed.work(edges)) / np.diff(edges)
    return rate


def _nodes_table(told: History) -> Table:
    computed, node = told.computed, told.computed.node
    rows = [_node_row(str(name), computed.of(node == name)) for name in np.unique(node)]
    rows.sort(key=lambda row: float(row[3] or 0.0))
    note = "The slowest first. Busy is the share of computing in computing and waiting for the next segment."
    if len(rows) > MAX_NODES:
        note += f" {len(rows) - MAX_NODES} faster nodes are left out."
    columns = ["node", "workers", "segments", _RATE, "busy, %"]
    return Table(columns, rows[:MAX_NODES], title="Throughput by node", bar=_RATE, note=note)


def _node_row(name: str, computed: Computed) -> list[str | int | float | None]:
    spent = float(computed.seconds.sum())
    there = max(spent + float(computed.idle.sum()), 1e-9)
    rate, busy = float(computed.steps.sum()) / there, 100 * spent / there
    return [name, len(set(computed.worker)), len(computed.ended), float(f"{rate:.3g}"), float(f"{busy:.3g}")]


def failures_table(told: History) -> Table:
    """What went wrong, how often, and what was said last."""
    scale, unit = _unit(told.length)
    rows: list[list[str | int | float | None]] = []
    for event, words in WORDS.items():
        times = told.times.get(event, np.zeros(0))
        said = [error for name, error in told.errors if name == event]
        if len(times):
            rows.append(
                [words, len(times), float(f"{times[-1] / scale:.3g}"), said[-1][:200] if said else None]
            )
    return Table(
        ["what", "times", f"last at, {unit}", "last reason"],
        rows,
        title="Starts, failures and retries",
        note="What the driver was told. Segments of workers and nodes that die are given to others by Ray, without a "
        "line here; they show as a gap in the throughput.",
    )


def _configuration(run: Run) -> dict[str, Any]:
    """The manifest, with the number of chunks in place of the list."""
    values = to_plain(run.manifest)
    return {**values, "chunks": len(run.manifest.chunks), "digest": run.manifest.digest}


def _thinned(times: np.ndarray) -> np.ndarray:
    return times[:: max(1, -(-len(times) // _MARKS))]


def _unit(length: float) -> tuple[float, str]:
    """Seconds of a unit that is handy for a length of time, and its name."""
    return next((scale, name) for scale, name, longest in _UNITS if length <= longest)
