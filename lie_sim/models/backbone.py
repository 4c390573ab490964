"""From particles to invariant features: embedding, lifting, attention blocks.

    f⁰ = W s,     f ← f + LieSelfAttention(f),     f ← f + MLP(f)

Shape letters: B batch, N particles, L lifts, M = N·L points, C channels, S scalars, d space dimension.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.attention import LieSelfAttention, MomentAttention
from lie_sim.lifting import HaarLift, PairGeometry, compress
from lie_sim.models.config import LieTransformerConfig
from lie_sim.models.features import Features
from lie_sim.models.geometry import (
    build_far_attention,
    build_landmarks,
    build_lifting,
    find_neighbours,
)
from lie_sim.models.inputs import check_neighbours, check_open_space, check_particles
from lie_sim.models.scalars import ParticleScalars
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


class FeedForward(nn.Module):
    """Two linear layers; with ``final_activation`` SiLU also after the second, as in the paper."""

    def __init__(self, width: int, *, final_activation: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.final_activation = final_activation
        if not final_activation:  # the block begins as the identity
            nn.init.zeros_(self.second.weight)
            nn.init.zeros_(self.second.bias)

    def forward(self, f: Float[Tensor, "*s C"]) -> Float[Tensor, "*s C"]:
        """Apply to the last axis."""
        out = self.second(silu(self.first(f)))
        return silu(out) if self.final_activation else out


class Bound(nn.Module):
    """:func:`~lie_sim.lifting.compress` as a layer: x/√(1+x²)."""

    def forward(self, f: Float[Tensor, "*s C"]) -> Float[Tensor, "*s C"]:
        """Apply to every element."""
        return compress(f)


def _norm_layer(config: LieTransformerConfig) -> nn.Module:
    if config.norm in ("pre", "post"):
        return nn.LayerNorm(config.width)
    return Bound() if config.norm == "bounded" else nn.Identity()


class _FarAttention(nn.Module):
    """Adds induced attention to an attention over pairs, if the configuration says so."""

    def __init__(self, config: LieTransformerConfig) -> None:
        super().__init__()
        self.induced = build_far_attention(config)

    def with_far(self, near: Tensor, f: Tensor, pairs: PairGeometry) -> Tensor:
        """The change that the pairs make, and that of the landmarks."""
        if self.induced is None:
            return near
        assert pairs.landmarks is not None
        far: Tensor = self.induced(f, pairs.landmarks)
        return near + far


class AttentionBlock(_FarAttention):
    """Attention and feed-forward, each a residual branch with the chosen normalisation."""

    def __init__(self, config: LieTransformerConfig, location_dim: int) -> None:
        super().__init__(config)
        self.norm = config.norm
        self.attention = LieSelfAttention(config.pair_attention(), location_dim)
        self.feed_forward = FeedForward(config.width, final_activation=config.paper_blocks)
        self.norm_attention = _norm_layer(config)
        self.norm_feed_forward = _norm_layer(config)

    def forward(
        self, f: Float[Tensor, "B M C"], pairs: PairGeometry, compressed: Float[Tensor, "B M K A"]
    ) -> Float[Tensor, "B M C"]:
        """One block."""
        post = self.norm == "post"
        inner = f if post else self.norm_attention(f)
        change: Tensor = self.with_far(self.attention(inner, pairs, compressed), inner, pairs)
        f = f + (self.norm_attention(change) if post else change)
        change = self.feed_forward(f if post else self.norm_feed_forward(f))
        return f + (self.norm_feed_forward(change) if post else change)


def bounded_moments(moments: Float[Tensor, "B N P m"]) -> Float[Tensor, "B N P m"]:
    """T / √(1 + ‖T‖²/m) of every particle: crowded particles must not multiply from block to block."""
    size = moments.square().sum((-1, -2), keepdim=True) / moments.shape[-1]
    return moments * torch.rsqrt(1 + size)


class MomentBlock(_FarAttention):
    """As :class:`AttentionBlock`, of moment attention; it also refines the moments of every particle."""

    def __init__(self, config: LieTransformerConfig, location_dim: int, *, first: bool, last: bool) -> None:
        super().__init__(config)
        self.norm = config.norm
        self.attention = MomentAttention(
            config.dim,
            width=config.width,
            num_heads=config.num_heads,
            num_moments=config.num_moments,
            location_dim=location_dim,
            hidden=config.kernel_hidden,
            first=first,
            last=last,
        )
        self.feed_forward = FeedForward(config.width, final_activation=config.paper_blocks)
        self.norm_attention = _norm_layer(config)
        self.norm_feed_forward = _norm_layer(config)

    def forward(
        self,
        f: Float[Tensor, "B N C"],
        moments: Float[Tensor, "B N P m"] | None,
        pairs: PairGeometry,
        steering: Float[Tensor, "B N P K"],
    ) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N P m"] | None]:
        """One block."""
        post = self.norm == "post"
        inner = f if post else self.norm_attention(f)
        near, extra = self.attention(inner, moments, pairs, steering)
        change = self.with_far(near, inner, pairs)
        f = f + (self.norm_attention(change) if post else change)
        inner = f if post else self.norm_feed_forward(f)
        change = self.feed_forward(inner)
        f = f + (self.norm_feed_forward(change) if post else change)
        if self.attention.gate is None:
            return f, None
        refined = self.attention.refine(inner, extra)
        return f, bounded_moments(refined if moments is None else moments + refined)


class LieTransformerBackbone(nn.Module):
    """Everything before the readout.

    Args:
        config: the architecture.
    """

    def __init__(self, config: LieTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.scalars = ParticleScalars(config)
        self.lifting = build_lifting(config)
        self.landmarks = build_landmarks(config)
        self.embed = nn.Linear(config.num_scalars, config.width)
        self.blocks = nn.ModuleList(self._block(number) for number in range(config.num_layers))

    def _block(self, number: int) -> nn.Module:
        config, location_dim = self.config, self.lifting.location_dim
        if config.lifting == "moments":
            last = number == config.num_layers - 1 and not config.keep_moments
            return MomentBlock(config, location_dim, first=number == 0, last=last)
        return AttentionBlock(config, location_dim)

    def _centred(self, q: Tensor, particles: Particles) -> Tensor:
        if particles.mask is None:
            return q - q.mean(1, keepdim=True)
        exists = particles.mask[..., None].to(q.dtype)
        return (q - (q * exists).sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)) * exists

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, "B M C"]:
        """Invariant features of every lifted point, shape (B, N·L, C).

        Without neighbours all pairs interact; in a cell, or unless ``attention`` is "full", those within the cutoff,
        found anew at every call: exact for particles that move, and dearer than a list that is passed.

        On the CPU an unknown species is refused; on another device it makes the features of that system NaN.

        Raises:
            ValueError: the inputs do not fit each other or the model; the message says what to do.
        """
        return self.features(q, particles, neighbours).points

    def features(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Features:
        """As :meth:`forward`, with the moments of every particle and the pairs, which heads for properties read."""
        config = self.config
        check_particles(q, particles, dim=config.dim, weight=self.embed.weight)
        if self.landmarks is not None:
            check_open_space(particles, neighbours)
        if neighbours is None:
            neighbours = find_neighbours(q, particles, config)
        if neighbours is not None:
            images_need_a_cutoff = not isinstance(self.lifting, HaarLift)  # which refuses every list
            check_neighbours(neighbours, q, cutoff=config.cutoff, needs_cutoff=images_need_a_cutoff)
        scaled = None if neighbours is None else neighbours.in_units_of(config.length_scale)
        scalars = self.scalars(particles, q)
        if config.centre:
            q = self._centred(q, particles)
        pairs = self.lifting(q / config.length_scale, particles, scaled, scalars)
        if self.landmarks is not None:
            landmarks = self.landmarks(q / config.length_scale, particles, scalars)
            pairs = replace(pairs, landmarks=landmarks.for_lifts(pairs.num_lifts))
        if config.source_weight == "masses":
            pairs = self._weigh_sources(pairs, particles)
        f: Tensor = self.embed(scalars)
        if pairs.directions is not None:
            return replace(self._with_moments(f, pairs), neighbours=neighbours)
        compressed = compress(pairs.location)
        if pairs.num_lifts > 1:
            f = f.repeat_interleave(pairs.num_lifts, dim=1)
        for block in self.blocks:
            f = block(f, pairs, compressed)
        return Features(f, pairs, neighbours=neighbours)

    def _with_moments(self, f: Tensor, pairs: PairGeometry) -> Features:
        assert pairs.directions is not None
        weight = (pairs.envelope / self.config.mean_neighbours)[..., None]
        steering = (pairs.directions * weight).transpose(-1, -2)
        moments: Tensor | None = None
        for block in self.blocks:
            f, moments = block(f, moments, pairs, steering)
        return Features(f, pairs, moments)

    @staticmethod
    def _weigh_sources(pairs: PairGeometry, particles: Particles) -> PairGeometry:
        masses = particles.masses.to(pairs.envelope.dtype)[..., None].repeat_interleave(
            pairs.num_lifts, dim=1
        )
        landmarks = pairs.landmarks
        if landmarks is not None:
            landmarks = replace(landmarks, shares=landmarks.shares * masses)
        source = pairs.sources(masses).squeeze(-1)
        return replace(pairs, envelope=pairs.envelope * source, landmarks=landmarks)
