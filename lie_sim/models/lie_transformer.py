"""The LieTransformer as a potential energy.

    E(q) = Σ_i ε_i,      ε_i = energy_scale · (w·f_i + MLP(f_i))        with pool="gate" times σ(z_i), z_i of PairScore

Reference: Hutchinson, Le Lan, Zaidi, Dupont, Teh, Kim, "LieTransformer: equivariant self-attention for Lie
groups", ICML 2021, arXiv:2012.10885. Soft frames, gated values and the extensive readout are ours.

Shape letters: B batch, N particles, L lifts, M = N·L points, C channels, d space dimension.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.models.backbone import LieTransformerBackbone
from lie_sim.models.base import register_model
from lie_sim.models.config import LieTransformerConfig
from lie_sim.models.features import FeatureModel, Features, FeatureSizes
from lie_sim.models.presets import paper_preset
from lie_sim.neighbors import NeighbourMatrix, neighbour_matrix
from lie_sim.pooling import PairScore, local_gate
from lie_sim.state import Particles


def pool_points(
    f: Float[Tensor, "B M C"], mask: Tensor | None, num_lifts: int, how: str
) -> Float[Tensor, "B C"]:
    """Mean, maximum or (lift-averaged) sum of the features of the points that exist.

    Example:
        >>> pool_points(torch.tensor([[[1.0], [3.0]]]), None, 1, "mean")
        tensor([[2.]])
    """
    if mask is None:
        count: Tensor | int = f.shape[1]
    else:
        mask = mask.repeat_interleave(num_lifts, dim=1)[..., None]
        count = mask.sum(1).clamp(min=1).to(f.dtype)
    if how == "max":
        return (f if mask is None else f.masked_fill(~mask, -torch.inf)).amax(1)
    total = (f if mask is None else f * mask).sum(1)
    return total / count if how == "mean" else total / num_lifts


class DeepHead(nn.Module):
    """The paper's head: three times SiLU and a linear layer."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, outputs)]
        )

    def forward(self, f: Float[Tensor, "*s C"]) -> Float[Tensor, "*s outputs"]:
        """Apply to the last axis."""
        for layer in self.layers:
            f = layer(silu(f))
        return f


class LinearHead(nn.Module):
    """The paper's head for molecules: SiLU and a linear layer."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)

    def forward(self, f: Float[Tensor, "*s C"]) -> Float[Tensor, "*s outputs"]:
        """Apply to the last axis."""
        out: Tensor = self.linear(silu(f))
        return out


class ResidualHead(nn.Module):
    """A linear readout plus a two-layer perceptron that starts at zero."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, outputs, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, f: Float[Tensor, "*s C"]) -> Float[Tensor, "*s outputs"]:
        """Apply to the last axis."""
        linear: Tensor = self.linear(f)
        correction: Tensor = self.out(silu(self.hidden(f)))
        return linear + correction


_HEADS: dict[str, type[nn.Module]] = {"residual": ResidualHead, "deep": DeepHead, "linear": LinearHead}


def read_out(head: nn.Module, f: Float[Tensor, "B M C"], mask: Tensor | None, lifts: int, how: str) -> Tensor:
    """Outputs of the whole system, shape (B, outputs): pooled after a :class:`LinearHead`, before another one."""
    if isinstance(head, LinearHead):
        return pool_points(head(f), mask, lifts, how)
    outputs: Tensor = head(pool_points(f, mask, lifts, how))
    return outputs


@register_model
class LieTransformer(FeatureModel):
    """Energy of a particle system by Lie-group self-attention.

    Args:
        config: the architecture; :meth:`default` and :meth:`paper` make common ones.

    Example:
        >>> model = LieTransformer.default(dim=3)
        >>> q = torch.randn(2, 5, 3)
        >>> model(q, Particles(masses=torch.ones(2, 5))).shape
        torch.Size([2, 5])
    """

    name: ClassVar[str] = "lie_transformer"
    Config: ClassVar[type] = LieTransformerConfig
    config: LieTransformerConfig

    def __init__(self, config: LieTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = LieTransformerBackbone(config)
        self.head = _HEADS[config.head](config.width, 1)
        self.gate = PairScore(config.width) if config.pool == "gate" else None
        lifting = self.backbone.lifting
        self.equivariant_under = lifting.equivariant_under
        self.exact_symmetry = lifting.exact
        self.needs_open_space = config.attention == "induced"
        self.linear_readout = (config.readout, config.readout_weight, config.pool) == ("sum", "none", "none")

    @classmethod
    def default(cls, **options: Any) -> LieTransformer:
        """Our model: soft frames, gated values, extensive energy; options override the configuration's defaults."""
        return cls(LieTransformerConfig(**options))

    @classmethod
    def paper(cls, preset: str, **options: Any) -> LieTransformer:
        """The architecture of a published experiment.

        Args:
            preset: ``"springs-T2"`` (841,641 parameters), ``"springs-SE2"``, ``"shapes"`` or ``"qm9"`` (55,549,761).
            options: overrides of single fields.

        Raises:
            ValueError: unknown preset.
        """
        return cls(paper_preset(preset, **options))

    @property
    def sizes(self) -> FeatureSizes:
        """Those of the features."""
        return FeatureSizes(self.config.width, self.backbone.lifting.location_dim, self.config.num_moments)

    def features(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Features:
        """Features of every lifted point."""
        return self.backbone.features(q, particles, neighbours)

    def read_energies(self, features: Features, particles: Particles) -> Float[Tensor, "B N"]:
        """Per-particle energies (B, N); with a mean or max readout the total is shared out equally."""
        config, count, f = self.config, particles.num_particles, features.points
        lifts = self.backbone.lifting.num_lifts
        if config.readout == "sum":
            energies: Tensor = self.head(f).squeeze(-1)
            if lifts > 1:
                energies = energies.reshape(len(f), count, lifts).mean(-1)
            energies = energies * config.energy_scale
            if self.gate is not None:
                energies = energies * local_gate(self.gate(f, features.pairs), temperature=1.0)
            if config.readout_weight == "masses":
                energies = energies * particles.masses.to(energies.dtype)
            return energies if particles.mask is None else energies * particles.mask
        total = read_out(self.head, f, particles.mask, lifts, config.readout) * config.energy_scale
        if particles.mask is None:
            return (total / count).expand(len(f), count)
        return total * particles.mask / particles.mask.sum(1, keepdim=True).clamp(min=1)


class LieTransformerClassifier(nn.Module):
    """Invariant numbers of a whole particle set, such as class scores.

    Args:
        config: the architecture; its ``readout`` pools the particles.
        num_outputs: how many numbers.

    Raises:
        ValueError: the configuration has a gate, which is for energies.

    Example:
        >>> model = LieTransformerClassifier(LieTransformerConfig(readout="mean"), num_outputs=4)
        >>> model(torch.randn(2, 5, 2), Particles(masses=torch.ones(2, 5))).shape
        torch.Size([2, 4])
    """

    def __init__(self, config: LieTransformerConfig, num_outputs: int) -> None:
        super().__init__()
        if config.pool != "none":
            raise ValueError(f"pool={config.pool!r} is for energies: leave it 'none', the readout pools here")
        self.config, self.num_outputs = config, num_outputs
        self.backbone = LieTransformerBackbone(config)
        self.head = _HEADS[config.head](config.width, num_outputs)

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, "B outputs"]:
        """Scores of each system, shape (B, num_outputs)."""
        if neighbours is None and self.config.cutoff and self.config.lifting != "haar":
            neighbours = neighbour_matrix(q, particles, cutoff=self.config.cutoff)
        f = self.backbone(q, particles, neighbours)
        lifts, readout = self.backbone.lifting.num_lifts, self.config.readout
        return read_out(self.head, f, particles.mask, lifts, readout)
