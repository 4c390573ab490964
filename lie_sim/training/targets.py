r"""Properties to learn: which head tells them, how the data state them, what the composition alone explains of them.

    y ≈ Σ_Z n_Z y_Z                                  extensive, polarizability (its trace/3)
    y ≈ Σ_Z (n_Z s_Z + a_Z Σ_{i of Z} |r_i − c|²)    spatial extent
    y ≈ mean                                         intensive

are least squares over the training data; what is left sets the scale of a head and of its errors in the loss.

Shape letters: M structures, A atoms of all structures together, E elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lie_sim.data.molecules import PER_ATOM, Molecules
from lie_sim.models import HeadConfig

Reading = Literal["itself", "norm", "mean", "principal"]
KNOWN_KINDS = {"dipole": (3,), "polarizability": (3, 3), "charges": ()}
"""Properties that are called like their kind, and the shape of their values."""
_TINY = 1e-12


@dataclass(frozen=True)
class Target:
    """One property of a data set.

    Args:
        name: of the values in the data.
        head: name of the head that tells it; several targets may share one.
        kind: of the head.
        reading: how the data state what the head tells: "itself", "norm" (of a dipole), "mean" (trace/3 of a
            polarizability) or "principal" (its three eigenvalues, ascending: all that does not turn).
        factor: unit of the data in that of the model.

    Example:
        >>> Target("mu", head="dipole", kind="dipole", reading="norm", factor=0.2081943).reading
        'norm'
    """

    name: str
    head: str
    kind: str
    reading: Reading = "itself"
    factor: float = 1.0

    @property
    def per_atom(self) -> bool:
        """Whether it is a number of every atom."""
        return self.kind in PER_ATOM

    def read(self, value: Tensor) -> Tensor:
        """What a head told, as the data state it, still in the unit of the model."""
        if self.reading == "norm":
            return torch.sqrt(value.square().sum(-1) + _TINY)
        if self.reading == "itself":
            return value
        if self.reading == "mean":
            return value.diagonal(dim1=-2, dim2=-1).sum(-1) / 3
        whole = value.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
        eigenvalues: Tensor = torch.linalg.eigvalsh(
            torch.where(whole, value, 0.0)
        )  # fails where there is a NaN
        return torch.where(whole[..., 0], eigenvalues, torch.nan)

    def values(self, molecules: Molecules) -> np.ndarray:
        """Reference values in the unit of the model.

        Raises:
            ValueError: the data have none, or of another shape.
        """
        if self.name not in molecules.values:
            raise ValueError(
                f"the data have no {self.name!r}; they have {', '.join(sorted(molecules.values)) or 'no values'}"
            )
        found = np.asarray(molecules.values[self.name], dtype=float) * self.factor
        shapes = {"itself": KNOWN_KINDS.get(self.kind, ()), "principal": (3,)}
        shape = shapes.get(self.reading, ())
        if found.shape[1:] != shape:
            raise ValueError(f"{self.name!r} must have the shape {('M', *shape)}, got {found.shape}")
        return found


def named_target(text: str) -> Target:
    """A target from "dipole", "charges", "polarizability", "NAME:intensive" or "NAME:extensive".

    Raises:
        ValueError: it is none of them.

    Example:
        >>> named_target("gap:intensive").kind
        'intensive'
    """
    name, _, kind = text.partition(":")
    if not kind and name in KNOWN_KINDS:
        kind = name
    if not name or kind not in ("intensive", "extensive", "spatial_extent", *KNOWN_KINDS):
        raise ValueError(
            f"unknown property {text!r}: give {', '.join(KNOWN_KINDS)}, or NAME:intensive or NAME:extensive"
        )
    return Target(name, head=name, kind=kind)


def design(molecules: Molecules, kind: str, elements: Sequence[int]) -> np.ndarray:
    """What the composition says, shape (M, columns): the columns that the references of a head multiply."""
    counts = molecules.composition(elements).astype(float)
    if kind in ("extensive", "polarizability"):
        return counts
    if kind == "spatial_extent":
        return np.concatenate([_extents(molecules, elements), counts], 1)
    return np.ones((len(molecules), 1))


def _extents(molecules: Molecules, elements: Sequence[int]) -> np.ndarray:
    """Σ |r_i − c|² over the atoms of each element about the centre of nuclear charge, shape (M, E)."""
    count, z = len(molecules), molecules.numbers.astype(float)
    structure = np.repeat(np.arange(count), molecules.sizes)
    sums = [np.bincount(structure, z * x, minlength=count) for x in molecules.positions.T]
    centre = np.stack(sums, 1) / np.bincount(structure, z, minlength=count)[:, None]
    square = np.square(molecules.positions - centre[structure]).sum(1)
    each = [np.bincount(structure, square * (molecules.numbers == e), minlength=count) for e in elements]
    return np.stack(each, 1)


@dataclass(frozen=True)
class Explained:
    """What is known of a target before training.

    Args:
        constants: of the head, by least squares; empty for a vector, charges and an anisotropy.
        scale: standard deviation of what they leave, in the unit of the model.
    """

    constants: tuple[float, ...]
    scale: float


def explain(molecules: Molecules, target: Target) -> Explained:
    """Fit the constants of a target, and measure what is left.

    Raises:
        ValueError: no structure has a value.

    Example:
        >>> two = Molecules(np.array([1, 1, 1]), np.zeros((3, 3)), np.array([0, 1, 3]), np.zeros((2, 3, 3)),
        ...     np.zeros((2, 3), bool), {"Cv": np.array([2.0, 4.0])})
        >>> [round(x, 6) for x in explain(two, named_target("Cv:extensive")).constants]
        [2.0]
    """
    values = target.values(molecules)
    known = np.isfinite(values).reshape(len(values), -1).all(1)
    if not known.any():
        raise ValueError(f"no structure has a value of {target.name!r}")
    if target.kind in ("dipole", "charges"):
        return Explained((), _scale(values[known]))
    values, means = values[known], values[known]
    if values.ndim > 1:  # a tensor, or its eigenvalues, about the mean of the diagonal
        diagonal = np.diagonal(values, axis1=1, axis2=2) if values.ndim == 3 else values
        means = diagonal.mean(1)
    columns = design(molecules, target.kind, molecules.elements)[known]
    constants, *_ = np.linalg.lstsq(columns, means, rcond=None)
    fitted = columns @ constants
    isotropic = {1: fitted, 2: fitted[:, None], 3: fitted[:, None, None] * np.eye(3)}
    left = values - isotropic[values.ndim]
    return Explained(tuple(constants.tolist()), _scale(left))


def _scale(values: np.ndarray) -> float:
    """Standard deviation, or 1 where all values are the same up to round-off."""
    found = float(np.std(values))
    return found if found > 1e-9 * (1 + float(np.abs(values).max())) else 1.0


def property_heads(molecules: Molecules, targets: Sequence[Target]) -> dict[str, HeadConfig]:
    """Heads that tell the targets, with scale and constants of the training data."""
    found: dict[str, HeadConfig] = {}
    for target in targets:
        known = explain(molecules, target)
        mean = known.constants[0] if target.kind == "intensive" else 0.0
        references = () if target.kind == "intensive" else known.constants
        if target.head not in found or references:
            found[target.head] = HeadConfig(target.kind, known.scale, mean, references)
    return found


def composition_errors(train: Molecules, test: Molecules, target: Target) -> np.ndarray:
    """Errors on the test data, in their unit, of the best sum of constants of the elements and one more constant.

    The least that any model has to beat; for numbers, and eigenvalues one by one. Of charges, the mean of each element.
    """
    elements = train.elements

    def columns(data: Molecules) -> np.ndarray:
        if target.per_atom:
            which: np.ndarray = data.numbers[:, None] == np.array(elements)
            return which.astype(float)
        return np.concatenate([data.composition(elements), np.ones((len(data), 1))], 1).astype(float)

    values = train.values[target.name]
    known = np.isfinite(values).reshape(len(values), -1).all(1)
    constants, *_ = np.linalg.lstsq(columns(train)[known], values[known], rcond=None)
    errors: np.ndarray = columns(test) @ constants - test.values[target.name]
    return errors


class TargetErrors:
    """Errors of several targets, each in units of its spread in the training data.

    Args:
        targets: what is learned.
        train: the training data, which set the spreads.
    """

    def __init__(self, targets: Sequence[Target], train: Molecules) -> None:
        self.targets = tuple(targets)
        self.names = tuple(target.name for target in targets)
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a target is named twice: {', '.join(self.names)}")
        self.scales = {target.name: explain(train, target).scale for target in targets}

    def values(
        self, target: Target, found: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the model says and what the data say in the unit of the model, and where the data know it."""
        value, true = target.read(found[target.head]), batch[target.name] * target.factor
        known = true.isfinite().expand_as(value)
        if target.per_atom and "mask" in batch:
            known = known & batch["mask"]
        return value, true, known

    def of(self, target: Target, found: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Differences of the values that are known, flat, in the unit of the model."""
        value, true, known = self.values(target, found, batch)
        return (value - true)[known]

    def loss(self, found: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Mean over the targets of the mean absolute error in units of the spread, times the structures' weights."""
        each = []
        for target in self.targets:
            value, true, known = self.values(target, found, batch)
            error = (value - true)[known].abs() / self.scales[target.name]
            if "weight" in batch:
                weights = batch["weight"].view(-1, *(1,) * (known.dim() - 1))
                error = error * weights.expand_as(known)[known]
            each.append(error.sum() / max(1, error.numel()))
        return torch.stack(each).mean()


class MeanErrors:
    """Mean absolute errors over several batches.

    Args:
        errors: of the targets.
    """

    def __init__(self, errors: TargetErrors) -> None:
        self.errors = errors
        self.sums = dict.fromkeys(errors.names, 0.0)
        self.counts = dict.fromkeys(errors.names, 0)

    def add(self, found: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Take in a batch."""
        for target in self.errors.targets:
            off = self.errors.of(target, found, batch).abs() / abs(target.factor)
            self.sums[target.name] += float(off.sum())
            self.counts[target.name] += off.numel()

    def mean(self) -> dict[str, float]:
        """Of every target, in the unit of the data."""
        return {name: total / max(1, self.counts[name]) for name, total in self.sums.items()}

    def named(self) -> dict[str, float]:
        """The same as metrics: ``NAME_mae``."""
        return {f"{name}_mae": value for name, value in self.mean().items()}

    def relative(self) -> float:
        """Their mean, each in units of its spread."""
        mean, targets = self.mean(), self.errors.targets
        each = [mean[t.name] * abs(t.factor) / self.errors.scales[t.name] for t in targets]
        return sum(each) / len(each)
