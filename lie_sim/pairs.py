"""Pairs of atoms within a cutoff, found in time proportional to their number, and their padded form.

    r_p = x[j_p] + S_p · cell − x[i_p],      |r_p| < cutoff

The search is vesin's. :class:`SkinnedPairs` keeps a list that reaches a little further and filters it while no atom has
moved by more than half of the excess; displacements are measured modulo the lattice, so that wrapping atoms
back into the cell between calls costs nothing and changes nothing.

Everything here is NumPy on the CPU, in float64; :func:`lie_sim.neighbors.neighbour_matrix` is the same in plain
PyTorch, on any device, in time N².

Shape letters: N atoms, P pairs, K neighbours (padded).
Reference: Verlet, Phys. Rev. 159 (1967) 98; vesin, https://github.com/luthaf/vesin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lie_sim.neighbors import NeighbourMatrix

ALL_PAIRS_UP_TO = 24
"""Largest molecule that is described by all pairs: for so few atoms a list costs more than it saves."""


@dataclass(frozen=True)
class Pairs:
    """Directed pairs, ordered by i, then j, then S.

    Args:
        i: first atom, shape (P,), int64.
        j: second atom, shape (P,), int64.
        images: S, lattice translations of the second atom, shape (P, 3), int64.
        vectors: r, shape (P, 3), in the unit of the positions.
    """

    i: np.ndarray
    j: np.ndarray
    images: np.ndarray
    vectors: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        """|r|, shape (P,)."""
        distances: np.ndarray = np.sqrt(np.einsum("pd,pd->p", self.vectors, self.vectors))
        return distances

    def closer_than(self, cutoff: float) -> Pairs:
        """Those within a smaller distance, in the same order."""
        near = np.einsum("pd,pd->p", self.vectors, self.vectors) < cutoff**2
        return Pairs(self.i[near], self.j[near], self.images[near], self.vectors[near])


def find_pairs(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> Pairs:
    """All pairs closer than the cutoff, both directions of each, periodic images included.

    Args:
        positions: shape (N, 3), finite, wrapped or not.
        cell: lattice vectors in rows, shape (3, 3); rows of open directions may be 0.
        pbc: which directions are periodic, shape (3,).
        cutoff: positive.

    Raises:
        ValueError: the cutoff is not positive, or the periodic lattice vectors do not span their directions.

    Example:
        >>> line = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
        >>> found = find_pairs(line, np.zeros((3, 3)), np.zeros(3, bool), 1.5)
        >>> found.i.tolist(), found.j.tolist()
        ([0, 1], [1, 0])
    """
    from vesin import NeighborList  # loads ASE, which a simulation of bodies does not need

    if not (cutoff > 0 and math.isfinite(cutoff)):
        raise ValueError(f"cutoff must be a positive length, got {cutoff}")
    if len(positions) == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Pairs(nothing, nothing, np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)))
    box = np.asarray(cell, dtype=float)
    pbc = np.asarray(pbc, dtype=bool)
    periodic = box[pbc]
    if pbc.any() and np.linalg.matrix_rank(periodic) < len(periodic):
        raise ValueError(
            f"the lattice vectors of the periodic directions do not span them: cell {box.tolist()}, pbc {pbc.tolist()}"
        )
    search = NeighborList(cutoff=float(cutoff), full_list=True)
    i, j, images, vectors = search.compute(
        points=np.ascontiguousarray(positions, dtype=float),
        box=completed_cell(box, pbc),
        periodic=pbc.tolist(),
        quantities="ijSD",
    )
    i, j, images = i.astype(np.int64), j.astype(np.int64), images.astype(np.int64)
    order = np.lexsort((images[:, 2], images[:, 1], images[:, 0], j, i))
    return Pairs(i[order], j[order], images[order], vectors[order])


def completed_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with unit vectors normal to the periodic ones in place of the open ones.

    Example:
        >>> completed_cell(np.diag([2.0, 0, 0]), np.array([True, False, False])).round(9).tolist()[0]
        [2.0, 0.0, 0.0]
    """
    complete = np.array(cell, dtype=float)
    open_ = np.flatnonzero(~pbc)
    if len(open_):
        normal = np.linalg.svd(complete[pbc])[2][int(pbc.sum()) :] if pbc.any() else np.eye(3)
        complete[open_] = normal
    return complete


class SkinnedPairs:
    """Pairs of a moving system, searched anew only when that is needed.

    Args:
        cutoff: largest distance of a pair.
        skin: how much further the list reaches; 0 searches at every call.

    Attributes:
        searches: how often the list was made.

    Example:
        >>> pairs, box, pbc = SkinnedPairs(1.5, skin=0.5), 10 * np.eye(3), np.ones(3, bool)
        >>> x = np.array([[0.1, 0.0, 0.0], [1.1, 0.0, 0.0]])
        >>> for shift in (0.0, 0.1, -0.2):
        ...     unwrapped, found = pairs.find((x + [shift, 0, 0]) % 10, box, pbc)
        >>> len(found.i), pairs.searches
        (2, 1)
    """

    def __init__(self, cutoff: float, *, skin: float = 0.0) -> None:
        if not (skin >= 0 and math.isfinite(skin)):
            raise ValueError(f"skin must be a length, not negative, got {skin}")
        self.cutoff, self.skin, self.searches = cutoff, skin, 0
        self._kept: tuple[np.ndarray, np.ndarray, np.ndarray, Pairs] | None = None

    def find(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, Pairs]:
        """Positions that may differ from those given by lattice translations, and the pairs that belong to them."""
        if self.skin == 0:
            self.searches += 1
            return positions, find_pairs(positions, cell, pbc, self.cutoff)
        found = self._still_valid(positions, cell, pbc)
        if found is None:
            self.searches += 1
            kept = find_pairs(positions, cell, pbc, self.cutoff + self.skin)
            self._kept = (positions.copy(), np.array(cell, dtype=float), np.array(pbc), kept)
            found = positions, kept
        unwrapped, kept = found
        vectors = unwrapped[kept.j] - unwrapped[kept.i] + kept.images @ np.asarray(cell, dtype=float)
        return unwrapped, Pairs(kept.i, kept.j, kept.images, vectors).closer_than(self.cutoff)

    def _still_valid(
        self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
    ) -> tuple[np.ndarray, Pairs] | None:
        """Positions nearest to those of the search modulo the lattice, and its pairs; None if one may be missing."""
        if self._kept is None:
            return None
        start, start_cell, start_pbc, kept = self._kept  # read once: another thread may replace it
        if start.shape != positions.shape or (start_cell != cell).any() or (start_pbc != pbc).any():
            return None
        unwrapped = positions
        if pbc.any():
            fractional = np.linalg.solve(completed_cell(start_cell, pbc).T, (positions - start).T).T
            turns = np.where(pbc, np.rint(fractional), 0.0)
            unwrapped = positions - turns @ start_cell
        moved = np.sqrt(((unwrapped - start) ** 2).sum(1).max(initial=0.0))
        return (unwrapped, kept) if 2 * moved < self.skin else None


def neighbour_matrix_of(
    pairs: list[Pairs], sizes: list[int], cells: list[np.ndarray], *, cutoff: float, dtype: torch.dtype
) -> NeighbourMatrix:
    """The padded neighbour lists of several systems.

    Args:
        pairs: of each system.
        sizes: number of atoms of each system.
        cells: lattice vectors of each system, shape (3, 3).
        cutoff: distance up to which every pair is listed.
        dtype: of the shifts.

    Returns:
        Shape (B, N, K) with the largest N and K, on the CPU; shifts only where a pair crosses a border of its cell.

    Example:
        >>> line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
        >>> found = find_pairs(line, np.zeros((3, 3)), np.zeros(3, bool), 1.5)
        >>> matrix = neighbour_matrix_of([found], [3], [np.zeros((3, 3))], cutoff=1.5, dtype=torch.float64)
        >>> matrix.mask[0].sum(-1).tolist(), matrix.shift
        ([1, 2, 1], None)
    """
    counts = [np.bincount(found.i, minlength=size) for found, size in zip(pairs, sizes, strict=True)]
    width = max(1, *(int(count.max(initial=0)) for count in counts))
    shape = (len(pairs), max(sizes), width)
    index, mask, shift = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros((*shape, 3))
    for number, (found, count, cell) in enumerate(zip(pairs, counts, cells, strict=True)):
        place = np.arange(len(found.i)) - np.repeat(np.cumsum(count) - count, count)
        index[number, found.i, place] = found.j
        mask[number, found.i, place] = True
        shift[number, found.i, place] = found.images @ np.asarray(cell, dtype=float)
    crossing = any(found.images.any() for found in pairs)
    return NeighbourMatrix(
        index=torch.from_numpy(index),
        mask=torch.from_numpy(mask),
        shift=torch.from_numpy(shift).to(dtype) if crossing else None,
        cutoff=cutoff,
    )


def open_neighbour_matrix(
    q: Float[Tensor, "B N d"], mask: Bool[Tensor, "B N"] | None, *, cutoff: float
) -> NeighbourMatrix:
    """As :func:`lie_sim.neighbors.neighbour_matrix` without a cell, in time N; positions go through the CPU.

    Args:
        q: positions, shape (B, N, d) with d at most 3.
        mask: which particles exist; None means all of them.
        cutoff: largest distance of a pair, positive, in the unit of q.

    Raises:
        ValueError: the cutoff is not positive, a position is not finite, or there are more than three dimensions.

    Example:
        >>> open_neighbour_matrix(torch.tensor([[[0.0], [1.0], [3.0]]]), None, cutoff=1.5).mask.sum(-1)
        tensor([[1, 1, 0]])
    """
    batch, count, dim = q.shape
    if dim > 3:
        raise ValueError(f"neighbours are searched in at most 3 dimensions, got positions with {dim}")
    places = np.zeros((batch, count, 3))
    places[..., :dim] = q.detach().to("cpu", torch.float64).numpy()
    exists = np.ones((batch, count), bool) if mask is None else mask.cpu().numpy()
    if not np.isfinite(places[exists]).all():
        raise ValueError("neighbours are searched among finite positions; some are NaN or infinite")
    nowhere, open_ = np.zeros((3, 3)), np.zeros(3, bool)
    found = []
    for system, present in zip(places, exists, strict=True):
        numbers = np.flatnonzero(present)
        pairs = find_pairs(system[numbers], nowhere, open_, cutoff)
        found.append(replace(pairs, i=numbers[pairs.i], j=numbers[pairs.j]))
    matrix = neighbour_matrix_of(found, batch * [count], batch * [nowhere], cutoff=cutoff, dtype=q.dtype)
    return replace(matrix, index=matrix.index.to(q.device), mask=matrix.mask.to(q.device))
