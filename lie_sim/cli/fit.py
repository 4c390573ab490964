"""``lie-sim fit``: from a table of observations with gaps to a Hamiltonian, what the gaps held, and forecasts."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lie_sim.cli.errors import StoppedError, UsageError
from lie_sim.cli.parsing import Inlined, parse
from lie_sim.cli.runs import show
from lie_sim.errors import TrainingInterrupted
from lie_sim.fitting import Columns, FitConfig, read_table, save_fit
from lie_sim.fitting import fit as fitted


@dataclass(frozen=True)
class FitOptions:
    """Fit the Hamiltonian of particles to a table of observations; the same command goes on where it stopped.

    Args:
        table: CSV or Parquet with a row for each particle at each time: columns time, particle, x, y, z as far as there
            are, and vx, vy, vz if known; a unit in brackets behind a name; empty cells are gaps.
        config: options of the fit.
        out: folder to write: model, filled.csv, forecast.csv, fit.json, report.html.
        columns: which columns are what, where they have other names.
        restart: begin again where the folder has a fit with other options, or to another table.
        check: only read the table, and say what became of every row.
        progress: show progress bars.
    """

    table: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    config: Inlined[FitConfig]
    columns: Columns
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/fit")
    restart: bool = False
    check: bool = False
    progress: bool = True


def fit(argv: Sequence[str]) -> None:
    """Fit, and print what was found."""
    defaults = FitOptions(Path(), FitConfig(), Columns())
    options = parse(FitOptions, argv, prog="lie-sim fit", default=defaults)
    if options.table == Path():
        raise UsageError("name the table of observations: lie-sim fit TABLE")
    table = read_table(options.table, options.columns)
    print(*table.ledger.lines(), table.summary(), sep="\n")
    masses = options.config.masses
    if len(masses) > 1:
        named = zip(table.particles, masses, strict=False)
        print("masses:", ", ".join(f"{name} {mass:g}" for name, mass in named))
    if options.check:
        return
    begun = time.process_time()
    try:
        found = fitted(table, options.config, options.out, restart=options.restart, progress=options.progress)
    except (KeyboardInterrupt, TrainingInterrupted):
        command = shlex.join(["lie-sim", "fit", *(word for word in argv if word != "--restart")])
        raise StoppedError(f"stopped; what was done is in {options.out}. To go on: {command}") from None
    save_fit(found, table, options.out)
    unit = f" ({table.units[1]})" if table.units[1] else ""
    names = {
        "noise": f"noise of positions, as assumed{unit}",
        "residual": f"what the motion leaves of them{unit}",
        "imputed": f"error of hidden positions, before the fit{unit}",
        "forecast": f"error of the forecast{unit}",
        "forecast_at_rest": "  if all stayed where they were",
        "forecast_straight": "  if all went straight on",
    }
    rows = [(text, found.figures[name]) for name, text in names.items() if name in found.figures]
    show([*rows, ("CPU seconds", time.process_time() - begun), ("written", options.out)])
    if found.warning:
        print(found.warning)
