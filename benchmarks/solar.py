"""How far off are the planets after twenty years if gravity is learned from the twenty years before?

Runs the experiment ``solar`` with its defaults, once per seed (of the weights): accelerations along JPL DE421 from 1980
to 2000 are learned, the planets are predicted from 2000 to 2020 with one-day leapfrog steps. The same integrator with
the true Newtonian force has an error of its own (the step, relativity, asteroids), so errors are reported
as ratios to it; circular orbits and straight lines are the untrained baselines.

    python benchmarks/solar.py [--seeds 1] [--run-dir runs/solar] [--picture docs/images/solar.png]

About three CPU minutes per seed on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from record import record

from lie_sim.experiments import SolarConfig, SolarExperiment, read_results
from lie_sim.report import ReportData

DAYS_PER_YEAR = 365.25
COLOURS = {"mercury": "#946800", "venus": "#d55e00", "earthmoon": "#0072b2", "mars": "#a83e8f"}
HALO = {"fontsize": 9, "path_effects": [withStroke(linewidth=2.5, foreground="white")]}
LABELS = {"earthmoon": "Earth", "LieTransformer": "learned"}
CURVES = {
    "constant velocity": ("#b8bcc4", "straight lines"),
    "circular orbits": ("#7a808c", "circular orbits"),
    "Newton, same integrator and step": ("#d55e00", "Newton, same integrator"),
    "LieTransformer": ("#0072b2", "learned"),
}


def run_seed(seed: int, folder: Path) -> dict[str, float]:
    """Train, predict and write the report of one seed; a run that is there is continued."""
    config = SolarConfig()
    experiment = SolarExperiment(replace(config, training=replace(config.training, seed=seed)))
    result = experiment.run(folder, progress=False)
    found = read_results(folder)
    return {"seed": seed, **found, "validation_loss": result.best_metric, "cpu_s": result.cpu_seconds}


def draw_orbits(axes: Axes, report: ReportData) -> None:
    """The inner planets around the Sun in their last two years, true and predicted."""
    view = report.trajectories[0]
    assert view.names is not None
    sun = view.names.index("sun")
    true, predicted = view.true - view.true[:, [sun]], view.predicted - view.predicted[:, [sun]]
    axes.plot(0, 0, "o", color="#f0b400", markersize=9)
    for name, colour in COLOURS.items():
        body = view.names.index(name)
        axes.plot(*true[:, body, :2].T, color=colour, linewidth=0.9, alpha=0.55)
        axes.plot(*predicted[::12, body, :2].T, "o", color=colour, markersize=3.2, markeredgewidth=0)
        end = true[-1, body, :2]
        axes.plot(*end, "o", color=colour, markersize=8)
        axes.annotate(
            LABELS.get(name, name.capitalize()), end, (8, 7), textcoords="offset points", color=colour, **HALO
        )
    axes.plot([], [], color="#444444", linewidth=0.9, alpha=0.6, label="JPL DE421, 2018–2019")
    axes.plot([], [], "o", color="#444444", markersize=3.2, label="predicted from 2000")
    axes.set(aspect="equal", xlabel="x [AU]", ylabel="y [AU]")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False, fontsize=8)


def draw_errors(axes: Axes, report: ReportData) -> None:
    """Root-mean-square position error of all bodies against time."""
    for name, (colour, label) in CURVES.items():
        days, squares = report.error_curves[name]
        years, error = 2000 + days[1:] / DAYS_PER_YEAR, np.sqrt(squares[1:])
        style = "--" if name.startswith("Newton") else "-"
        axes.plot(
            years, error, style, color=colour, linewidth=1.6, label=label, zorder=3 if style == "--" else 2
        )
    axes.set(yscale="log", xlim=(2000, 2020), xlabel="year", ylabel="position error, all bodies [AU]")
    axes.set_xticks(range(2000, 2021, 5))
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.7)
    axes.legend(loc="lower right", frameon=False, fontsize=8)


def draw(report: ReportData, path: Path) -> None:
    """Both panels as one picture."""
    figure = Figure(figsize=(10, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    orbits, errors = figure.subplots(1, 2, width_ratios=[1, 1.25])
    draw_orbits(orbits, report)
    draw_errors(errors, report)
    for axes, title in (
        (orbits, "Inner planets, eighteen years ahead"),
        (errors, "Twenty years of prediction"),
    ):
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--run-dir", type=Path, help="keep the runs here, one folder per seed")
    parser.add_argument("--picture", type=Path, help="draw the run of seed 0 into this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = options.run_dir or Path(scratch)
        for seed in range(options.seeds):
            rows.append(run_seed(seed, root / f"seed_{seed}"))
        report = ReportData.load(root / "seed_0" / "report_data.json")
        if options.picture:
            draw(report, options.picture)
    figures = {key: statistics.fmean(row[key] for row in rows) for key in rows[0] if key != "seed"}
    figures["error_over_newton_worst_seed"] = max(row["error_over_newton"] for row in rows)
    for key, value in figures.items():
        print(f"{key:34} {value:.4g}")
    assert report.comparison is not None
    bodies = {"columns": report.comparison.columns, "rows": report.comparison.rows}
    print(record("solar", figures, threads=1, details={"runs": rows, "bodies": bodies}))


if __name__ == "__main__":
    main()
