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
from lie_sim.cli.runs import is_run, model_folder, show, with_units
from lie_sim.distributed import Run
from lie_sim.distributed.manifest import NAME
from lie_sim.distributed.run_report import run_report
from lie_sim.experiments import open_run
from lie_sim.report import ReportData, write_report


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate the model of a run again; writes results.json, report_data.json and the report.

    With --data, print the errors of any potential of atoms on the structures of a file, and write nothing.

    Args:
        run_dir: directory of a finished run; with --data also the folder of a model, or the name of a shipped one.
        data: file of structures with reference values: .extxyz, .db, .traj, .npz or .safetensors.
        energy_unit: of an npz file that does not say it, such as "kcal/mol".
        check_units: refuse forces and distances so large or small that they must be in other units.
        progress: show progress bars.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")]
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    energy_unit: str = ""
    check_units: bool = True
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
    folder = model_folder(options.run_dir)
    if options.data is not None:
        _evaluate_on(options.data, folder, options)
        return
    if options.energy_unit:
        raise UsageError("--energy-unit is of the file of --data: give both, or neither")
    if not is_run(options.run_dir):
        raise UsageError(
            f"{options.run_dir} is no run, which has test data of its own: give structures with --data FILE"
        )
    experiment = open_run(options.run_dir)
    found = experiment.evaluate_run(options.run_dir, load_model(folder), progress=options.progress)
    show([*with_units(found.results, experiment.unit_of), ("report", options.run_dir / "report.html")])


def _evaluate_on(data: Path, model: Path, options: EvaluateOptions) -> None:
    from lie_sim.data.structure_files import read_structures  # ASE takes its time
    from lie_sim.experiments.molecules_evaluation import evaluated, unit_of

    structures = read_structures(
        data, energy_unit=options.energy_unit or None, check_units=options.check_units
    )
    results = evaluated(model, structures)
    potential = load_model(model)
    show(
        [
            ("structures", len(structures)),
            *with_units(results, lambda figure: unit_of(figure, potential)),
        ]
    )


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
