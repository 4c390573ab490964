r"""Equivariant soft frames: an exact and smooth lifting for SE(n) and E(n).

Each particle gets m vectors made of its surroundings,

    A_i = Σ_j w(r_ij) φ(r_ij, s_i, s_j) ⊗ r̂_ij   ∈ R^{m×d},     r̂ = r / √(r² + ε²)

which turn with the data, A_i → A_i Rᵀ. The location of a pair is the relative pose of two soft elements:

    a_ij = ( radial(r_ij),  A_i r̂_ij,  A_j r̂_ij,  A_i A_jᵀ,  [r̂ᵀB_i r̂, r̂ᵀB_j r̂, tr B_i B_j],  [chirality] )

With orthonormal A_i this is u_i⁻¹u_j to the letter; without Gram–Schmidt there is no singular configuration
and every derivative exists. The second moments ``B_i = Σ_j w ψ (r̂ r̂ᵀ − 1/d)`` see angles at symmetric sites, where
A_i vanishes. Nothing here depends on handedness, so the symmetry is E(n); the optional pseudo-scalars
``r̂ · (a_1 × a_2)`` (d = 3) or ``det(a_1, r̂)`` (d = 2) reduce it to SE(n).

Shape letters: B batch, N particles, K neighbours, d space dimension, m vectors, n moments, S scalars.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import SiLU
from lie_sim.lifting.base import Lifting, PairGeometry, gather_points, pair_mask, pair_vectors
from lie_sim.lifting.radial import RadialBasis, compress, smooth_cutoff
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


def _cross(a: Float[Tensor, "*s 3"], b: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 3"]:
    product: Tensor = torch.linalg.cross(a, b, dim=-1)
    return product


def _source_masses(particles: Particles, q: Tensor, index: Tensor | None) -> Tensor:
    """Mass of the source of each pair, shape (B, 1 or N, K)."""
    masses = particles.masses.to(q.dtype)
    return masses[:, None] if index is None else gather_points(masses[..., None], index).squeeze(-1)


class FrameLift(Lifting):
    """Lifting to soft frames; one lift per particle, any neighbourhood.

    Args:
        dim: space dimension d, 1 to 3 (any d without chirality).
        num_scalars: S, the length of the ``scalars`` given to :meth:`forward`.
        num_frames: m, the number of vectors; 0 leaves distances only.
        num_moments: n, the number of second moments.
        cutoff: distance at which a pair's weight vanishes (C²); None for none.
        radial: name of the radial basis.
        num_radial: size of the Gaussian basis.
        softening: ε of the Coulomb basis.
        hidden: width of the network φ.
        chirality: add pseudo-scalars: symmetry SE(n) in place of E(n). Needs d = 2 with m ≥ 1, or d = 3 with m ≥ 2.
        scale: A_i and B_i are divided by it; take the usual number of neighbours.
        weigh_by_mass: count each particle j in A_i and B_i with its mass, as a body that is made of many would be.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_scalars: int,
        num_frames: int = 4,
        num_moments: int = 0,
        cutoff: float | None = None,
        radial: str = "polynomial",
        num_radial: int = 16,
        softening: float = 1e-3,
        hidden: int = 32,
        chirality: bool = False,
        scale: float = 1.0,
        weigh_by_mass: bool = False,
    ) -> None:
        super().__init__()
        if chirality and not ((dim == 2 and num_frames >= 1) or (dim == 3 and num_frames >= 2)):
            raise ValueError(
                "chirality needs dim=2 with num_frames>=1 or dim=3 with num_frames>=2; "
                f"got dim={dim}, num_frames={num_frames}"
            )
        self.dim, self.num_frames, self.num_moments = dim, num_frames, num_moments
        self.cutoff, self.chirality, self.scale = cutoff, chirality, scale
        self.weigh_by_mass = weigh_by_mass
        self.radial = RadialBasis(radial, size=num_radial, cutoff=cutoff, softening=softening)
        channels = num_frames + num_moments
        self.weights: nn.Module | None = None
        if channels:
            self.weights = nn.Sequential(
                nn.Linear(self.radial.size + 2 * num_scalars, hidden), SiLU(), nn.Linear(hidden, channels)
            )
        self.location_dim = (
            self.radial.size + 2 * num_frames + num_frames**2 + 3 * num_moments + (2 if chirality else 0)
        )
        self.equivariant_under = f"{'SE' if chirality else 'E'}({dim})"

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None,
        scalars: Float[Tensor, "B N S"],
    ) -> PairGeometry:
        """Soft frames and relative poses of all pairs; see :class:`Lifting`."""
        if q.shape[-1] != self.dim:
            raise ValueError(
                f"this model is for {self.dim}-dimensional positions, got {q.shape[-1]} coordinates"
            )
        r = pair_vectors(q, neighbours)
        r2 = r.square().sum(-1)
        envelope = pair_mask(q, particles, neighbours, include_self=False)
        if self.cutoff is not None:
            envelope = envelope * smooth_cutoff(torch.sqrt(r2 + 1e-12), self.cutoff)
        index = None if neighbours is None else neighbours.index
        radial = self.radial(r2)
        parts = [radial]
        if self.weights is not None:
            unit = r * torch.rsqrt(r2 + 1e-2)[..., None]
            counted = envelope * _source_masses(particles, q, index) if self.weigh_by_mass else envelope
            weights = self._pair_weights(radial, scalars, index) * (counted / self.scale)[..., None]
            if self.num_frames:
                parts += self._frame_invariants(weights[..., : self.num_frames], unit, index)
            if self.num_moments:
                parts += self._moment_invariants(weights[..., self.num_frames :], unit, index)
        return PairGeometry(location=torch.cat(parts, dim=-1), envelope=envelope, index=index, num_lifts=1)

    def _pair_weights(self, radial: Tensor, scalars: Tensor, index: Tensor | None) -> Tensor:
        """φ(r_ij, s_i, s_j), shape (B, N, K, m + n)."""
        assert self.weights is not None
        shape = (*radial.shape[:-1], scalars.shape[-1])
        source = scalars[:, None].expand(shape) if index is None else gather_points(scalars, index)
        bounded = compress(radial)
        inputs = torch.cat([bounded, scalars[:, :, None].expand(shape), source], dim=-1)
        weights: Tensor = self.weights(inputs)
        return weights

    def _frame_invariants(self, weights: Tensor, unit: Tensor, index: Tensor | None) -> list[Tensor]:
        frames = weights.transpose(-1, -2) @ unit  # (B, N, m, d)
        frames = frames * torch.rsqrt(1 + frames.square().sum((-1, -2), keepdim=True) / self.num_frames)
        own = unit @ frames.transpose(-1, -2)  # A_i r̂, (B, N, K, m)
        flat = frames.flatten(-2)
        shape = (*unit.shape[:-1], self.num_frames, self.dim)
        source = flat[:, None].expand(*shape[:-2], -1) if index is None else gather_points(flat, index)
        source = source.reshape(shape)
        other = (source * unit[..., None, :]).sum(-1)  # A_j r̂
        between = torch.einsum("bnmd,bnkld->bnkml", frames, source).flatten(-2)  # A_i A_jᵀ
        parts = [own, other, between]
        if self.chirality:
            parts.append(self._pseudo_scalars(frames[:, :, None].expand(shape), source, unit))
        return parts

    def _pseudo_scalars(self, own: Tensor, source: Tensor, unit: Tensor) -> Tensor:
        if self.dim == 2:
            turned = torch.stack([-unit[..., 1], unit[..., 0]], dim=-1)
            return torch.stack(
                [(own[..., 0, :] * turned).sum(-1), (source[..., 0, :] * turned).sum(-1)], dim=-1
            )
        values = [(_cross(a[..., 0, :], a[..., 1, :]) * unit).sum(-1) for a in (own, source)]
        return torch.stack(values, dim=-1)

    def _moment_invariants(self, weights: Tensor, unit: Tensor, index: Tensor | None) -> list[Tensor]:
        trace = torch.eye(self.dim, dtype=unit.dtype, device=unit.device) / self.dim
        moments = torch.einsum("bnkc,bnkd,bnke->bncde", weights, unit, unit)
        moments = (
            moments - torch.einsum("bnkc,bnk->bnc", weights, unit.square().sum(-1))[..., None, None] * trace
        )
        moments = moments * torch.rsqrt(1 + moments.square().sum((-1, -2, -3), keepdim=True))
        flat = moments.flatten(-3)
        shape = (*unit.shape[:-1], self.num_moments, self.dim, self.dim)
        source = flat[:, None].expand(*shape[:-3], -1) if index is None else gather_points(flat, index)
        source = source.reshape(shape)
        own = torch.einsum("bnkd,bncde,bnke->bnkc", unit, moments, unit)
        other = torch.einsum("bnkd,bnkcde,bnke->bnkc", unit, source, unit)
        between = torch.einsum("bncde,bnkcde->bnkc", moments, source)
        return [own, other, between]
