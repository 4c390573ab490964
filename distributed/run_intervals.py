"""How far the energies of a run of atoms can be trusted: the intervals of a calibrated model where it began and ended.

Units: eV.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.distributed.export_atoms import ends_of
from lie_sim.distributed.run import Run


@dataclass(frozen=True)
class IntervalsOfEnds:
    """Half widths of the intervals of energies.

    Args:
        coverage: share of energies that lie in the intervals, of structures as those of the calibration.
        first: eV, of the first frame of each trajectory.
        last: eV, of its last frame.
    """

    coverage: float
    first: np.ndarray
    last: np.ndarray

    def __str__(self) -> str:
        """The medians, and the largest at the end."""
        begin, end = (1000 * np.median(each) for each in (self.first, self.last))
        return (
            f"± {end:.3g} meV ({100 * self.coverage:g} %; median of {len(self.last)} last frames, largest "
            f"{1000 * self.last.max():.3g}, of the first ones {begin:.3g})"
        )


def intervals_of_ends(run: Run, model: Path, *, most: int = 20) -> IntervalsOfEnds | None:
    """Intervals of the first and the last frames of some trajectories; None if the model has no calibration.

    Args:
        run: of atoms, complete or not.
        model: folder of the potential that moved them.
        most: trajectories that are looked at, evenly over the run.
    """
    calculator = LieTransformerCalculator(model, on_uncertain="ignore")
    if calculator.calibration is None or "energy_interval" not in calculator.implemented_properties:
        return None
    total = run.manifest.num_trajectories
    chosen = np.unique(np.linspace(0, total - 1, min(most, total)).astype(int)).tolist()
    ends = list(ends_of(run, chosen))
    if not ends:
        return None
    first, last = (_half_widths(calculator, [pair[k] for pair in ends]) for k in (0, 1))
    return IntervalsOfEnds(calculator.calibration.coverage, first, last)


def _half_widths(calculator: LieTransformerCalculator, frames: list[Atoms]) -> np.ndarray:
    found = calculator.predict_many(frames, properties=("energy", "energy_interval"))
    widths: np.ndarray = np.array([np.diff(each["energy_interval"])[0] for each in found])
    return widths / 2
