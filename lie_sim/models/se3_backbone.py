"""From particles to features that turn with the system: embedding, pairs, attention blocks.

    f⁰ = W s,  f¹ = W v,     f ← f + SteerableAttention(b(f)),     f ← f + gated MLP(b(f)),     b(f) = f/√(1 + |f|²)

With "induced" attention the numbers also see all particles through landmarks: f⁰ ← f⁰ + InducedLieAttention(b(f⁰)).

b bounds every channel, so that a deep model grows no faster than its radial basis. Nonlinearities see invariants only,
numbers and squared lengths, and multiply what turns by them; the paper's, of the length itself, has no derivative at 0.

Shape letters: B batch, N particles, C channels, V vectors of a particle, d space dimension.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.attention import SteerableAttention
from lie_sim.attention.steerable import Steerable
from lie_sim.lifting import HarmonicLift, PairGeometry
from lie_sim.lifting.irreps import in_space, vector_representation
from lie_sim.models.geometry import build_far_attention, build_landmarks, find_neighbours
from lie_sim.models.inputs import check_neighbours, check_open_space, check_particles
from lie_sim.models.scalars import ParticleScalars
from lie_sim.models.se3_config import SE3TransformerConfig
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

SCALAR = "0e"


def bounded(f: Float[Tensor, "*s M C"]) -> Float[Tensor, "*s M C"]:
    """Every channel of one representation by b.

    Example:
        >>> bounded(torch.tensor([[3.0], [4.0]])).norm() < 1
        tensor(True)
    """
    return f * torch.rsqrt(1 + f.square().sum(-2, keepdim=True))


def added(f: Steerable, change: Steerable) -> Steerable:
    """Features and their change, which may bring representations that were not there."""
    return f | {name: f[name] + more if name in f else more for name, more in change.items()}


class GatedFeedForward(nn.Module):
    """A perceptron of the invariants; what it gives is added to the numbers and multiplies a linear map of the rest.

    Args:
        inputs: representations of the features.
        outputs: those that change.
        width: C.
    """

    def __init__(self, inputs: Sequence[str], outputs: Collection[str], width: int) -> None:
        super().__init__()
        self.turning = [name for name in inputs if name != SCALAR]
        self.hidden = nn.Linear(width * (1 + len(self.turning)), width)
        mixed = [name for name in self.turning if name in outputs]
        self.mix = nn.ModuleDict({name: nn.Linear(width, width, bias=False) for name in mixed})
        self.out = nn.Linear(width, width * (1 + len(mixed)))
        nn.init.zeros_(self.out.weight)  # the block begins as the identity
        nn.init.zeros_(self.out.bias)

    def forward(self, f: Steerable) -> Steerable:
        """Change of the features."""
        lengths = [f[name].square().sum(-2, keepdim=True) for name in self.turning]
        hidden = silu(self.hidden(torch.cat([f[SCALAR], *lengths], dim=-1)))
        scalars, *gates = self.out(hidden).split(f[SCALAR].shape[-1], dim=-1)
        turned = {
            name: gate * mix(f[name]) for gate, (name, mix) in zip(gates, self.mix.items(), strict=True)
        }
        return {SCALAR: scalars, **turned}


class SteerableBlock(nn.Module):
    """Attention and feed-forward, each a residual branch of bounded features.

    Args:
        config: the architecture.
        inputs: representations of the features.
        outputs: those that are to change.
        location_dim: size of the radial basis.

    Attributes:
        reached: representations of the features afterwards.
    """

    def __init__(
        self, config: SE3TransformerConfig, inputs: Sequence[str], outputs: Sequence[str], location_dim: int
    ) -> None:
        super().__init__()
        self.attention = SteerableAttention(
            inputs=inputs,
            harmonics=config.harmonics,
            outputs=outputs,
            width=config.width,
            num_heads=config.num_heads,
            location_dim=location_dim,
            hidden=config.kernel_hidden,
            kernel=config.kernel,
        )
        self.induced = build_far_attention(config)
        there = {*inputs, *self.attention.value}
        self.reached = [name for name in config.representations if name in there]
        self.feed_forward = GatedFeedForward(self.reached, outputs, config.width)

    def forward(self, f: Steerable, pairs: PairGeometry) -> Steerable:
        """One block."""
        inner = {name: bounded(x) for name, x in f.items()}
        f = added(f, self.attention(inner, pairs))
        if self.induced is not None:
            assert pairs.landmarks is not None
            far = self.induced(inner[SCALAR].squeeze(-2), pairs.landmarks)
            f = added(f, {SCALAR: far[..., None, :]})
        return added(f, self.feed_forward({name: bounded(x) for name, x in f.items()}))


class SE3TransformerBackbone(nn.Module):
    """Everything before the head.

    Args:
        config: the architecture.
        outputs: representations that the head reads.
        num_vectors: V, vectors that are known of every particle, such as its velocity.

    Raises:
        MissingPackageError: e3nn is not installed.
        ValueError: the configuration does not lead to what the head reads.
    """

    def __init__(self, config: SE3TransformerConfig, *, outputs: Sequence[str], num_vectors: int = 0) -> None:
        super().__init__()
        self.config, self.vector = config, vector_representation(config.parity)
        self.scalars = ParticleScalars(config)
        self.lifting = HarmonicLift(
            config.dim,
            lmax=config.lmax,
            cutoff=config.cutoff / config.length_scale or None,
            radial=config.radial,
            num_radial=config.num_radial,
            softening=config.softening / config.length_scale,
        )
        self.landmarks = build_landmarks(config)
        self.embed = nn.Linear(config.num_scalars + num_vectors, config.width)
        self.embed_vectors = nn.Linear(num_vectors, config.width, bias=False) if num_vectors else None
        self.blocks = nn.ModuleList()
        present = [SCALAR, self.vector] if num_vectors else [SCALAR]
        for number in range(config.num_layers):
            wanted = outputs if number == config.num_layers - 1 else config.representations
            block = SteerableBlock(config, present, wanted, self.lifting.location_dim)
            present = block.reached
            self.blocks.append(block)
        if not set(outputs) <= set(present):
            raise ValueError(f"features {present} have none of {', '.join(outputs)}: use a larger lmax")

    def forward(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None = None,
        vectors: Float[Tensor, "B N V d"] | None = None,
    ) -> Steerable:
        """Features of every particle by representation, shape (B, N, 2l + 1, C).

        Without neighbours all pairs interact; in a cell, or unless ``attention`` is "full", those within the cutoff,
        found anew at every call.

        Args:
            q: positions.
            particles: what the particles are.
            neighbours: which pairs interact.
            vectors: those that are known, in units of order one.

        Raises:
            ValueError: the inputs do not fit each other or the model; the message says what to do.
        """
        return self.with_pairs(q, particles, neighbours, vectors)[0]

    def with_pairs(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles,
        neighbours: NeighbourMatrix | None = None,
        vectors: Float[Tensor, "B N V d"] | None = None,
    ) -> tuple[Steerable, PairGeometry, NeighbourMatrix | None]:
        """As :meth:`forward`, with the geometry of the pairs and their list, in the unit of q."""
        config = self.config
        check_particles(q, particles, dim=config.dim, weight=self.embed.weight)
        if self.landmarks is not None:
            check_open_space(particles, neighbours)
        if neighbours is None:
            neighbours = find_neighbours(q, particles, config)
        if neighbours is not None:
            check_neighbours(neighbours, q, cutoff=config.cutoff)
        scaled = None if neighbours is None else neighbours.in_units_of(config.length_scale)
        scalars = self.scalars(particles, q)
        pairs = self.lifting(q / config.length_scale, particles, scaled, scalars)
        if self.landmarks is not None:
            landmarks = self.landmarks(q / config.length_scale, particles, scalars)
            pairs = replace(pairs, landmarks=landmarks)
        f = self._embedded(scalars, vectors)
        for block in self.blocks:
            f = block(f, pairs)
        return f, pairs, neighbours

    def _embedded(self, scalars: Tensor, vectors: Tensor | None) -> Steerable:
        if self.embed_vectors is None or vectors is None:
            return {SCALAR: self.embed(scalars)[..., None, :]}
        squares = vectors.square().sum(-1)
        turning: Tensor = self.embed_vectors(in_space(vectors).mT)
        return {SCALAR: self.embed(torch.cat([scalars, squares], dim=-1))[..., None, :], self.vector: turning}
