"""``lie-sim evaluate`` and ``lie-sim report``: figures and pages of a run that is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lie_sim.checkpoint import load_model
from lie_sim.cli.errors import UsageError
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import model_folder, show
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
    """Write report.html and figures/ of a run again from its report_data.json, without evaluating.

    Args:
        run_dir: directory of a run that was evaluated.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]


def evaluate(argv: Sequence[str]) -> None:
    """Evaluate and print the figures."""
    options = parse(EvaluateOptions, argv, prog="lie-sim evaluate")
    experiment = open_run(options.run_dir)
    model = load_model(model_folder(options.run_dir))
    found = experiment.evaluate_run(options.run_dir, model, progress=options.progress)
    show([*found.results.items(), ("report", options.run_dir / "report.html")])


def report(argv: Sequence[str]) -> None:
    """Write the page and the pictures."""
    folder = parse(ReportOptions, argv, prog="lie-sim report").run_dir
    if not (folder / "report_data.json").is_file():
        raise UsageError(
            f"{folder} has no report_data.json: evaluate the run first, with lie-sim evaluate {folder}"
        )
    print(write_report(ReportData.load(folder / "report_data.json"), folder))
