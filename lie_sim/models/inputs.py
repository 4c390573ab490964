"""What a model checks of its inputs before it computes: shapes, dtype, device, reach of the neighbour list.

Nothing here waits for the device, because only shapes and plain numbers are compared. The one check that needs values,
that of the species, is made on the CPU alone; elsewhere an unknown species becomes NaN.

Shape letters: B batch, N particles, K neighbours, d space dimension.
"""

from __future__ import annotations

import sys

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

_SAME_LENGTH = 1e-6
"""Relative difference of two cutoffs that are the same length in other units; the envelope is 0 there to 1e-17."""


def check_particles(q: Tensor, particles: Particles, *, dim: int, weight: Tensor) -> None:
    """Refuse positions and particles that do not fit each other or the model.

    Args:
        q: positions, shape (B, N, d).
        particles: what the particles are, shape (B, N, ·).
        dim: d.
        weight: any parameter of the model, which has its dtype and device.

    Raises:
        ValueError: a shape, the dtype or the device is another one; the message says which.

    Example:
        >>> q, particles = torch.zeros(1, 3, 2).double(), Particles(masses=torch.ones(1, 3))
        >>> check_particles(q, particles, dim=2, weight=torch.zeros(1))
        Traceback (most recent call last):
        ValueError: the model is float32, the positions are float64: use model.to(q.dtype) or q.to(torch.float32)
    """
    if q.ndim != 3 or q.shape[-1] != dim:
        raise ValueError(f"positions must have shape (B, N, {dim}), got {tuple(q.shape)}")
    if particles.masses.shape != q.shape[:2]:
        raise ValueError(
            f"positions and particles must be of the same systems: the positions have (B, N) = {tuple(q.shape[:2])}, "
            f"particles.masses {tuple(particles.masses.shape)}"
        )
    if q.dtype != weight.dtype:
        raise ValueError(
            f"the model is {_short(weight.dtype)}, the positions are {_short(q.dtype)}: "
            f"use model.to(q.dtype) or q.to({weight.dtype})"
        )
    for what, tensor in (("the positions are", q), ("the particles are", particles.masses)):
        _check_device(what, tensor, weight)


def check_neighbours(
    neighbours: NeighbourMatrix, q: Tensor, *, cutoff: float, needs_cutoff: bool = True
) -> None:
    """Refuse a neighbour list that was made for other particles or that leaves out pairs which interact.

    Args:
        neighbours: the list.
        q: positions, shape (B, N, d).
        cutoff: that of the model, in the unit of q; 0 for none.
        needs_cutoff: whether the model must have a cutoff where there are periodic images.

    Raises:
        ValueError: the list does not fit; the message says what to do.
    """
    if neighbours.index.shape[:2] != q.shape[:2]:
        raise ValueError(
            f"the neighbours are those of (B, N) = {tuple(neighbours.index.shape[:2])} particles, the positions have "
            f"{tuple(q.shape[:2])}: make them with neighbour_matrix(q, particles, cutoff=…)"
        )
    _check_device("the neighbours are", neighbours.index, q)
    if neighbours.cutoff is not None and neighbours.cutoff < cutoff * (1 - _SAME_LENGTH):
        raise ValueError(
            f"the neighbours reach to {neighbours.cutoff:g}, less than the cutoff {cutoff:g} of the model: "
            f"make them with neighbour_matrix(q, particles, cutoff={cutoff:g})"
        )
    if needs_cutoff and not cutoff and neighbours.shift is not None:
        raise ValueError(
            "the neighbours are periodic images, which have no end, and this model has no cutoff: "
            "set the cutoff of its configuration, at most that of the neighbours"
        )


WHY_OPEN_SPACE = (
    "attention='induced' makes landmarks of means of positions, which a periodic cell does not have: use "
    "attention='local' there"
)


def check_open_space(particles: Particles, neighbours: NeighbourMatrix | None) -> None:
    """Refuse what is periodic.

    Raises:
        ValueError: there is a cell, or (on the CPU, where a look at the values is free) a pair that crosses its border.
    """
    shift = None if neighbours is None else neighbours.shift
    crossing = shift is not None and can_be_read(shift) and bool(shift.any())
    if particles.cell is not None or crossing:
        raise ValueError(WHY_OPEN_SPACE)


def encode_species(
    species: Int[Tensor, "B N"], count: int, *, dtype: torch.dtype
) -> Float[Tensor, "B N species"]:
    """One-hot vectors; a row of NaN for a species that is not from 0 to ``count`` − 1.

    On the CPU such a species is refused instead. On other devices a look at the values would wait for all that
    was computed before, so the energy of that system becomes NaN.

    Args:
        species: numbers of the kinds, shape (B, N).
        count: how many kinds there are.
        dtype: of the result.

    Raises:
        ValueError: a species is out of range (on the CPU).

    Example:
        >>> encode_species(torch.tensor([[0, 2]]), 3, dtype=torch.float32)
        tensor([[[1., 0., 0.],
                 [0., 0., 1.]]])
    """
    if can_be_read(species) and species.numel():
        low, high = (int(end) for end in species.aminmax())
        if low < 0 or high >= count:
            raise ValueError(f"species run from {low} to {high}; the model knows 0 to {count - 1}")
        return _one_hot(species, count, dtype)
    return _one_hot_or_nan(species, count, dtype)


def can_be_read(values: Tensor) -> bool:
    """Whether a look at numbers costs nothing: on the CPU, unless the operations are being traced for a compiler.

    Example:
        >>> can_be_read(torch.zeros(1))
        True
    """
    return values.device.type == "cpu" and not being_traced()


def being_traced() -> bool:
    """Whether operations are being recorded for a compiler, so that tensors have no values yet.

    Example:
        >>> being_traced()
        False
    """
    tracing = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return tracing is not None and tracing.get_proxy_mode() is not None


def is_transformed(q: Tensor) -> bool:
    """Whether a tensor belongs to a transformation of ``torch.func``, and has no numbers of its own.

    Example:
        >>> torch.func.grad(lambda q: q * is_transformed(q))(torch.tensor(1.0))
        tensor(1.)
    """
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(q))


def _one_hot(species: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    return (species[..., None] == torch.arange(count, device=species.device)).to(dtype)


def _one_hot_or_nan(species: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    known = ((species >= 0) & (species < count))[..., None]
    return torch.where(known, _one_hot(species, count, dtype), torch.nan)


def _check_device(what: str, tensor: Tensor, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(
            f"the model is on {other.device}, {what} on {tensor.device}: move them with .to({str(other.device)!r})"
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
