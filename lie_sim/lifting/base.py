"""The interface of every lifting and what it produces.

A lifting turns N particles into M = N·L points of a group (times an orbit space) and describes each pair of
points by its *location* a_ij, a function of the relative pose u_i⁻¹u_j. Everything after the lifting sees
the geometry through a_ij only, so the model is exactly as invariant as a_ij is.

Shape letters: B batch, N particles, L lifts per particle, M = N·L points, K neighbours of a point,
d space dimension, A location dimension, C channels, P components of a direction,
k landmarks, R radial functions.

Reference: Hutchinson et al., "LieTransformer: equivariant self-attention for Lie groups", ICML 2021,
arXiv:2012.10885, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


@dataclass(frozen=True)
class LandmarkGeometry:
    """What the attention layers know of landmarks (:mod:`lie_sim.lifting.landmarks`).

    Args:
        shares: how much of each point belongs to each landmark, summing to 1 for a point that exists and to 0 for
            padding, shape (B, M, k).
        location: radial functions of the distance of point and landmark, shape (B, M, k, R).
        directions: scalar, vector and matrix of the direction from point to landmark, shape (B, M, k, P).
    """

    shares: Float[Tensor, "B M k"]
    location: Float[Tensor, "B M k R"]
    directions: Float[Tensor, "B M k P"]

    def for_lifts(self, num_lifts: int) -> LandmarkGeometry:
        """The same where each particle is lifted to that many points, shapes (B, N·L, …)."""
        if num_lifts == 1:
            return self
        parts = (self.shares, self.location, self.directions)
        return LandmarkGeometry(*(part.repeat_interleave(num_lifts, dim=1) for part in parts))


@dataclass(frozen=True)
class PairGeometry:
    """All that the attention layers know of the geometry.

    Args:
        location: relative poses a_ij, shape (B, M, K, A).
        envelope: smooth weight of each pair in [0, 1], 0 for padding, shape (B, M, K).
        index: source point of each pair, shape (B, M, K); None for all pairs, where K = M.
        num_lifts: L, the number of points made from each particle.
        directions: scalar, vector and matrix of the direction of each pair, shape (B, M, K, P), for moment attention.
        landmarks: what stands for the particles far away, for induced attention.
    """

    location: Float[Tensor, "B M K A"]
    envelope: Float[Tensor, "B M K"]
    index: Int[Tensor, "B M K"] | None
    num_lifts: int
    directions: Float[Tensor, "B M K P"] | None = None
    landmarks: LandmarkGeometry | None = None

    def sources(self, f: Float[Tensor, "B M C"]) -> Float[Tensor, "B M_or_1 K C"]:
        """Features of the source of each pair; for all pairs a broadcastable view of shape (B, 1, M, C)."""
        return f[:, None] if self.index is None else gather_points(f, self.index)


def gather_points(f: Float[Tensor, "B M C"], index: Int[Tensor, "B M2 K"]) -> Float[Tensor, "B M2 K C"]:
    """Rows of ``f`` named by ``index``, within each batch entry.

    Example:
        >>> gather_points(torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[1], [0]]])).flatten()
        tensor([2., 1.])
    """
    batch, rows, width = index.shape
    flat = index.reshape(batch, rows * width, 1).expand(-1, -1, f.shape[-1])
    return f.gather(1, flat).reshape(batch, rows, width, f.shape[-1])


def pair_vectors(q: Float[Tensor, "B N d"], neighbours: NeighbourMatrix | None) -> Float[Tensor, "B N K d"]:
    """r_ik = q[index_ik] + shift_ik − q_i; for all pairs (no neighbour matrix) K = N and r_ij = q_j − q_i."""
    if neighbours is None:
        return q[:, None] - q[:, :, None]
    vectors = gather_points(q, neighbours.index) - q[:, :, None]
    return vectors if neighbours.shift is None else vectors + neighbours.shift.to(q.dtype)


def pair_mask(
    q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None, *, include_self: bool
) -> Float[Tensor, "B N K"]:
    """1 for a pair of particles that both exist (and, unless ``include_self``, are distinct), else 0."""
    batch, count, _ = q.shape
    if neighbours is not None:
        mask = neighbours.mask.to(q.dtype)
        if particles.mask is None:
            return mask
        exists = particles.mask.to(q.dtype)[..., None]
        return mask * exists * gather_points(exists, neighbours.index).squeeze(-1)
    if particles.cell is not None:
        raise ValueError(
            "a periodic system has no finite set of all pairs, and this model has no cutoff: set the cutoff of its "
            "configuration"
        )
    mask = q.new_ones(batch, count, count)
    if particles.mask is not None:
        exists = particles.mask.to(q.dtype)
        mask = exists[:, :, None] * exists[:, None, :]
    if not include_self:
        mask = mask * (1 - torch.eye(count, dtype=q.dtype, device=q.device))
    return mask


class Lifting(nn.Module):
    """Base class: positions in, :class:`PairGeometry` out.

    Attributes:
        location_dim: A, the length of a location.
        num_lifts: L, the number of group elements per particle.
        equivariant_under: name of the symmetry.
        exact: True if the symmetry holds exactly, False if in distribution only.
    """

    location_dim: int
    num_lifts: int = 1
    equivariant_under: str
    exact: bool = True

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None,
        scalars: Float[Tensor, "B N S"],
    ) -> PairGeometry:
        """Describe all pairs.

        Args:
            q: positions in units of the model's length scale, shape (B, N, d).
            particles: mask and cell are used.
            neighbours: which pairs to describe; None for all of them.
            scalars: what is known of each particle, already scaled, shape (B, N, S).
        """
        raise NotImplementedError(f"{type(self).__name__} must implement forward")
