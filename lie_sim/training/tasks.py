"""What a training run needs to know of its data: batches, a loss and a validation.

Shape letters: S samples, B batch, N particles, d space dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lie_sim.data.storage import tensors_digest
from lie_sim.state import Particles

Batch = dict[str, Tensor]

_PARTICLES = "particles."
_TensorTask = TypeVar("_TensorTask", bound="TensorTask")


@runtime_checkable
class Task(Protocol):
    """Data together with what is to be learned from it.

    Attributes:
        metric: the entry of :meth:`validate` that is to be small; it decides about the best weights.

    Where samples differ in size, a task also has an attribute ``sizes``, shape (S,): similar ones share a batch.
    """

    metric: str

    @property
    def num_samples(self) -> int:
        """S, the number of training samples."""

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Task:
        """The same task with its tensors converted and moved."""

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """The tensors that enter one step; all that is random about them comes from the generator."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """The number to minimise, a scalar tensor."""

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Numbers that describe the module on the validation data."""

    def digest(self) -> str:
        """SHA-256 of the data, so that a run is not resumed with other data."""

    def options(self) -> dict[str, Any]:
        """Plain values that change the loss, for the same purpose."""


class TensorTask:
    """Base of the tasks below: training and validation data as tensors that share their first axis.

    Args:
        train: tensors by name, each of shape (S, …).
        validation: likewise, for validation.
    """

    metric: str = "validation_loss"
    option_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, train: Mapping[str, Tensor], validation: Mapping[str, Tensor]) -> None:
        for kind, data in (("training", train), ("validation", validation)):
            for name, tensor in data.items():
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise ValueError(
                        f"the {kind} data {name!r} contain NaN or infinity: repair the data first"
                    )
                if tensor.shape[0] == 0:
                    raise ValueError(f"the {kind} data are empty: give at least one system")
        self._train, self._validation = dict(train), dict(validation)

    @property
    def num_samples(self) -> int:
        """S."""
        return next(iter(self._train.values())).shape[0]

    def to(self: _TensorTask, *, dtype: torch.dtype, device: torch.device) -> _TensorTask:
        """The same task with its tensors converted and moved."""
        moved = copy.copy(self)
        moved._train = {name: _moved(tensor, dtype, device) for name, tensor in self._train.items()}
        moved._validation = {name: _moved(tensor, dtype, device) for name, tensor in self._validation.items()}
        return moved

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """The chosen samples."""
        return select(self._train, indices)

    def digest(self) -> str:
        """SHA-256 of training and validation data."""
        named = {f"train/{name}": tensor for name, tensor in self._train.items()}
        return tensors_digest(
            {**named, **{f"validation/{k}": tensor for k, tensor in self._validation.items()}}
        )

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """The number to minimise; a subclass says what it is."""
        raise NotImplementedError(f"{type(self).__name__} must implement loss")

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Numbers for the validation data; a subclass says which."""
        raise NotImplementedError(f"{type(self).__name__} must implement validate")

    def options(self) -> dict[str, Any]:
        """The options that change the loss."""
        return {"task": type(self).__name__, **{name: getattr(self, name) for name in self.option_names}}


def select(data: Mapping[str, Tensor], index: Tensor | slice) -> Batch:
    """Samples of every tensor, by indices or a slice."""
    if isinstance(index, slice):
        return {name: tensor[index] for name, tensor in data.items()}
    return {name: tensor.index_select(0, index.to(tensor.device)) for name, tensor in data.items()}


def particle_tensors(particles: Particles) -> Batch:
    """The tensors of the particles by name, ``"particles.masses"`` and so on.

    Example:
        >>> list(particle_tensors(Particles(masses=torch.ones(2, 3))))
        ['particles.masses']
    """
    named = {_PARTICLES + field.name: getattr(particles, field.name) for field in fields(particles)}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def particles_of(batch: Mapping[str, Tensor]) -> Particles:
    """Undo :func:`particle_tensors`; other tensors are ignored."""
    chosen = {name.removeprefix(_PARTICLES): t for name, t in batch.items() if name.startswith(_PARTICLES)}
    return Particles(**chosen)


def mean_square(error: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of error² over the particles that exist.

    Args:
        error: shape (B, …, N, d).
        mask: shape (B, N), or None.

    Example:
        >>> mean_square(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[True, False]]))
        tensor(1.)
    """
    if mask is None:
        return error.square().mean()
    exists = mask.reshape(mask.shape[0], *(1,) * (error.ndim - 3), mask.shape[1], 1).expand_as(error)
    return torch.where(exists, error, 0.0).square().sum() / exists.sum().clamp(min=1)


def _moved(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
