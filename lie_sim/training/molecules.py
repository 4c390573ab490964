"""Learning energies, forces and stresses of molecules and crystals.

    L = w_F ⟨h(F − F̂)⟩/s² + w_E ⟨h((E − Ê)/N)⟩/s² + w_σ ⟨(V(σ − σ̂)/N)²⟩/s² + w_y ⟨|y_t − ŷ_t|/s_t⟩

over targets t such as the dipole (:mod:`lie_sim.training.targets`), with s_t their spread and s² the variance of the
training forces (or, without forces, of the energies of an atom), so that the weights are plain numbers. h is the
square or, with δ > 0, the pseudo-Huber loss 2δ²(√(1 + |x|²/δ²) − 1) of the force on an atom (eV/Å) or the energy of one
(eV), which is |x|² below δ and grows as 2δ|x| beyond: few large errors then count less, and the many small forces near
minima more. Every term of a structure is multiplied by its weight, where the data have one. Batches are padded to their
largest structure; neighbours are listed once.

Shape letters: S structures, B batch, N atoms (padded), K neighbours (padded), A atoms of all structures together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.data.molecules import Molecules
from lie_sim.models import AtomicPotential, evaluate
from lie_sim.models.atomic import GLOBAL_INPUTS
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles
from lie_sim.training.padded import PaddedMolecules, PaddedTask, refuse_new_elements
from lie_sim.training.references import interaction_energies, reference_energies
from lie_sim.training.targets import MeanErrors, Target, TargetErrors
from lie_sim.training.tasks import Batch

_ATOMS_AT_ONCE = 2000
"""Atoms of a validation batch, padding included."""


class MoleculesTask(PaddedTask):
    """Energies, forces and stresses of an :class:`~lie_sim.models.AtomicPotential`.

    Args:
        train: structures with energies, and forces if there are any. Values "weight" are weights in the loss, 1 where
            they are NaN.
        validation: likewise.
        cutoff: of the model, in Å.
        inputs: global inputs of the model.
        force_weight: w_F.
        energy_weight: w_E.
        stress_weight: w_σ.
        huber_delta: δ in eV/Å of forces and eV of an atom's energy; 0 takes squares.
        targets: properties that are learned too.
        property_weight: w_y.

    Raises:
        ValueError: there are no energies, a weight is negative, or an element of the validation is not in the training
            data.
    """

    def __init__(
        self,
        train: Molecules,
        validation: Molecules,
        *,
        cutoff: float,
        inputs: tuple[str, ...] = (),
        force_weight: float = 100.0,
        energy_weight: float = 10.0,
        stress_weight: float = 0.0,
        huber_delta: float = 0.0,
        targets: Sequence[Target] = (),
        property_weight: float = 1.0,
    ) -> None:
        for kind, data in (("training", train), ("validation", validation)):
            if len(data) == 0:
                raise ValueError(f"the {kind} data are empty")
            for name in ("energy", *(name for name in inputs if name in GLOBAL_INPUTS)):
                if name not in data.values or not np.isfinite(data.values[name]).all():
                    raise ValueError(f"a structure of the {kind} data has no {name}")
        refuse_new_elements(train, validation)
        train = _with_weights(train)
        self.errors = TargetErrors(targets, train)
        names = self.errors.names
        super().__init__(
            *(PaddedMolecules(x, cutoff=cutoff, inputs=inputs, targets=names) for x in (train, validation))
        )
        self.cutoff = cutoff
        self.huber_delta = huber_delta
        self.weights = {"forces": force_weight, "energy": energy_weight, "stress": stress_weight}
        if targets:
            self.weights["properties"] = property_weight
        self.has_forces = "forces" in train.values and force_weight > 0
        self.metric = "force_mae" if self.has_forces else "energy_mae"
        self.scale = self._scale(train)

    def _scale(self, train: Molecules) -> float:
        if self.has_forces:
            weights = np.repeat(train.values["weight"], train.sizes) if "weight" in train.values else None
            variance = float(np.average(np.square(train.values["forces"]).mean(1), weights=weights))
        else:
            variance = float(np.var(interaction_energies(train, reference_energies(train)) / train.sizes))
        return variance if variance > 0 else 1.0

    @property
    def sizes(self) -> Tensor | None:
        """Atoms of each training structure, shape (S,); None if all have the same number."""
        return None if self._train.same else self._train.sizes

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The weighted squares; see the module's equation."""
        found = predict(module, batch, cutoff=self.cutoff, forces=self.has_forces, create_graph=True)
        sizes = batch["sizes"].double()
        weights = batch.get("weight", torch.ones_like(sizes))
        square = ((found["energy"] - batch["energy"]) / sizes).square()
        total = self.weights["energy"] * (weights * self._robust(square)).mean()
        if self.has_forces:
            squares = (found["forces"] - batch["forces"]).square().sum(-1)
            error = (weights * self._robust(squares).sum(-1)).sum() / (3 * batch["sizes"].sum())
            total = total + self.weights["forces"] * error
        if self.weights["stress"] and "stress" in batch and "virial" in found:
            total = total + self.weights["stress"] * _stress_error(found["virial"], batch)
        loss: Tensor = total / self.scale
        if self.errors.targets:
            loss = loss + self.weights["properties"] * self.errors.loss(found, batch)
        return loss

    def _robust(self, square: Tensor) -> Tensor:
        """Values of h from squared lengths."""
        if not self.huber_delta:
            return square
        return 2 * square / (1 + (1 + square / self.huber_delta**2).sqrt())  # no difference of numbers near 1

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean absolute errors: energy in eV, energy of an atom in eV, force component in eV/Å; and the loss."""
        sums = dict.fromkeys(("loss", "energy", "energy_atom", "force", "force_square"), 0.0)
        components = 0
        properties = MeanErrors(self.errors)
        for group in self._validation.groups(_ATOMS_AT_ONCE):
            batch = self._validation.batch(group)
            found = predict(module, batch, cutoff=self.cutoff, forces=self.has_forces)
            error = (found["energy"] - batch["energy"]).abs()
            sums["energy"] += float(error.sum())
            sums["energy_atom"] += float((error / batch["sizes"]).sum())
            square = float((error / batch["sizes"]).square().sum())
            sums["loss"] += self.weights["energy"] * square
            if self.has_forces:
                off = found["forces"] - batch["forces"]
                sums["force"] += float(off.abs().sum())
                sums["force_square"] += float(off.square().sum())
                components += 3 * int(batch["sizes"].sum())
            properties.add(found, batch)
        count = len(self._validation)
        metrics = {
            "energy_mae": sums["energy"] / count,
            "energy_atom_mae": sums["energy_atom"] / count,
            "validation_loss": sums["loss"] / count / self.scale,
        }
        if self.has_forces:
            metrics["force_mae"] = sums["force"] / components
            metrics["force_rmse"] = (sums["force_square"] / components) ** 0.5
            metrics["validation_loss"] += (
                self.weights["forces"] * sums["force_square"] / components / self.scale
            )
        return metrics | properties.named()

    def options(self) -> dict[str, Any]:
        """The options that change the loss."""
        robust = {"huber_delta": self.huber_delta} if self.huber_delta else {}
        return {"task": type(self).__name__, "cutoff": self.cutoff, **self.weights, **robust}


def _with_weights(train: Molecules) -> Molecules:
    """The same with a weight for every structure, if one has any."""
    if "weight" not in train.values:
        return train
    weights = np.nan_to_num(train.values["weight"], nan=1.0)
    if not ((weights >= 0) & np.isfinite(weights)).all() or not weights.any():
        raise ValueError("weights of structures must be finite, not negative, and not all 0")
    return replace(train, values={**train.values, "weight": weights})


def _stress_error(virial: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean square of V (σ − σ̂)/N over the components of structures that have a stress."""
    voigt = torch.stack([virial[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], -1)
    known = batch["stress"].isfinite().all(-1) & (batch["volume"] > 0)
    error = (voigt - batch["volume"][:, None] * batch["stress"].nan_to_num()) / batch["sizes"][:, None]
    squares = torch.where(known[:, None], error.square(), 0.0).sum(-1)
    return (squares * batch.get("weight", 1.0)).sum() / (6 * known.sum().clamp(min=1))


def predict(
    module: nn.Module, batch: Mapping[str, Tensor], *, cutoff: float, forces: bool, create_graph: bool = False
) -> dict[str, Tensor]:
    """Energies (B,), properties, forces (B, N, 3) and, where a stress is known, virials (B, 3, 3) of a batch."""
    numbers, mask = batch["numbers"], batch.get("mask")
    q = batch["positions"]
    given = [batch[name][:, None].expand(numbers.shape) for name in GLOBAL_INPUTS if name in batch]
    particles = Particles(
        masses=torch.ones_like(q[..., 0]),
        species=numbers,
        attributes=torch.stack(given, -1) if given else None,
        mask=mask,
    )
    neighbours = None
    if "index" in batch:
        neighbours = NeighbourMatrix(batch["index"], batch["there"], batch["shift"], cutoff or None)
    assert isinstance(module, AtomicPotential)
    if not forces:
        with torch.set_grad_enabled(create_graph):
            energies, properties = module.outputs(q, particles, neighbours)
        return {**properties, "energy": energies.sum(-1)}
    virials = neighbours is not None and "stress" in batch
    made = evaluate(module, q, particles, neighbours, virials=virials, create_graph=create_graph)
    found = {**made.properties, "energy": made.energy, "forces": made.forces}
    return found if made.virials is None else found | {"virial": made.virials.sum(1)}


def errors(
    module: nn.Module, test: Molecules, *, cutoff: float, inputs: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Differences to the reference: energies (M,) in eV, and forces (A, 3) in eV/Å if there are any."""
    parameter = next(module.parameters())
    padded = PaddedMolecules(test, cutoff=cutoff, inputs=inputs)
    padded = padded.to(dtype=parameter.dtype, device=parameter.device)
    found = {"energy": np.zeros(len(test))}
    with_forces = "forces" in test.values
    if with_forces:
        found["forces"] = np.zeros((len(test.numbers), 3))
    for group in padded.groups(_ATOMS_AT_ONCE):
        batch = padded.batch(group)
        made = predict(module, batch, cutoff=cutoff, forces=with_forces)
        found["energy"][group.numpy()] = (made["energy"] - batch["energy"]).cpu().numpy()
        if with_forces:
            off = (made["forces"] - batch["forces"]).double().cpu().numpy()
            for row, k in enumerate(group.tolist()):
                found["forces"][test.offsets[k] : test.offsets[k + 1]] = off[row, : test.sizes[k]]
    return found
