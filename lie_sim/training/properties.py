"""Learning properties of molecules without their energy: orbital energies, dipoles, heat capacities and the like.

    L = ⟨ |y_t − ŷ_t| / s_t ⟩        over targets t and structures, with s_t the spread of the training data

Shape letters: S structures, B batch, N atoms (padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.data.molecules import Molecules
from lie_sim.models import AtomicPotential
from lie_sim.training.molecules import predict
from lie_sim.training.padded import PaddedMolecules, PaddedTask, refuse_new_elements
from lie_sim.training.targets import MeanErrors, Target, TargetErrors, property_heads
from lie_sim.training.tasks import Batch

_WORTH_HALVING = 24
"""Structures; the operations of a smaller batch take as long as their calls."""
_ATOMS_AT_ONCE = 2000
"""Atoms of a validation batch, padding included."""


def property_model(molecules: Molecules, targets: Sequence[Target], **options: Any) -> AtomicPotential:
    """An untrained model of properties alone, with the scales and constants of a data set.

    Args:
        molecules: the training data.
        targets: what it is to tell.
        options: of :class:`~lie_sim.models.AtomicConfig`; ``network`` overrides single options of the network.
    """
    found = property_heads(molecules, targets)
    return AtomicPotential.default(elements=molecules.elements, heads=found, with_energy=False, **options)


class PropertyTask(PaddedTask):
    """Properties of an :class:`~lie_sim.models.AtomicPotential`.

    Args:
        train: structures with values of the targets; single ones may be NaN.
        validation: likewise.
        targets: what is learned.
        cutoff: of the model, in Å.
        inputs: global inputs of the model.

    Raises:
        ValueError: data are empty, a target is missing, or an element of the validation is not in the training data.
    """

    metric = "relative_mae"

    def __init__(
        self,
        train: Molecules,
        validation: Molecules,
        *,
        targets: Sequence[Target],
        cutoff: float,
        inputs: tuple[str, ...] = (),
    ) -> None:
        if not targets or not len(train) or not len(validation):
            raise ValueError("give at least one target, one training and one validation structure")
        refuse_new_elements(train, validation)
        self.errors = TargetErrors(targets, train)
        self.cutoff, self.inputs = cutoff, inputs
        for target in targets:
            target.values(validation)
        super().__init__(self._padded(train), self._padded(validation))

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The mean absolute error in units of the spreads."""
        total = torch.zeros((), dtype=torch.float64, device=batch["sizes"].device)
        for part in by_size(batch, self._train.of_atoms):
            found = predict(module, part, cutoff=self.cutoff, forces=False, create_graph=True)
            total = total + self.errors.loss(found, part) * len(part["sizes"]) / len(batch["sizes"])
        return total

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean absolute error of every target in its unit, ``NAME_mae``, and their mean in units of the spreads."""
        found = self._errors(module, self._validation)
        return found.named() | {"relative_mae": found.relative()}

    def predictions_on(
        self, module: nn.Module, molecules: Molecules
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What the model says of other structures, and what they say themselves, for every target.

        Flat, in the order of the structures, without values that they do not have, in the unit of the data.
        """
        parameter = next(module.parameters())
        structures = self._padded(molecules).to(dtype=parameter.dtype, device=parameter.device)
        parts: dict[str, list[Tensor]] = {name: [] for name in self.errors.names}
        for group in structures.groups(_ATOMS_AT_ONCE):
            batch = structures.batch(group)
            found = predict(module, batch, cutoff=self.cutoff, forces=False)
            for target in self.errors.targets:
                value, true, known = self.errors.values(target, found, batch)
                whose = group.to(value.device).view(-1, *(1,) * (value.dim() - 1)).expand_as(value)
                columns = [
                    each[known].double() for each in (whose, value / target.factor, true / target.factor)
                ]
                parts[target.name].append(torch.stack(columns).cpu())
        told = {}
        for name, each in parts.items():
            whose, predicted, true = torch.cat(each, dim=1).numpy()
            order = np.argsort(whose, kind="stable")
            told[name] = predicted[order], true[order]
        return told

    def _padded(self, molecules: Molecules) -> PaddedMolecules:
        return PaddedMolecules(
            molecules,
            cutoff=self.cutoff,
            inputs=self.inputs,
            targets=self.errors.names,
        )

    def _errors(self, module: nn.Module, structures: PaddedMolecules) -> MeanErrors:
        found = MeanErrors(self.errors)
        for group in structures.groups(_ATOMS_AT_ONCE):
            batch = structures.batch(group)
            found.add(predict(module, batch, cutoff=self.cutoff, forces=False), batch)
        return found

    def options(self) -> dict[str, Any]:
        """The options that change the loss."""
        targets = {t.name: [t.head, t.reading, t.factor] for t in self.errors.targets}
        return {"task": type(self).__name__, "cutoff": self.cutoff, "targets": targets}


def by_size(batch: Batch, of_atoms: Sequence[str]) -> list[Batch]:
    """The smaller and the larger half of a batch, each padded to its own largest structure: a quarter less to compute.

    A batch with lists of neighbours stays whole, and so does a small one.
    """
    sizes, padded = batch["sizes"], {*of_atoms, "mask"}
    if "index" in batch or len(sizes) < _WORTH_HALVING or "mask" not in batch:
        return [batch]
    parts = []
    for rows in sizes.argsort().tensor_split(2):
        largest = int(sizes[rows].max())
        parts.append({name: x[rows, :largest] if name in padded else x[rows] for name, x in batch.items()})
    return parts
