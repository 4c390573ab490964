"""Errors of any potential of atoms on structures with reference values, whoever trained it on what.

    energy_shift    mean of predicted − reference, eV: large where the two have different zeros of the energy
    coverage        share of the energies that lie in the intervals of a calibrated model
    interval        median half width of these intervals, eV

The others are mean absolute and root mean square errors, as of a run. Units: eV, Å, e.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.calibrate import warn_of_another_zero
from lie_sim.calculators.calibration import FILE_NAME
from lie_sim.calculators.from_data import atoms_of
from lie_sim.checkpoint import load_model
from lie_sim.data.molecules import Molecules
from lie_sim.elements import symbols
from lie_sim.errors import ConfigError
from lie_sim.experiments.molecules import UNITS, UNITS_OF_KINDS, summary
from lie_sim.experiments.molecules_report import mean_errors
from lie_sim.models import AtomicPotential
from lie_sim.training import PropertyTask, Target
from lie_sim.training.molecules import errors


def evaluated(model: Path, structures: Molecules) -> dict[str, float]:
    """Errors of all that the model tells and the structures have; warns where the zeros of their energies differ.

    Args:
        model: its folder.
        structures: with reference values in eV, Å, e.

    Returns:
        Figures by name, as of :meth:`~lie_sim.experiments.molecules.MoleculesExperiment.evaluate`, with
        ``energy_shift`` and, of a calibrated model, ``coverage`` and ``interval``.

    Raises:
        ConfigError: it is no potential of atoms, it does not know an element, or there is nothing to compare.
    """
    potential = load_model(model)
    if not isinstance(potential, AtomicPotential):
        raise ConfigError(
            f"{model} is no potential of atoms: only those are evaluated with structures of a file"
        )
    refuse_unknown_elements(potential, structures, model)
    cutoff, inputs = potential.cutoff, potential.config.inputs
    results: dict[str, float] = {}
    if potential.has_energy and "energy" in structures.values:
        found = errors(potential, structures, cutoff=cutoff, inputs=inputs)
        warn_of_another_zero(-found["energy"], structures)
        results = {**summary(found, structures), "energy_shift": float(found["energy"].mean())}
        if (model / FILE_NAME).is_file():
            results |= intervals(model, structures)
    targets = common_targets(potential, structures)
    if targets:
        task = PropertyTask(structures, structures, targets=targets, cutoff=cutoff, inputs=inputs)
        told = mean_errors(task.predictions_on(potential, structures))
        results |= {f"{name}_mae": mae for name, mae in told.items()}
    if not results:
        tells = [*(["energy"] if potential.has_energy else []), *potential.config.heads]
        raise ConfigError(
            f"nothing to compare: {model} tells {', '.join(tells)}, the structures have "
            f"{', '.join(structures.values) or 'no reference values'}"
        )
    return results


def common_targets(potential: AtomicPotential, structures: Molecules) -> list[Target]:
    """Heads whose values the structures have under the same name."""
    heads = potential.config.heads.items()
    return [Target(name, head=name, kind=head.kind) for name, head in heads if name in structures.values]


def unit_of(figure: str, model: AtomicPotential) -> str:
    """Of a figure of :func:`evaluated`."""
    kinds = {f"{name}_mae": head.kind for name, head in model.config.heads.items()}
    return UNITS.get(figure, UNITS_OF_KINDS.get(kinds.get(figure, ""), ""))


def intervals(model: Path, test: Molecules) -> dict[str, float]:
    """Coverage and median half width in eV of the intervals of a calibrated model."""
    calculator = LieTransformerCalculator(model, on_uncertain="ignore")
    found = calculator.predict_many(atoms_of(test), properties=("energy", "energy_interval"))
    ends = np.array([each["energy_interval"] for each in found])
    inside = (ends[:, 0] <= test.values["energy"]) & (test.values["energy"] <= ends[:, 1])
    return {"coverage": float(inside.mean()), "interval": float(np.median(np.diff(ends, axis=1) / 2))}


def refuse_unknown_elements(potential: AtomicPotential, structures: Molecules, model: Path) -> None:
    """Of structures that a model is to tell something of.

    Raises:
        ConfigError: there is one.
    """
    unknown = sorted(set(structures.elements) - set(potential.config.elements))
    if unknown:
        raise ConfigError(f"{model} does not know {symbols(unknown)} of the structures")
