r"""Pairs for moment attention: distances, and the direction of each pair as scalar, vector and matrix.

    Y(r̂) = ( 1,  r̂,  r̂ ⊗ r̂ ) ∈ R^P,     P = 1 + d + d(d+1)/2,     r̂ = r / √(r² + ε²)

with √2 before the off-diagonal products, so that Y(a)·Y(b) = 1 + a·b + (a·b)² splits into three invariants, one per
order. The soft group element of a particle is then no fixed frame: it is a set of functions on the sphere around it,

    u_i(n̂) = T_i · Y(n̂),     T_i ∈ R^{m×P},

made of its neighbours by the attention blocks (:mod:`lie_sim.attention.moments`) and refined by each of them. T_i turns
with the system, and the relative pose of two particles is what each element says in the direction of the other one:

    a_ij = ( radial(r_ij),  u_i(r̂_ij),  u_j(r̂_ji) )

Nothing here depends on handedness, so the symmetry is E(d).

Shape letters: B batch, N particles, K neighbours, d space dimension, P components of Y, S scalars.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.lifting.base import Lifting, PairGeometry, pair_mask, pair_vectors
from lie_sim.lifting.radial import RadialBasis, smooth_cutoff
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

_SOFTENING = 0.1
"""ε of r̂, in units of the length scale."""


class DirectionMoments(nn.Module):
    """Y as a product of two affine maps.

    Args:
        dim: space dimension d.
    """

    ones: Tensor
    roots: Tensor
    constants: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name, value in zip(("ones", "roots", "constants"), component_maps(dim), strict=True):
            self.register_buffer(name, value, persistent=False)

    def forward(self, unit: Float[Tensor, "*s d"]) -> Float[Tensor, "*s P"]:
        """Y of vectors no longer than 1."""
        first = torch.add(self.ones[0], self.roots, alpha=math.sqrt(2))
        left: Tensor = nn.functional.linear(unit, first, self.constants[0])
        return left * nn.functional.linear(unit, self.ones[1], self.constants[1])


class DirectionLift(Lifting):
    """Distances of all pairs, and functions of their directions.

    Args:
        dim: space dimension d.
        directions: from r̂, shape (…, d), to the functions.
        cutoff: distance at which a pair's weight vanishes (C²); None for none.
        radial: name of the radial basis.
        num_radial: size of a basis that has one.
        softening: ε of the Coulomb basis.
    """

    def __init__(
        self,
        dim: int,
        directions: nn.Module,
        *,
        cutoff: float | None = None,
        radial: str = "bessel",
        num_radial: int = 16,
        softening: float = 1e-3,
    ) -> None:
        super().__init__()
        self.dim, self.cutoff = dim, cutoff
        self.radial = RadialBasis(radial, size=num_radial, cutoff=cutoff, softening=softening)
        self.location_dim = self.radial.size
        self.equivariant_under = f"E({dim})"
        self.directions = directions

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None,
        scalars: Float[Tensor, "B N S"],
    ) -> PairGeometry:
        """Distances and directions of all pairs; see :class:`Lifting`."""
        r = pair_vectors(q, neighbours)
        r2 = r.square().sum(-1)
        envelope = pair_mask(q, particles, neighbours, include_self=False)
        if self.cutoff is not None:
            envelope = envelope * smooth_cutoff(torch.sqrt(r2 + 1e-12), self.cutoff)
        return PairGeometry(
            location=self.radial(r2),
            envelope=envelope,
            index=None if neighbours is None else neighbours.index,
            num_lifts=1,
            directions=self.directions(r * torch.rsqrt(r2 + _SOFTENING**2)[..., None]),
        )


class MomentLift(DirectionLift):
    """One lift per particle; the elements themselves are made by the attention blocks.

    Args:
        dim: space dimension d.
        **options: of :class:`DirectionLift`.
    """

    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(dim, DirectionMoments(dim), **options)


def component_maps(dim: int) -> tuple[Float[Tensor, "2 P d"], Float[Tensor, "P d"], Float[Tensor, "2 P"]]:
    """The affine maps whose product is Y, without the √2, by which the second result is to be multiplied.

    All entries are 0 or 1, so that they are exact in every dtype.

    Example:
        >>> ones, roots, constants = component_maps(1)
        >>> ones.squeeze(-1).tolist(), roots.sum().item(), constants.tolist()
        ([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], 0.0, [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    """
    eye, nothing = torch.eye(dim), torch.zeros(1, dim)
    row, column = torch.triu_indices(dim, dim)
    diagonal = (row == column).to(eye.dtype)[:, None]
    first = torch.cat([nothing, eye, eye[row] * diagonal])
    second = torch.cat([nothing, 0 * eye, eye[column]])
    roots = torch.cat([nothing, 0 * eye, eye[row] * (1 - diagonal)])
    zeros = torch.zeros(len(row))
    constants = torch.stack(
        [torch.cat([torch.ones(1), torch.zeros(dim), zeros]), torch.cat([torch.ones(1 + dim), zeros])]
    )
    return torch.stack([first, second]), roots, constants
