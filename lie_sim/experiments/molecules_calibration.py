"""Calibrated uncertainty of a potential: of a run with its own split, of any model with structures of one's own.

    coverage   share of the structures whose energy lies in its interval
    interval   median half width of the intervals, in eV

A run is calibrated with its validation structures; what its last layer knows are the training structures, and the test
structures, which nothing was fitted to, tell whether the intervals hold.
"""

from __future__ import annotations

import math
from pathlib import Path

from lie_sim.calculators import Calibration, LieTransformerCalculator
from lie_sim.checkpoint import load_model
from lie_sim.data.molecules import Molecules
from lie_sim.errors import ConfigError
from lie_sim.experiments.base import open_run
from lie_sim.experiments.molecules import MoleculesExperiment
from lie_sim.experiments.molecules_evaluation import intervals, refuse_unknown_elements
from lie_sim.models import AtomicPotential

MOST_WITH_FORCES = 200
"""Structures that forces are calibrated with, or more for a coverage near 1: their deviations take a reverse pass for
every feature."""


def calibrate_model(
    model: Path,
    held_out: Molecules,
    *,
    known: Molecules | None = None,
    coverage: float = 0.9,
    forces: bool = True,
) -> Calibration:
    """Calibrate a model and write ``calibration.safetensors`` beside it, where the calculator finds it.

    Args:
        model: its folder.
        held_out: structures with reference values that it was not trained on.
        known: structures it was trained on; None sets half of ``held_out`` aside for them.
        coverage: of the intervals.
        forces: calibrate them too, where the structures have them.

    Raises:
        ConfigError: it is no potential with an energy, or does not know an element; or the coverage is impossible.
        ValueError: there are too few structures for the coverage, or some have no energy.
    """
    potential = load_model(model)
    if not isinstance(potential, AtomicPotential) or not potential.has_energy:
        raise ConfigError(f"{model} is no potential of atoms with an energy: only those are calibrated")
    refuse_unknown_elements(potential, held_out, model)
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must lie between 0 and 1, got {coverage}")
    calculator = LieTransformerCalculator(potential)
    found = Calibration.fit(
        calculator,
        held_out,
        known=known,
        coverage=coverage,
        forces=forces,
        most_with_forces=max(MOST_WITH_FORCES, math.ceil(2 / (1 - coverage))),
    )
    found.save(model)
    return found


def calibrate_run(
    folder: Path, *, coverage: float = 0.9, forces: bool = True
) -> tuple[Calibration, dict[str, float]]:
    """Calibrate the model of a run of molecules, and try the intervals on its test structures (:func:`tested`).

    Raises:
        ConfigError: the run is of another experiment.
    """
    experiment = open_run(folder)
    if not isinstance(experiment, MoleculesExperiment):
        raise ConfigError(f"{folder} is a run of {experiment.name!r}: only runs of molecules are calibrated")
    experiment.reuse(folder)
    splits = experiment.splits
    found = calibrate_model(
        folder / "model", splits["validation"], known=splits["train"], coverage=coverage, forces=forces
    )
    return found, tested(folder / "model", splits["test"])


def tested(model: Path, test: Molecules) -> dict[str, float]:
    """Coverage and median half width in eV of the intervals of a calibrated model, and the number of structures."""
    return {**intervals(model, test), "structures": float(len(test))}
