"""Structures of any size as tensors, and any of them as a padded batch; neighbours are listed once.

Shape letters: S structures, B batch, N atoms (padded), K neighbours (padded), A atoms of all structures together.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lie_sim.data.molecules import PER_ATOM, Molecules
from lie_sim.data.storage import tensors_digest
from lie_sim.elements import symbols
from lie_sim.pairs import find_pairs
from lie_sim.training.tasks import Batch

ALL_PAIRS_UP_TO = 32
"""Atoms of the largest structure that is described by all pairs; lists of as many neighbours take 1.7 times as long."""


class PaddedMolecules:
    """Structures as tensors, any of them as a padded batch.

    Args:
        molecules: the structures.
        cutoff: in Å, for the lists of neighbours; 0 for none.
        inputs: global inputs that the model reads.
        targets: further values that are kept, in float64.
        all_pairs_up_to: atoms of the largest structure up to which all pairs are computed and none are listed.
    """

    def __init__(
        self,
        molecules: Molecules,
        *,
        cutoff: float,
        inputs: tuple[str, ...] = (),
        targets: Sequence[str] = (),
        all_pairs_up_to: int = ALL_PAIRS_UP_TO,
    ) -> None:
        self.sizes = torch.from_numpy(molecules.sizes)
        self.offsets = torch.from_numpy(np.asarray(molecules.offsets))
        self.inputs = inputs
        self.exact = ("energy", "volume", "weight", *targets)
        self.of_atoms = ("positions", "numbers", "forces", *(name for name in targets if name in PER_ATOM))
        self.of_structures = ("energy", "stress", "volume", "weight", *inputs, *targets)
        self.cutoff = cutoff
        self.tensors: dict[str, Tensor] = {
            "positions": torch.from_numpy(molecules.positions),
            "numbers": torch.from_numpy(molecules.numbers),
        }
        volumes = np.abs(np.linalg.det(molecules.cells))
        self.tensors["volume"] = torch.from_numpy(np.where(molecules.pbc.any(1), volumes, 0.0))
        for name, value in molecules.values.items():
            if name in ("energy", "forces", "stress", "weight", *inputs, *targets):
                self.tensors[name] = torch.from_numpy(np.asarray(value, dtype=float))
        if "weight" in self.tensors:
            self.tensors["weight"] = self.tensors["weight"].nan_to_num(nan=1.0)  # of structures without one
        self.same = len(set(molecules.sizes.tolist())) == 1
        listed = cutoff > 0 and (molecules.pbc.any() or molecules.sizes.max(initial=0) > all_pairs_up_to)
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
        """The same on another device; energies and targets stay float64."""
        moved = copy.copy(self)
        moved.tensors = {
            name: x.to(
                device=device, dtype=dtype if x.is_floating_point() and name not in self.exact else None
            )
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
        atoms = {name: self.tensors[name][rows] for name in self.of_atoms if name in self.tensors}
        found = {name: _without_padding(values, mask) for name, values in atoms.items()} | {"sizes": sizes}
        if not self.same:
            found["mask"] = mask
        for name in self.of_structures:
            if name in self.tensors and name not in found:
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


def _without_padding(values: Tensor, mask: Tensor) -> Tensor:
    """0 where there is no atom."""
    return torch.where(mask.reshape(*mask.shape, *(1,) * (values.ndim - 2)), values, torch.zeros_like(values))


_Task = TypeVar("_Task", bound="PaddedTask")  # beartype understands Self only in classes that it decorates


class PaddedTask:
    """What tasks on structures of any size share: the data, and batches of them.

    Args:
        train: training structures.
        validation: validation structures.
    """

    def __init__(self, train: PaddedMolecules, validation: PaddedMolecules) -> None:
        self._train, self._validation = train, validation

    @property
    def num_samples(self) -> int:
        """S."""
        return len(self._train)

    def to(self: _Task, *, dtype: torch.dtype, device: torch.device) -> _Task:
        """The same task with its tensors converted and moved."""
        moved = copy.copy(self)
        moved._train = self._train.to(dtype=dtype, device=device)
        moved._validation = self._validation.to(dtype=dtype, device=device)
        return moved

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """The chosen structures."""
        return self._train.batch(indices)

    def digest(self) -> str:
        """SHA-256 of training and validation data."""
        return hashlib.sha256((self._train.digest() + self._validation.digest()).encode()).hexdigest()


def refuse_new_elements(train: Molecules, validation: Molecules) -> None:
    """Refuse validation data that a model of the training data could not tell anything about.

    Raises:
        ValueError: it says which elements the training data lack.
    """
    unknown = sorted(set(validation.elements) - set(train.elements))
    if unknown:
        raise ValueError(f"the validation data have elements that the training data lack: {symbols(unknown)}")
