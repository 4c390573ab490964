"""Deterministic lifting to T(n) ⋊ K, K a finite group of rotations (and reflections): exact equivariance.

    u_i^k = (x_i, R_k),  k ∈ K                     L = |K| lifts of every particle
    a_ij^{kl} = ( R_kᵀ (x_j − x_i),  code(R_k⁻¹ R_l) )

The stabiliser is summed over completely, so nothing is sampled: a rotation of the data by an element of K only
permutes the lifts.

Shape letters: B batch, N particles, K neighbours, L lifts, d space dimension.
Reference: the ``SE2_canonical`` of Hutchinson et al., arXiv:2012.10885, is K = C_n with the ``"index"`` code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups import FiniteGroup, LieGroup
from lie_sim.lifting.base import Lifting, PairGeometry, pair_mask, pair_vectors
from lie_sim.lifting.radial import smooth_cutoff
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


class FiniteLift(Lifting):
    """Lifting to T(n) ⋊ K.

    Args:
        group: the finite group K acting on the space of the positions.
        code: how k⁻¹l enters: ``"matrix"`` (entries of the rotation matrix) or ``"index"`` (its number in
            ``group.elements()``, as in the paper; sensible for cyclic groups).
        cutoff: distance at which a pair's weight vanishes (C²); None for none.
    """

    CODES: ClassVar[tuple[str, ...]] = ("matrix", "index")

    def __init__(self, group: LieGroup, *, code: str = "matrix", cutoff: float | None = None) -> None:
        super().__init__()
        if not isinstance(group, FiniteGroup):
            raise ValueError(f"FiniteLift needs a finite group such as 'C4', 'D3' or 'O', got {group.name}")
        if code not in self.CODES:
            raise ValueError(f"code must be 'matrix' or 'index', got {code!r}")
        self.group, self.code, self.cutoff = group, code, cutoff
        self.num_lifts = group.order
        dim = group.space_dim
        self.location_dim = dim + (dim * dim if code == "matrix" else 1)
        self.equivariant_under = f"T({dim})x{group.name}"

    def _codes(self, like: Tensor) -> Float[Tensor, "L L code"]:
        """code(R_k⁻¹ R_l) for every pair of group elements."""
        inverse = self.group.inverse_table(device=like.device)
        relative = self.group.multiplication_table(device=like.device)[inverse]
        if self.code == "index":
            return relative.to(like.dtype)[..., None]
        return self.group.elements(dtype=like.dtype, device=like.device)[relative].flatten(-2)

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None,
        scalars: Float[Tensor, "B N S"],
    ) -> PairGeometry:
        """Relative poses of all pairs of lifted points; see :class:`Lifting`."""
        lifts = self.num_lifts
        neighbours = None if neighbours is None else _with_self(neighbours)
        r = pair_vectors(q, neighbours)
        batch, count, width, dim = r.shape
        rotations = self.group.elements(dtype=q.dtype, device=q.device)
        turned = torch.einsum("lde,bnkd->bnlke", rotations, r)  # R_lᵀ r
        shape = (batch, count, lifts, width, lifts)
        codes = self._codes(q)[None, None, :, None].expand(*shape, -1)
        location = torch.cat([turned[..., None, :].expand(*shape, dim), codes], dim=-1)
        envelope = pair_mask(q, particles, neighbours, include_self=True)
        if self.cutoff is not None:
            envelope = envelope * smooth_cutoff(torch.sqrt(r.square().sum(-1) + 1e-12), self.cutoff)
        wide = envelope[:, :, None, :, None].expand(shape)
        flat = (batch, count * lifts, width * lifts)
        return PairGeometry(
            location=location.reshape(*flat, -1),
            envelope=wide.reshape(flat),
            index=None if neighbours is None else self._lifted_index(neighbours).reshape(flat),
            num_lifts=lifts,
        )

    def _lifted_index(self, neighbours: NeighbourMatrix) -> Tensor:
        lifts = torch.arange(self.num_lifts, device=neighbours.index.device)
        index = neighbours.index[:, :, None, :, None] * self.num_lifts + lifts
        return index.expand(-1, -1, self.num_lifts, -1, -1)


def _with_self(neighbours: NeighbourMatrix) -> NeighbourMatrix:
    """Add each particle to its own neighbours: its lifts see one another, as they do among all pairs."""
    batch, count, _ = neighbours.index.shape
    own = torch.arange(count, device=neighbours.index.device)[None, :, None].expand(batch, -1, 1)
    shift = neighbours.shift
    if shift is not None:
        shift = torch.cat([torch.zeros_like(own[..., None] * shift[:, :, :1]), shift], dim=2)
    return replace(
        neighbours,
        index=torch.cat([own.to(neighbours.index.dtype), neighbours.index], dim=-1),
        mask=torch.cat([torch.ones_like(own, dtype=torch.bool), neighbours.mask], dim=-1),
        shift=shift,
    )
