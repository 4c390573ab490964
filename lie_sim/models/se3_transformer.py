r"""The SE(3)-Transformer, as a potential energy and as the paper's predictor of motion.

    E(q)       = Σ_i ε_i,     ε_i = energy_scale · (w·f_i⁰ + MLP(f_i⁰)),      forces by differentiation
    (Δx, Δv)_i = W f_i¹       after a fixed time, from positions and velocities

f_i^l are features of degree l of a particle, which turn with the system; those of the energy are numbers. Unlike the
paper's, representations know their parity (the energy of a mirror image is the same unless ``parity="none"``), and all
is smooth: neighbours leave at the cutoff inside the softmax, particles may meet, and there are no ReLUs.

Shape letters: B batch, N particles, d space dimension.
Reference: Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers: 3D roto-translation equivariant attention networks",
NeurIPS 2020, arXiv:2006.10503.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.lifting.irreps import MomentsOf, vector_representation
from lie_sim.models.base import register_model
from lie_sim.models.config_checks import require_positive
from lie_sim.models.features import FeatureModel, Features, FeatureSizes
from lie_sim.models.lie_transformer import ResidualHead
from lie_sim.models.se3_backbone import SCALAR, SE3TransformerBackbone, bounded
from lie_sim.models.se3_config import SE3_PRESETS, SE3TransformerConfig
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


def symmetry(config: SE3TransformerConfig) -> str:
    """Name of the symmetry; a reflection of the plane is a rotation of space.

    Example:
        >>> symmetry(SE3TransformerConfig()), symmetry(SE3TransformerConfig(parity="none"))
        ('E(3)', 'SE(3)')
    """
    return "SE(3)" if config.parity == "none" and config.dim == 3 else f"E({config.dim})"


@register_model
class SE3Transformer(FeatureModel):
    """Energy of a particle system by attention between features that turn with it; needs the extra ``se3``.

    Args:
        config: the architecture; :meth:`default` and :meth:`paper` make common ones.

    Raises:
        MissingPackageError: e3nn is not installed.

    Example:
        >>> import torch
        >>> model = SE3Transformer.default(width=8)
        >>> model(torch.randn(2, 5, 3), Particles(masses=torch.ones(2, 5))).shape
        torch.Size([2, 5])
    """

    name: ClassVar[str] = "se3_transformer"
    Config: ClassVar[type] = SE3TransformerConfig
    config: SE3TransformerConfig
    linear_readout = True

    def __init__(self, config: SE3TransformerConfig) -> None:
        super().__init__()
        self.config = config
        outputs = MomentsOf(config.parity).names if config.keep_moments else (SCALAR,)
        self.backbone = SE3TransformerBackbone(config, outputs=outputs)
        self.moments = MomentsOf(config.parity) if config.keep_moments else None
        self.head = ResidualHead(config.width, 1)
        self.equivariant_under = symmetry(config)
        self.needs_open_space = config.attention == "induced"

    @classmethod
    def default(cls, **options: Any) -> SE3Transformer:
        """Two blocks of degrees 0 to 2; options override the configuration's defaults."""
        return cls(SE3TransformerConfig(**options))

    @classmethod
    def paper(cls, preset: str, **options: Any) -> SE3Transformer:
        """The sizes of a published experiment.

        Args:
            preset: ``"nbody"``.
            options: overrides of single fields.

        Raises:
            ValueError: unknown preset.
        """
        return cls(se3_preset(preset, **options))

    @property
    def sizes(self) -> FeatureSizes:
        """Those of the features."""
        width = self.config.width
        return FeatureSizes(width, self.backbone.lifting.location_dim, width)

    def features(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Features:
        """Numbers of every particle; with ``keep_moments`` also its vectors and matrices."""
        f, pairs, neighbours = self.backbone.with_pairs(q, particles, neighbours)
        moments = None
        if self.moments is not None:
            moments = self.moments({name: bounded(f[name]) for name in self.moments.names})
        return Features(f[SCALAR].squeeze(-2), pairs, moments, neighbours)

    def read_energies(self, features: Features, particles: Particles) -> Float[Tensor, "B N"]:
        """Per-particle energies (B, N); padding gets 0."""
        energies: Tensor = self.head(features.points).squeeze(-1) * self.config.energy_scale
        return energies if particles.mask is None else energies * particles.mask


class SE3TransformerDynamics(nn.Module):
    """How far particles move in a fixed time, and how their velocities change: the task of the paper.

    Args:
        config: the architecture; ``energy_scale`` has no effect.
        velocity_scale: unit of velocity: velocities are divided by it and changes of velocity multiplied, so that
            both are of order one inside.

    Raises:
        MissingPackageError: e3nn is not installed.

    Example:
        >>> import torch
        >>> model = SE3TransformerDynamics(SE3TransformerConfig(width=8))
        >>> q, velocities = torch.randn(2, 2, 5, 3)
        >>> [x.shape for x in model(q, velocities, Particles(masses=torch.ones(2, 5)))]
        [torch.Size([2, 5, 3]), torch.Size([2, 5, 3])]
    """

    def __init__(self, config: SE3TransformerConfig, *, velocity_scale: float = 1.0) -> None:
        super().__init__()
        require_positive("velocity_scale", velocity_scale)
        if config.lmax < 1:
            raise ValueError(f"displacements are of degree 1: give lmax >= 1, got {config.lmax}")
        self.config, self.velocity_scale = config, float(velocity_scale)
        self.equivariant_under = symmetry(config)
        self.backbone = SE3TransformerBackbone(
            config, outputs=[vector_representation(config.parity)], num_vectors=1
        )
        self.read = nn.Linear(config.width, 2, bias=False)

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        velocities: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None = None,
    ) -> tuple[Float[Tensor, "B N d"], Float[Tensor, "B N d"]]:
        """Δx and Δv of every particle, in the units of positions and velocities; padding gets 0.

        Raises:
            ValueError: velocities have another shape or dtype than positions, or the rest does not fit the model.
        """
        if velocities.shape != q.shape or velocities.dtype != q.dtype:
            raise ValueError(
                f"velocities must have the shape and dtype of q, {tuple(q.shape)} and {q.dtype}; "
                f"got {tuple(velocities.shape)} and {velocities.dtype}"
            )
        if particles.mask is not None:
            velocities = torch.where(particles.mask[..., None], velocities, 0.0)
        f = self.backbone(q, particles, neighbours, (velocities / self.velocity_scale)[:, :, None])
        moved: Tensor = self.read(f[self.backbone.vector])[:, :, : self.config.dim]
        if particles.mask is not None:
            moved = moved * particles.mask[..., None, None]
        return moved[..., 0] * self.config.length_scale, moved[..., 1] * self.velocity_scale


def se3_preset(preset: str, **options: Any) -> SE3TransformerConfig:
    """Configuration of a published experiment with single fields overridden.

    Raises:
        ValueError: unknown preset.

    Example:
        >>> se3_preset("nbody").lmax
        3
    """
    if preset not in SE3_PRESETS:
        raise ValueError(f"unknown paper preset {preset!r}; choose one of {', '.join(SE3_PRESETS)}")
    return replace(SE3_PRESETS[preset], **options)
