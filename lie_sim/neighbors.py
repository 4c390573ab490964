"""Neighbour matrices: for each particle the indices of those that interact with it.

A pair (i, k) of row i stands for the particle ``index[b, i, k]`` displaced by ``shift[b, i, k]``:

    r_ik = q[index_ik] + shift_ik − q_i

Shape letters: B batch, N particles, K neighbours (padded), d space dimension.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lie_sim.state import Particles


@dataclass(frozen=True)
class NeighbourMatrix:
    """Padded neighbour lists.

    Args:
        index: particle numbers, shape (B, N, K); padding may hold any valid number.
        mask: True where an entry is a real neighbour, shape (B, N, K).
        shift: displacement of the periodic image in the unit of q, shape (B, N, K, d); None means none.
        cutoff: distance up to which every pair is listed, in the unit of q; None if it is not known.
    """

    index: Int[Tensor, "B N K"]
    mask: Bool[Tensor, "B N K"]
    shift: Float[Tensor, "B N K d"] | None = None
    cutoff: float | None = None

    def in_units_of(self, length: float) -> NeighbourMatrix:
        """The same neighbours where ``length`` is the unit of length."""
        shift = None if self.shift is None else self.shift / length
        return replace(self, shift=shift, cutoff=None if self.cutoff is None else self.cutoff / length)


def _images(cell: Tensor, pbc: Tensor, cutoff: float) -> list[tuple[int, ...]]:
    """Integer lattice translations that can bring a wrapped particle within the cutoff (any system of the batch)."""
    dim = cell.shape[-1]
    heights = 1.0 / torch.linalg.inv(_complete_cell(cell.double(), pbc)).norm(
        dim=-2
    )  # distance between lattice planes, (B, d)
    ranges = []
    for axis in range(dim):
        if not bool(pbc[:, axis].any()):
            ranges.append(range(0, 1))
            continue
        reach = math.ceil(cutoff / float(heights[:, axis].min())) + 1
        ranges.append(range(-reach, reach + 1))
    return list(itertools.product(*ranges))


def neighbour_matrix(
    q: Float[Tensor, "B N d"], particles: Particles, *, cutoff: float, max_neighbours: int | None = None
) -> NeighbourMatrix:
    """List all pairs closer than the cutoff, periodic images included.

    A plain O(N²·images) search in PyTorch: exact, on any device, and the reference for faster ones.
    A particle's own periodic images count; the particle itself does not.

    Args:
        q: positions, shape (B, N, d); they need not be wrapped into the cell.
        particles: mask, cell and periodic directions are used.
        cutoff: largest distance of a pair, positive, in the unit of q.
        max_neighbours: largest width K of the result; None takes the largest number found, at least 1.

    Returns:
        The neighbour matrix, neighbours sorted by distance; without shifts where no direction is periodic.

    Raises:
        ValueError: the cutoff is not positive, a particle has more than ``max_neighbours`` neighbours, or the
            lattice vectors of the periodic directions do not span them.

    Example:
        >>> q = torch.tensor([[[0.0], [1.0], [3.0]]])
        >>> found = neighbour_matrix(q, Particles(masses=torch.ones(1, 3)), cutoff=1.5)
        >>> found.mask.sum(-1)
        tensor([[1, 1, 0]])
    """
    if not cutoff > 0 or not math.isfinite(cutoff):
        raise ValueError(
            f"cutoff must be a positive length, got {cutoff}; leave the neighbours out for all pairs"
        )
    batch, count, _ = q.shape
    with torch.no_grad():
        shifts = _shift_vectors(q, particles, cutoff)  # (B, S, d)
        wrap = _wrap_vectors(q, particles)  # (B, N, d)
        wrapped = q + wrap
        delta = (
            wrapped[:, None, :, None] + shifts[:, None, None] - wrapped[:, :, None, None]
        )  # (B, N, N, S, d)
        distance = delta.norm(dim=-1)
        near = (distance < cutoff) & _distinct(count, shifts)
        if particles.mask is not None:
            near &= particles.mask[:, :, None, None] & particles.mask[:, None, :, None]
        found = int(near.flatten(2).sum(-1).max()) if near.numel() else 0
        width = max(found, 1) if max_neighbours is None else max_neighbours
        if found > width:
            raise ValueError(
                f"a particle has {found} neighbours within {cutoff}, more than max_neighbours={width}; "
                "raise max_neighbours or lower the cutoff"
            )
        flat = torch.where(near, distance, math.inf).flatten(2)
        width_available = min(width, flat.shape[-1])
        order = flat.argsort(dim=-1, stable=True)[..., :width_available]
        mask = flat.gather(-1, order) < math.inf
        num_shifts = shifts.shape[1]
        index = order // num_shifts
        image = shifts[torch.arange(batch, device=q.device)[:, None, None], order % num_shifts]
        wrap_j = wrap[torch.arange(batch, device=q.device)[:, None, None], index]
        shift = torch.where(mask[..., None], image + wrap_j - wrap[:, :, None], 0)
    periodic = particles.cell is not None and bool(_pbc(particles, q.shape[-1]).any())
    return NeighbourMatrix(index=index, mask=mask, shift=shift if periodic else None, cutoff=cutoff)


def all_pairs(q: Float[Tensor, "B N d"], particles: Particles) -> NeighbourMatrix:
    """Every particle as a neighbour of every other one, in open space; K = N with the particle itself as padding.

    Args:
        q: positions, shape (B, N, d).
        particles: their mask says which exist.

    Example:
        >>> all_pairs(torch.zeros(1, 2, 3), Particles(masses=torch.ones(1, 2))).mask.tolist()
        [[[False, True], [True, False]]]
    """
    batch, count, _ = q.shape
    index = torch.arange(count, device=q.device).expand(batch, count, count)
    mask = ~torch.eye(count, dtype=torch.bool, device=q.device).expand(batch, count, count)
    if particles.mask is not None:
        mask = mask & particles.mask[:, :, None] & particles.mask[:, None, :]
    return NeighbourMatrix(index=index, mask=mask)


def _distinct(count: int, shifts: Tensor) -> Tensor:
    """False only for a particle paired with its unshifted self, shape (B, N, N, S)."""
    same = torch.eye(count, dtype=torch.bool, device=shifts.device)[None, :, :, None]
    return ~(same & (shifts == 0).all(-1)[:, None, None, :])


def _shift_vectors(q: Tensor, particles: Particles, cutoff: float) -> Tensor:
    batch, _, dim = q.shape
    if particles.cell is None:
        return q.new_zeros(batch, 1, dim)
    pbc = _pbc(particles, dim)
    images = torch.tensor(_images(particles.cell, pbc, cutoff), dtype=q.dtype, device=q.device)
    shifts = torch.einsum("sd,bde->bse", images, particles.cell.to(q.dtype))
    allowed = ((images[None] == 0) | pbc[:, None]).all(-1)
    return torch.where(
        allowed[..., None], shifts, torch.full_like(shifts, 1e30 if q.dtype == torch.float64 else 1e15)
    )


def _complete_cell(cell: Tensor, pbc: Tensor) -> Tensor:
    """The cell with unit vectors normal to the others in place of zero rows, which only open directions may have."""
    zero = (cell == 0).all(-1)
    if bool((zero & pbc).any()):
        raise ValueError(
            "a periodic direction has a zero lattice vector: give the vector, or set its pbc to False"
        )
    left, sizes, right = torch.linalg.svd(cell)
    missing = (sizes <= 1e-12 * sizes[..., :1]).to(cell.dtype)
    complete = torch.where(zero[..., None], cell + (left * missing[..., None, :]) @ right, cell)
    if bool((missing.sum(-1) > zero.sum(-1)).any()):
        raise ValueError(f"the lattice vectors are linearly dependent: {cell.tolist()}")
    return complete


def _pbc(particles: Particles, dim: int) -> Tensor:
    assert particles.cell is not None
    if particles.pbc is not None:
        return particles.pbc
    return torch.ones(particles.cell.shape[0], dim, dtype=torch.bool, device=particles.cell.device)


def _wrap_vectors(q: Tensor, particles: Particles) -> Tensor:
    """Lattice vectors that move every particle into the cell along the periodic directions."""
    if particles.cell is None:
        return torch.zeros_like(q)
    pbc, cell = _pbc(particles, q.shape[-1]), particles.cell.to(q.dtype)
    complete = _complete_cell(cell.double(), pbc).to(q.dtype)
    fractional = torch.linalg.solve(complete.mT, q.mT).mT
    cells = torch.floor(fractional) * pbc[:, None].to(q.dtype)
    return -torch.einsum("bnd,bde->bne", cells, cell)
