"""Batches made larger, so that few shapes occur, and results made small again.

    B → next power of 2,   N → next multiple of 8        where there are several systems; one system keeps its N
    K → a width in use that fits, else the next multiple of 16

Padding is masked: it changes no number beyond round-off.

Shape letters: B batch, N atoms, K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from lie_sim.calculators.conversion import Structures
from lie_sim.models import Evaluation
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

ATOMS, NEIGHBOURS = 8, 16
"""N and K are multiples of these."""
WASTE = 1.5
"""A width in use serves if it is at most so many times what is needed."""


def width_for(needed: int, widths: Sequence[int]) -> int:
    """K for a system with so many neighbours.

    Example:
        >>> width_for(50, []), width_for(50, [64, 72]), width_for(50, [48]), width_for(20, [64])
        (64, 64, 64, 32)
    """
    fitting = [width for width in widths if needed <= width <= WASTE * needed]
    return min(fitting) if fitting else _multiple(needed, NEIGHBOURS)


def padded(batch: Structures, *, widths: Sequence[int] = ()) -> Structures:
    """A batch of one of the few shapes.

    Args:
        batch: as :func:`~lie_sim.calculators.structures` makes it.
        widths: K that are in use already.
    """
    rows, atoms = batch.q.shape[:2]
    if len(batch.sizes) > 1:
        rows, atoms = 1 << (rows - 1).bit_length(), _multiple(atoms, ATOMS)
    more = (rows - batch.q.shape[0], atoms - batch.q.shape[1])
    neighbours = batch.neighbours
    if neighbours is not None:
        width = width_for(neighbours.index.shape[-1], widths)
        neighbours = _wide(neighbours, *more, width - neighbours.index.shape[-1], batch.q.dtype)
    if len(batch.sizes) == 1:
        return replace(batch, neighbours=neighbours)
    return replace(
        batch, q=_grown(batch.q, *more), particles=_grown_particles(batch, *more), neighbours=neighbours
    )


def unpadded(found: Evaluation, batch: Structures) -> Evaluation:
    """The part of some results that belongs to the batch before it was made larger."""
    rows, atoms = batch.q.shape[:2]
    return Evaluation(
        energies=found.energies[:rows, :atoms],
        forces=found.forces[:rows, :atoms],
        virials=None if found.virials is None else found.virials[:rows, :atoms],
        properties={name: value[:rows] for name, value in found.properties.items()},
    )


def _multiple(value: int, of: int) -> int:
    return -(-value // of) * of


def _grown(x: Tensor, rows: int, atoms: int) -> Tensor:
    """More atoms, of zeros, and more rows, like the first one, so that nothing is divided by 0 there."""
    x = pad(x, (0, 0) * (x.ndim - 2) + (0, atoms))
    return torch.cat([x, x[:1].expand(rows, *x.shape[1:])])


def _grown_particles(batch: Structures, rows: int, atoms: int) -> Particles:
    particles = batch.particles
    exists = (
        particles.mask
        if particles.mask is not None
        else torch.ones(batch.q.shape[:2], dtype=torch.bool, device=batch.q.device)
    )
    grown, mask = particles.map(lambda x: _grown(x, rows, atoms)), _grown(exists, rows, atoms)
    return replace(grown, masses=torch.where(mask, grown.masses, 1.0), mask=mask)


def _wide(
    neighbours: NeighbourMatrix, rows: int, atoms: int, more: int, dtype: torch.dtype
) -> NeighbourMatrix:
    """More neighbours that do not exist; shifts always, zeros where there are none."""
    index, shift = neighbours.index, neighbours.shift
    if shift is None:
        shift = torch.zeros(*index.shape, 3, dtype=dtype, device=index.device)
    return NeighbourMatrix(
        index=_grown(pad(index, (0, more)), rows, atoms),
        mask=_grown(pad(neighbours.mask, (0, more)), rows, atoms),
        shift=_grown(pad(shift, (0, 0, 0, more)), rows, atoms),
        cutoff=neighbours.cutoff,
    )
