"""Second derivatives of the energy: products with vectors, and the matrix of all or of some atoms.

    (H v)_i = Σ_j ∂²E/∂q_i∂q_j v_j,      one reverse pass over the forces each, many at once where memory allows

Shape letters: N atoms, M free atoms.
Reference: Pearlmutter, Neural Computation 6 (1994) 147.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.models import AtomicPotential
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

ROWS_AT_ONCE = 64
"""Rows of a matrix that are computed together."""


class SecondDerivatives:
    """Products with the Hessian of one system at one geometry; the forces are computed once.

    Args:
        potential: the energy.
        q: positions in Å, shape (1, N, 3).
        particles: of the one system.
        neighbours: which pairs interact; None means all of them.

    Example:
        >>> potential = AtomicPotential.default(elements=(1,)).double()
        >>> two = Particles(masses=torch.ones(1, 2).double(), species=torch.ones(1, 2, dtype=torch.long))
        >>> q = torch.tensor([[[0.0, 0, 0], [0, 0, 0.8]]]).double()
        >>> matrix = SecondDerivatives(potential, q, two).matrix()
        >>> matrix.shape, bool((matrix - matrix.T).abs().max() < 1e-9)
        (torch.Size([6, 6]), True)
    """

    def __init__(
        self,
        potential: AtomicPotential,
        q: Float[Tensor, "1 N 3"],
        particles: Particles,
        neighbours: NeighbourMatrix | None = None,
    ) -> None:
        with torch.enable_grad():
            self._q = q.detach().requires_grad_(True)
            energy = potential(self._q, particles, neighbours).sum()
            (self._slope,) = torch.autograd.grad(energy, self._q, create_graph=True, materialize_grads=True)

    def products(self, vectors: Float[Tensor, "V N 3"]) -> Float[Tensor, "V N 3"]:
        """H v for every vector, in eV/Å² times the unit of v.

        Raises:
            ValueError: a vector is not of the system's shape.
        """
        if vectors.shape[1:] != self._q.shape[1:]:
            raise ValueError(
                f"vectors must have shape (V, {self._q.shape[1]}, 3), got {tuple(vectors.shape)}"
            )
        if not self._slope.requires_grad:  # a single atom
            return torch.zeros_like(vectors)
        parts = []
        for some in vectors.to(self._q).split(ROWS_AT_ONCE):
            (rows,) = torch.autograd.grad(
                self._slope,
                self._q,
                some[:, None],
                retain_graph=True,
                is_grads_batched=True,
                materialize_grads=True,
            )
            parts.append(rows[:, 0])
        return torch.cat(parts)

    def matrix(self, atoms: Sequence[int] | None = None) -> Float[Tensor, "M3 M3"]:
        """The Hessian in eV/Å², shape (3M, 3M), made symmetric; rows and columns of ``atoms``, None for all.

        Raises:
            ValueError: there is no such atom.
        """
        count = self._q.shape[1]
        chosen = list(range(count)) if atoms is None else list(atoms)
        wrong = [atom for atom in chosen if not -count <= atom < count]
        if wrong:
            raise ValueError(f"there is no atom {wrong[0]}: the system has {count}")
        places = (3 * torch.tensor(chosen, dtype=torch.long)[:, None] + torch.arange(3)).flatten()
        unit = torch.zeros(len(places), 3 * count, dtype=self._q.dtype, device=self._q.device)
        unit[torch.arange(len(places)), places] = 1.0
        rows = self.products(unit.reshape(-1, count, 3)).reshape(len(places), -1)[:, places]
        return (rows + rows.T) / 2
