r"""MomentAttention: self-attention whose values are steered along the pairs, so that heads collect moments.

    pose      a_ij = ( radial(r_ij),  T_i·Y(r̂_ij),  T_j·Y(r̂_ji) )        (the first block knows no T yet)
    logits    ℓ_ij = W_A SiLU( U a_ij + U_Q f_i + U_K f_j )                 one per head, and λ_ij, one per moment
    moments   M_i  = Σ_j w_ij [ ℓ_ij (W_V f_j) ⊗ Y(r̂_ij),  λ_ij T_j ] / n̄  scalars, vectors, second moments
    change    f_i += W_O ( M_i⁰, (P M_i)⊙(Q M_i) summed within each order )
              T_i += (G M_i) ⊙ gate(f_i)                                    the refined soft element

Most of the work is done at particles and little at pairs, which makes a step cheap; triplets and larger groups enter
through the products of moments and through the poses.

Shape letters: B batch, N particles, K neighbours, H heads, C channels, P components of Y, m moments,
A location dimension.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.lifting.base import PairGeometry
from lie_sim.lifting.powers import orders_of_products

_FEW_PRODUCTS = 50_000
"""Up to so many, a sum of products is faster than a matrix product for each moment."""


class MomentAttention(nn.Module):
    """One attention over pairs; see the module's equation.

    Args:
        dim: space dimension d. width: C. num_heads: H. num_moments: m. location_dim: A.
        hidden: width of the logits' hidden layer.
        first: no moments exist yet.
        last: moments are not needed any more.
    """

    orders: Tensor
    parity: Tensor

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        num_heads: int,
        num_moments: int,
        location_dim: int,
        hidden: int,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__()
        self.sizes = [hidden, hidden, num_heads]
        self.heads = [num_heads] if first else [num_heads, num_moments]
        self.products = [width, width] + ([] if last else [num_moments])
        self.pose = nn.Linear(location_dim + (0 if first else 2 * num_moments), hidden)
        self.particle = nn.Linear(width, sum(self.sizes))
        self.logits = nn.Linear(hidden, sum(self.heads))
        self.mix = nn.Linear(sum(self.heads), sum(self.products), bias=False)
        self.out = nn.Linear(sum(self.heads) + 3 * width, width)
        self.gate = None if last else nn.Linear(width, 3 * num_moments)
        orders = orders_of_products(dim, 2)
        self.register_buffer("orders", orders, persistent=False)
        self.register_buffer("parity", 1 - 2 * orders[1], persistent=False)

    def forward(
        self,
        f: Float[Tensor, "B N C"],
        moments: Float[Tensor, "B N P m"] | None,
        pairs: PairGeometry,
        steering: Float[Tensor, "B N P K"],
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N P extra"]]:
        """Change of the features, and the mixed moments from which :meth:`refine` makes the change of T.

        Args:
            f: features.
            moments: T of all particles; None in the first block.
            pairs: geometry.
            steering: w_ij Y(r̂_ij) / n̄.
        """
        query, key, value = self.particle(f).split(self.sizes, dim=-1)
        source = None if moments is None or pairs.index is None else self._sources(moments, pairs)
        hidden = self.pose(self._location(moments, source, pairs)) + query[:, :, None] + pairs.sources(key)
        steered, *carried = self.logits(silu(hidden)).split(self.heads, dim=-1)
        collected = steering @ (steered * pairs.sources(value))  # (B, N, P, H)
        if moments is not None:
            carried_moments = self._carry(carried[0] * steering[:, :, 0, :, None], moments, source)
            collected = torch.cat([collected, carried_moments], dim=-1)
        left, right, *extra = self.mix(collected).split(self.products, dim=-1)
        invariants = self.orders @ (left * right)  # (B, N, 3, C)
        change: Tensor = self.out(torch.cat([collected[..., 0, :], invariants.flatten(-2)], dim=-1))
        return change, extra[0] if extra else collected[..., :0]

    def refine(self, f: Float[Tensor, "B N C"], extra: Float[Tensor, "B N P m"]) -> Float[Tensor, "B N P m"]:
        """Change of T: each order of each moment has its gate."""
        assert self.gate is not None
        gates = self.gate(f).unflatten(-1, (3, -1))
        change: Tensor = extra * (self.orders.T @ gates)
        return change

    def _sources(self, moments: Tensor, pairs: PairGeometry) -> Tensor:
        """T_j of every pair, shape (B, N, K, P, m)."""
        source: Tensor = pairs.sources(moments.flatten(-2)).unflatten(-1, moments.shape[-2:])
        return source

    def _location(self, moments: Tensor | None, source: Tensor | None, pairs: PairGeometry) -> Tensor:
        if moments is None:
            return pairs.location
        assert pairs.directions is not None
        own = pairs.directions @ moments
        if source is None:  # of all pairs T_j·Y(r̂_ji) is the same number seen from j
            other = own.transpose(1, 2)
        else:
            other = (source * (pairs.directions * self.parity)[..., None]).sum(-2)
        return torch.cat([pairs.location, own, other], dim=-1)

    @staticmethod
    def _carry(weights: Tensor, moments: Tensor, source: Tensor | None) -> Tensor:
        """Σ_j w_ij λ_ij T_j, shape (B, N, P, m)."""
        if source is not None:
            summed: Tensor = (source * weights[..., None, :]).sum(2)
            return summed
        if weights.numel() * moments.shape[-2] <= _FEW_PRODUCTS:
            few: Tensor = (weights[..., None, :] * moments[:, None]).sum(2)
            return few
        carried = weights.permute(0, 3, 1, 2) @ moments.permute(0, 3, 1, 2)  # one product per moment
        return carried.permute(0, 2, 3, 1)
