"""From a configuration to the parts that describe the geometry: lifting, landmarks, lists of neighbours.

Shape letters: B batch, N particles, K neighbours, d space dimension.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lie_sim.attention import InducedLieAttention
from lie_sim.groups import LieGroup, group
from lie_sim.lifting import FiniteLift, FrameLift, HaarLift, LandmarkLift, Lifting, MomentLift
from lie_sim.models.config import LieTransformerConfig
from lie_sim.models.inputs import being_traced, is_transformed
from lie_sim.models.se3_config import SE3TransformerConfig
from lie_sim.neighbors import NeighbourMatrix, neighbour_matrix
from lie_sim.pairs import open_neighbour_matrix
from lie_sim.state import Particles


def _group_of(config: LieTransformerConfig) -> LieGroup:
    chosen = group(config.group)
    if chosen.space_dim != config.dim:
        raise ValueError(f"{chosen.name} acts in {chosen.space_dim} dimensions, but dim={config.dim}")
    return chosen


def build_lifting(config: LieTransformerConfig) -> Lifting:
    """The lifting that the configuration names."""
    cutoff = config.cutoff / config.length_scale or None
    if config.lifting == "haar":
        return HaarLift(
            _group_of(config),
            num_lifts=config.num_lifts,
            seed=config.lift_seed,
            pose=config.pose or None,
            squash=config.squash or None,
        )
    if config.lifting == "finite":
        return FiniteLift(_group_of(config), code=config.element_code, cutoff=cutoff)
    if config.lifting == "moments":
        return MomentLift(
            config.dim,
            cutoff=cutoff,
            radial=config.radial,
            num_radial=config.num_radial,
            softening=config.softening / config.length_scale,
        )
    return FrameLift(
        config.dim,
        num_scalars=config.num_scalars,
        num_frames=config.num_frames,
        num_moments=config.num_moments,
        cutoff=cutoff,
        radial=config.radial,
        num_radial=config.num_radial,
        softening=config.softening / config.length_scale,
        hidden=config.kernel_hidden,
        chirality=config.chirality,
        scale=config.mean_neighbours,
        weigh_by_mass=config.source_weight == "masses",
    )


def build_landmarks(config: LieTransformerConfig | SE3TransformerConfig) -> LandmarkLift | None:
    """The landmarks of "induced" attention; None for the others."""
    if config.attention != "induced":
        return None
    return LandmarkLift(
        config.dim,
        num_scalars=config.num_scalars,
        num_landmarks=config.num_landmarks,
        reach=config.cutoff / config.length_scale,
    )


def build_far_attention(
    config: LieTransformerConfig | SE3TransformerConfig,
) -> InducedLieAttention | None:
    """The attention to landmarks of one block; None unless it is "induced"."""
    if config.attention != "induced":
        return None
    return InducedLieAttention(
        config.dim,
        width=config.width,
        num_heads=config.num_heads,
        location_dim=LandmarkLift.radial_size,
        hidden=config.kernel_hidden,
        mean_neighbours=config.mean_neighbours,
    )


def find_neighbours(
    q: Float[Tensor, "B N d"], particles: Particles, config: LieTransformerConfig | SE3TransformerConfig
) -> NeighbourMatrix | None:
    """The pairs that a model finds itself where none are given; None for all pairs.

    While operations are being traced, or transformed by ``torch.func``, no list is made: all pairs then give the same
    energy in time N².
    """
    if not config.cutoff:
        return None
    if particles.cell is not None:
        return neighbour_matrix(q.detach(), particles, cutoff=config.cutoff)
    if config.attention == "full" or being_traced() or is_transformed(q):
        return None
    return open_neighbour_matrix(q, particles.mask, cutoff=config.cutoff)
