"""Learning energies, forces and stresses of molecules and crystals.

    L = w_F ⟨|F − F̂|²⟩/s² + w_E ⟨(E − Ê)²/N²⟩/s² + w_σ ⟨(V(σ − σ̂)/N)²⟩/s²

with s² the variance of the training forces (or, without forces, of the energies of an atom), so that the weights are
plain numbers. Batches are padded to their largest structure; neighbours are listed once.

Shape letters: S structures, B batch, N atoms (padded), K neighbours (padded), A atoms of all structures together.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lie_sim.data.molecules import Molecules
from lie_sim.data.storage import tensors_digest
from lie_sim.models import AtomicPotential, evaluate
from lie_sim.models.atomic import GLOBAL_INPUTS
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.pairs import find_pairs
from lie_sim.state import Particles
from lie_sim.training.references import interaction_energies, reference_energies
from lie_sim.training.tasks import Batch

_ATOMS_AT_ONCE = 2000
"""Atoms of a validation batch, padding included."""
_ALL_PAIRS_UP_TO = 32
"""Largest molecule that is described by all pairs; a step with lists of as many neighbours takes 1.7 times as long."""


class PaddedMolecules:
    """Structures as tensors, any of them as a padded batch.

    Args:
        molecules: the structures.
        cutoff: in Å, for the lists of neighbours; 0 for none.
        inputs: global inputs that the model reads.
    """

    def __init__(self, molecules: Molecules, *, cutoff: float, inputs: tuple[str, ...] = ()) -> None:
        self.sizes = torch.from_numpy(molecules.sizes)
        self.offsets = torch.from_numpy(np.asarray(molecules.offsets))
        self.inputs = inputs
        self.cutoff = cutoff
        self.tensors: dict[str, Tensor] = {
            "positions": torch.from_numpy(molecules.positions),
            "numbers": torch.from_numpy(molecules.numbers),
        }
        volumes = np.abs(np.linalg.det(molecules.cells))
        self.tensors["volume"] = torch.from_numpy(np.where(molecules.pbc.any(1), volumes, 0.0))
        for name, value in molecules.values.items():
            if name in ("energy", "forces", "stress", *inputs):
                self.tensors[name] = torch.from_numpy(np.asarray(value, dtype=float))
        self.same = len(set(molecules.sizes.tolist())) == 1
        listed = cutoff > 0 and (molecules.pbc.any() or molecules.sizes.max(initial=0) > _ALL_PAIRS_UP_TO)
        if listed or "stress" in self.tensors:
            self._list_pairs(molecules)

    def _list_pairs(self, molecules: Molecules) -> None:
        counts, sources, shifts = [], [], []
        for k in range(len(molecules)):
            rows = slice(molecules.offsets[k], molecules.offsets[k + 1])
            found = find_pairs(molecules.positions[rows], molecules.cells[k], molecules.pbc[k], self.cutoff)
            counts.append(np.bincount(found.i, minlength=int(molecules.sizes[k])))
            sources.append(found.j)
            shifts.append(found.images @ molecules.cells[k])
        self.tensors["pair_counts"] = torch.from_numpy(np.concatenate(counts))
        self.tensors["pair_starts"] = self.tensors["pair_counts"].cumsum(0) - self.tensors["pair_counts"]
        self.tensors["pair_sources"] = torch.from_numpy(np.concatenate(sources))
        self.tensors["pair_shifts"] = torch.from_numpy(np.concatenate(shifts))

    def __len__(self) -> int:
        """S."""
        return len(self.sizes)

    def to(self, *, dtype: torch.dtype, device: torch.device) -> PaddedMolecules:
        """The same on another device; energies stay float64."""
        moved = copy.copy(self)
        exact = ("energy", "volume")
        moved.tensors = {
            name: x.to(device=device, dtype=dtype if x.is_floating_point() and name not in exact else None)
            for name, x in self.tensors.items()
        }
        moved.sizes, moved.offsets = self.sizes.to(device), self.offsets.to(device)
        return moved

    def batch(self, indices: Int[Tensor, " B"]) -> Batch:
        """Positions, atomic numbers, neighbours and reference values, padded to the largest structure."""
        indices = indices.to(self.sizes.device)
        sizes = self.sizes[indices]
        place = torch.arange(int(sizes.max()), device=sizes.device)
        mask = place < sizes[:, None]
        rows = torch.where(mask, self.offsets[indices][:, None] + place, 0)
        atoms = {
            name: self.tensors[name][rows]
            for name in ("positions", "numbers", "forces")
            if name in self.tensors
        }
        found = {
            "positions": torch.where(mask[..., None], atoms["positions"], 0.0),
            "numbers": torch.where(mask, atoms["numbers"], 0),
            "sizes": sizes,
        }
        if not self.same:
            found["mask"] = mask
        if "forces" in atoms:
            found["forces"] = torch.where(mask[..., None], atoms["forces"], 0.0)
        for name in ("energy", "stress", "volume", *self.inputs):
            if name in self.tensors:
                found[name] = self.tensors[name][indices]
        return found | (self._neighbours(rows, mask) if "pair_starts" in self.tensors else {})

    def _neighbours(self, rows: Tensor, mask: Tensor) -> Batch:
        counts = torch.where(mask, self.tensors["pair_counts"][rows], 0)
        place = torch.arange(max(1, int(counts.max())), device=rows.device)
        there = place < counts[..., None]
        pairs = torch.where(there, self.tensors["pair_starts"][rows][..., None] + place, 0)
        if not len(self.tensors["pair_sources"]):  # nothing but lone atoms
            return {
                "index": torch.zeros_like(pairs),
                "there": there,
                "shift": pairs.new_zeros(*pairs.shape, 3).double(),
            }
        return {
            "index": torch.where(there, self.tensors["pair_sources"][pairs], 0),
            "there": there,
            "shift": torch.where(there[..., None], self.tensors["pair_shifts"][pairs], 0.0),
        }

    def groups(self, atoms: int) -> list[Tensor]:
        """All structures in batches of similar size, each of at most so many atoms (one at least)."""
        order = torch.argsort(self.sizes, stable=True).cpu()
        found, start = [], 0
        sizes = self.sizes.cpu()[order].tolist()
        for end in range(1, len(sizes) + 1):
            if end == len(sizes) or (end - start + 1) * sizes[end] > atoms:
                found.append(order[start:end])
                start = end
        return found

    def digest(self) -> str:
        """SHA-256 of everything."""
        return tensors_digest({**self.tensors, "sizes": self.sizes})


class MoleculesTask:
    """Energies, forces and stresses of an :class:`~lie_sim.models.AtomicPotential`.

    Args:
        train: structures with energies, and forces if there are any.
        validation: likewise.
        cutoff: of the model, in Å.
        inputs: global inputs of the model.
        force_weight: w_F.
        energy_weight: w_E.
        stress_weight: w_σ.

    Raises:
        ValueError: there are no energies, or an element of the validation is not in the training data.
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
    ) -> None:
        for kind, data in (("training", train), ("validation", validation)):
            if len(data) == 0:
                raise ValueError(f"the {kind} data are empty")
            for name in ("energy", *(name for name in inputs if name in GLOBAL_INPUTS)):
                if name not in data.values or not np.isfinite(data.values[name]).all():
                    raise ValueError(f"a structure of the {kind} data has no {name}")
        unknown = sorted(set(validation.elements) - set(train.elements))
        if unknown:
            raise ValueError(f"the validation data have elements that the training data lack: {unknown}")
        self._train = PaddedMolecules(train, cutoff=cutoff, inputs=inputs)
        self._validation = PaddedMolecules(validation, cutoff=cutoff, inputs=inputs)
        self.cutoff = cutoff
        self.weights = {"forces": force_weight, "energy": energy_weight, "stress": stress_weight}
        self.has_forces = "forces" in train.values and force_weight > 0
        self.metric = "force_mae" if self.has_forces else "energy_mae"
        self.scale = self._scale(train)

    def _scale(self, train: Molecules) -> float:
        if self.has_forces:
            variance = float(np.mean(np.square(train.values["forces"])))
        else:
            variance = float(np.var(interaction_energies(train, reference_energies(train)) / train.sizes))
        return variance if variance > 0 else 1.0

    @property
    def num_samples(self) -> int:
        """S."""
        return len(self._train)

    @property
    def sizes(self) -> Tensor | None:
        """Atoms of each training structure, shape (S,); None if all have the same number."""
        return None if self._train.same else self._train.sizes

    def to(self, *, dtype: torch.dtype, device: torch.device) -> MoleculesTask:
        """The same task with its tensors converted and moved."""
        moved = copy.copy(self)
        moved._train = self._train.to(dtype=dtype, device=device)
        moved._validation = self._validation.to(dtype=dtype, device=device)
        return moved

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """The chosen structures."""
        return self._train.batch(indices)

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The weighted squares; see the module's equation."""
        found = predict(module, batch, cutoff=self.cutoff, forces=self.has_forces, create_graph=True)
        sizes = batch["sizes"].double()
        total = self.weights["energy"] * ((found["energy"] - batch["energy"]) / sizes).square().mean()
        if self.has_forces:
            error = (found["forces"] - batch["forces"]).square().sum() / (3 * batch["sizes"].sum())
            total = total + self.weights["forces"] * error
        if self.weights["stress"] and "stress" in batch and "virial" in found:
            total = total + self.weights["stress"] * _stress_error(found["virial"], batch)
        loss: Tensor = total / self.scale
        return loss

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean absolute errors: energy in eV, energy of an atom in eV, force component in eV/Å; and the loss."""
        sums = dict.fromkeys(("loss", "energy", "energy_atom", "force", "force_square"), 0.0)
        components = 0
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
        return metrics

    def digest(self) -> str:
        """SHA-256 of training and validation data."""
        return hashlib.sha256((self._train.digest() + self._validation.digest()).encode()).hexdigest()

    def options(self) -> dict[str, Any]:
        """The options that change the loss."""
        return {"task": type(self).__name__, "cutoff": self.cutoff, **self.weights}


def _stress_error(virial: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean square of V (σ − σ̂)/N over the components of structures that have a stress."""
    voigt = torch.stack([virial[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], -1)
    known = batch["stress"].isfinite().all(-1) & (batch["volume"] > 0)
    error = (voigt - batch["volume"][:, None] * batch["stress"].nan_to_num()) / batch["sizes"][:, None]
    return torch.where(known[:, None], error.square(), 0.0).sum() / (6 * known.sum().clamp(min=1))


def predict(
    module: nn.Module, batch: Mapping[str, Tensor], *, cutoff: float, forces: bool, create_graph: bool = False
) -> dict[str, Tensor]:
    """Energies (B,), forces (B, N, 3) and, where a stress is known, virials (B, 3, 3) of a batch."""
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
    if not forces:
        with torch.set_grad_enabled(create_graph):
            return {"energy": module(q, particles, neighbours).sum(-1)}
    assert isinstance(module, AtomicPotential)
    virials = neighbours is not None and "stress" in batch
    made = evaluate(module, q, particles, neighbours, virials=virials, create_graph=create_graph)
    found = {"energy": made.energy, "forces": made.forces}
    return found if made.virials is None else found | {"virial": made.virials.sum(1)}
