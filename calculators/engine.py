"""From a batch of systems to the results of each: energies, forces, heads, derivatives, and how far to trust them.

Shape letters: B batch, N atoms, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from typing import Any

from ase import Atoms
from torch import Tensor

from lie_sim.calculators.calibration import Calibration
from lie_sim.calculators.conversion import Structures
from lie_sim.calculators.evaluation import FEATURES, evaluated
from lie_sim.calculators.linear_posterior import energy_deviations, force_deviations
from lie_sim.calculators.response import born_charges
from lie_sim.calculators.results import BORN, OF_A_LATTICE, mean_results, meaningless, results_of
from lie_sim.calculators.uncertainty import OF_FORCES, calibrated, complaint, react
from lie_sim.models import AtomicPotential, Evaluation
from lie_sim.models.last_layer import LastLayer


class Engine:
    """The models of a calculator at work.

    Args:
        potentials: one, or an ensemble, whose means and standard deviations are the results.
        names: of the results that are kept.
        calibration: of the deviations, or None.
        on_uncertain: what to do where the calibration says that a result cannot be relied on.
        compile: whether evaluations are compiled.
    """

    def __init__(
        self,
        potentials: Sequence[AtomicPotential],
        *,
        names: Sequence[str],
        calibration: Calibration | None = None,
        on_uncertain: str = "ignore",
        compile: bool = False,
    ) -> None:
        self.potentials, self.names = list(potentials), frozenset(names)
        self.calibration, self.on_uncertain = calibration, on_uncertain
        self._factor: Tensor | None = None if calibration is None else calibration.factor
        layer = None if self._factor is None else LastLayer(self.potentials[0])
        self._runs = [runner(each, layer, compile=compile) for each in self.potentials]

    def __call__(self, batch: Structures, systems: Sequence[Atoms], wanted: Set[str]) -> list[dict[str, Any]]:
        """The results of every system of a batch, with at least what is wanted.

        Raises:
            UncertaintyError: one cannot be relied on, and ``on_uncertain`` is ``"raise"``.
        """
        virials = bool(wanted & OF_A_LATTICE)
        found = [run(batch, virials=virials) for run in self._runs]
        if BORN in wanted:
            found = [
                replace(each, properties={**each.properties, BORN: self._born(potential, batch)})
                for potential, each in zip(self.potentials, found, strict=True)
            ]
        results = [self._gathered(found, batch, atoms, row) for row, atoms in enumerate(systems)]
        if self._factor is not None:
            sigma = energy_deviations(found[0].properties[FEATURES], self._factor)
            self._add_deviations(results, sigma.tolist(), batch, wanted)
        if self.calibration is None:
            return results
        return [self._trusted(each, atoms) for each, atoms in zip(results, systems, strict=True)]

    def _born(self, potential: AtomicPotential, batch: Structures) -> Tensor:
        return born_charges(potential, batch.q, batch.particles, batch.neighbours)

    def _gathered(
        self, found: Sequence[Evaluation], batch: Structures, atoms: Atoms, row: int
    ) -> dict[str, Any]:
        results = []
        for potential, each in zip(self.potentials, found, strict=True):
            attributes = batch.particles.attributes
            charged = atoms.pbc.any() and attributes is not None and "charge" in potential.config.inputs
            charge = float(attributes[row, 0, 0]) if charged and attributes is not None else 0.0
            told = results_of(each, atoms, row, without=meaningless(potential, atoms, charge))
            results.append({name: value for name, value in told.items() if name in self.names})
        return results[0] if len(results) == 1 else mean_results(results)

    def _add_deviations(
        self,
        results: Sequence[dict[str, Any]],
        energies: Sequence[float],
        batch: Structures,
        wanted: Set[str],
    ) -> None:
        """σ of the energies from the last layer, and of the forces where they are wanted."""
        for each, sigma in zip(results, energies, strict=True):
            each["energy_std"] = sigma
        if wanted & OF_FORCES and self._factor is not None:
            forces = force_deviations(self.potentials[0], batch, self._factor).cpu().numpy()
            for row, each in enumerate(results):
                each["forces_std"] = forces[row, : batch.sizes[row]]

    def _trusted(self, results: dict[str, Any], atoms: Atoms) -> dict[str, Any]:
        assert self.calibration is not None
        scaled = calibrated(results, self.calibration)
        if self.on_uncertain != "ignore":
            react(complaint(scaled, self.calibration, atoms), self.on_uncertain)
        return scaled


def runner(
    potential: AtomicPotential, layer: LastLayer | None, *, compile: bool
) -> Callable[..., Evaluation]:
    """The function (batch, *, virials) that evaluates a potential."""
    if not compile:
        return partial(evaluated, potential, layer)
    from lie_sim.calculators.compiled import CompiledEvaluation

    return CompiledEvaluation(potential, layer)
