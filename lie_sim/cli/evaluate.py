"""``lie-sim evaluate`` and ``lie-sim report``: figures and pages of a training run or of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lie_sim.checkpoint import load_model
from lie_sim.cli.errors import UsageError
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import model_folder, show, with_units
from lie_sim.distributed import Run
from lie_sim.distributed.manifest import NAME
from lie_sim.distributed.run_report import run_report
from lie_sim.experiments import open_run
from lie_sim.report import ReportData, write_report


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate the model of a run again; writes results.json, report_data.json and the report.

    Args:
        run_dir: directory of a finished run.
        progress: show progress bars.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    progress: bool = True


@dataclass(frozen=True)
class ReportOptions:
    """Write report.html and figures/ of a training run again, or of a simulation, which may still be going on.

    Args:
        run_dir: directory of a run that was evaluated, or folder of a simulation.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]


def evaluate(argv: Sequence[str]) -> None:
    """Evaluate and print the figures."""
    options = parse(EvaluateOptions, argv, prog="lie-sim evaluate")
    experiment = open_run(options.run_dir)
    model = load_model(model_folder(options.run_dir))
    found = experiment.evaluate_run(options.run_dir, model, progress=options.progress)
    show([*with_units(experiment, found.results), ("report", options.run_dir / "report.html")])


def report(argv: Sequence[str]) -> None:
    """Write the page and the pictures."""
    folder = parse(ReportOptions, argv, prog="lie-sim report").run_dir
    print(write_report(_report_data(folder), folder))


def _report_data(folder: Path) -> ReportData:
    if (folder / NAME).is_file():
        return run_report(Run(folder))
    if not (folder / "report_data.json").is_file():
        raise UsageError(
            f"{folder} has neither {NAME}, as a simulation has, nor report_data.json: evaluate a training run first, "
            f"with lie-sim evaluate {folder}"
        )
    return ReportData.load(folder / "report_data.json")
