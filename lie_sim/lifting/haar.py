"""The lifting of the paper: random stabiliser samples.

    u_i^l = s(x_i) h_il,   s(x)·o = x,   h_il ~ Haar(Stab(o))
    a_ij  = ( log(u_i⁻¹ u_j),  orbit(x_i),  orbit(x_j) )

The model is equivariant in distribution only: averaged over L samples the error falls as L^(−1/2). For a
trivial stabiliser (translations) it is exact with L = 1.

The samples are a function of ``(seed, L)`` and of the particle's number and stay the same until
:meth:`HaarLift.resample` is called: a vector field must not change between two evaluations.

Reference: Finzi et al., LieConv, ICML 2020, arXiv:2002.12880 (lifting); Hutchinson et al., arXiv:2012.10885.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups import LieGroup
from lie_sim.lifting.base import Lifting, PairGeometry, pair_mask
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


class HaarLift(Lifting):
    """Random lifting to a Lie group.

    Args:
        group: a group of :mod:`lie_sim.groups` that acts on the positions.
        num_lifts: L; must be 1 for a trivial stabiliser, where more would only repeat.
        seed: names the stabiliser samples.
        pose: encoding of the relative pose, "log", "matrix" or (SO(3), SE(3)) "quaternion"; None takes the group's own.
        squash: if given, every location a is shortened to a·tanh(|a|/squash)/|a|, as the paper does for molecules.
    """

    def __init__(
        self,
        group: LieGroup,
        *,
        num_lifts: int = 1,
        seed: int = 0,
        pose: str | None = None,
        squash: float | None = None,
    ) -> None:
        super().__init__()
        if num_lifts < 1:
            raise ValueError(f"num_lifts must be at least 1, got {num_lifts}")
        if group.stabiliser_is_trivial and num_lifts != 1:
            raise ValueError(f"{group.name} has a trivial stabiliser: num_lifts must be 1, got {num_lifts}")
        self.group, self.num_lifts, self.seed = group, num_lifts, seed
        self.pose, self.squash = pose, squash
        self.location_dim = group.pose_dim(pose) + 2 * group.orbit_dim
        self.equivariant_under = group.name
        self.exact = group.stabiliser_is_trivial

    def resample(self, seed: int) -> None:
        """Draw other stabiliser samples from now on (between training steps, never during a rollout)."""
        self.seed = seed

    def _lift(self, q: Float[Tensor, "B N d"]) -> Tensor:
        """Group elements, shape (B, N·L, …)."""
        elements = self.group.section(q)
        if self.group.stabiliser_is_trivial:
            return elements
        generator = torch.Generator().manual_seed(self.seed)
        rows = -(-q.shape[1] // 16) * 16  # drawn in blocks of 16: padding must not change earlier samples
        samples = self.group.stabiliser_random(
            (rows, self.num_lifts), generator=generator, dtype=torch.float64
        )[: q.shape[1]].to(q)
        lifted = self.group.compose(elements[:, :, None], samples[None])
        return lifted.flatten(1, 2)

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None,
        scalars: Float[Tensor, "B N S"],
    ) -> PairGeometry:
        """Relative poses of all pairs of lifted points; see :class:`Lifting`."""
        if neighbours is not None:
            raise ValueError("HaarLift describes all pairs; use FrameLift with a neighbour matrix")
        elements = self._lift(q)
        location = self.group.relative_pose(elements[:, :, None], elements[:, None], self.pose)
        if self.group.orbit_dim:
            orbit = self.group.orbit_coordinates(q).repeat_interleave(self.num_lifts, dim=1)
            shape = (*location.shape[:-1], orbit.shape[-1])
            location = torch.cat(
                [location, orbit[:, :, None].expand(shape), orbit[:, None].expand(shape)], dim=-1
            )
        if self.squash is not None:
            norm = torch.sqrt(location.square().sum(-1, keepdim=True) + 1e-12)
            location = location * (torch.tanh(norm / self.squash) / norm)
        mask = pair_mask(q, particles, neighbours, include_self=True)
        envelope = mask.repeat_interleave(self.num_lifts, 1).repeat_interleave(self.num_lifts, 2)
        return PairGeometry(location=location, envelope=envelope, index=None, num_lifts=self.num_lifts)
