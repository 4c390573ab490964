"""``lie-sim calibrate``: how far a potential of atoms can be trusted, kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import lie_sim.shipped
from lie_sim.cli.errors import UsageError
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import is_run, model_folder, show
from lie_sim.experiments import open_run


@dataclass(frozen=True)
class CalibrateOptions:
    """Calibrate the uncertainty of a potential of atoms with structures that it was not trained on.

    A run of molecules has such structures: its validation structures calibrate, its test structures tell whether the
    intervals hold. The calibration is written beside the model, where the calculator finds it.

    Args:
        model: run directory or folder of a model.
        data: file of labelled structures, instead of those of the run; half of them say what the model knows.
        energy_unit: of an npz file that does not say it, such as "kcal/mol".
        check_units: refuse forces and distances so large or small that they must be in other units.
        coverage: share of new structures whose energies shall lie in the intervals.
        forces: calibrate the deviations of forces too.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")]
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    energy_unit: str = ""
    check_units: bool = True
    coverage: float = 0.9
    forces: bool = True


def calibrate(argv: Sequence[str]) -> None:
    """Calibrate and print what came of it."""
    options = parse(CalibrateOptions, argv, prog="lie-sim calibrate")
    folder = model_folder(options.model)
    if folder.resolve().parent == Path(lie_sim.shipped.__file__).parent:
        raise UsageError(
            f"{options.model} comes with lie_sim and stays as it is: copy {folder} to calibrate the copy"
        )
    if options.data is None and not is_run(options.model):
        raise UsageError(f"{options.model} is no run, which has structures of its own: give --data FILE")
    from lie_sim.calculators.calibration import FILE_NAME  # ASE takes its time
    from lie_sim.experiments.molecules_calibration import calibrate_model, calibrate_run

    _refuse_training_data(options)
    replaced = (folder / FILE_NAME).is_file()
    coverage, forces = options.coverage, options.forces
    tested: dict[str, float] = {}
    if options.data is None:
        found, tested = calibrate_run(options.model, coverage=coverage, forces=forces)
    else:
        from lie_sim.data.structure_files import read_structures

        held_out = read_structures(
            options.data, energy_unit=options.energy_unit or None, check_units=options.check_units
        )
        found = calibrate_model(folder, held_out, coverage=coverage, forces=forces)
    rows = {
        "calibrated": "energies and forces" if found.has_forces else "energies",
        "structures": f"{found.num_structures:,}",
    }
    if tested:
        rows["intervals"] = f"{100 * coverage:g} %, ± {1000 * tested['interval']:.3g} meV (median)"
        inside, count = 100 * tested["coverage"], tested["structures"]
        rows["energies inside"] = f"{inside:.3g} % of {count:.0f} test structures"
    kept = f"{folder / FILE_NAME}{', instead of the one that was there' if replaced else ''}"
    show([*rows.items(), ("kept", kept)])


def _refuse_training_data(options: CalibrateOptions) -> None:
    """A model errs less on what it was trained on: such intervals would hold nowhere else."""
    if options.data is None or not is_run(options.model):
        return
    used = getattr(open_run(options.model).config, "data", "")
    if used and options.data.is_file() and Path(used).is_file() and options.data.samefile(used):
        raise UsageError(
            f"{options.data} holds the structures that the model was trained on: leave --data away, and the validation "
            "structures of the run calibrate it; or give others"
        )
