"""LieSelfAttention: multi-head attention whose logits, and optionally values, depend on relative poses.

    ℓ_ij = combine( k_content(f_i, f_j), k_location(a_ij) )
    α_ij = normalise_j(ℓ_ij; w_ij)
    out_i = W_O Σ_j α_ij (W_V f_j ⊙ φ(a_ij, f_i, f_j))           φ = 1 without gated values

Softmax weights sum to one, so with identical particles and ungated values the output does not depend on the
geometry at all; the gate φ is what makes an energy of identical particles possible.

Shape letters: B batch, M points, K neighbours, H heads, C channels, A location dimension.

Reference: Hutchinson et al., arXiv:2012.10885, eq. (5)–(9); the gate is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import SiLU
from lie_sim.attention.kernels import (
    COMBINATIONS,
    CONTENT_KERNELS,
    LOCATION_KERNELS,
    CombinedLogits,
    DotProductContent,
    PairNetwork,
)
from lie_sim.attention.normalisation import NORMALISATIONS, attention_weights
from lie_sim.lifting.base import PairGeometry


@dataclass(frozen=True)
class AttentionConfig:
    """Options of :class:`LieSelfAttention`.

    Args:
        width: channels C, a multiple of ``num_heads``.
        num_heads: heads H.
        content: content kernel, one of ``CONTENT_KERNELS``.
        location: location kernel, one of ``LOCATION_KERNELS``; ``"network"`` sees the features too and gates
            the values with the same hidden layer.
        combination: one of ``COMBINATIONS``.
        normalisation: one of ``NORMALISATIONS``.
        kernel_hidden: width of the kernel networks.
        content_features: features per head of the concat kernels; None means C/(4H).
        gated_values: multiply values by a function of the location.
        epsilon: ε of the normalisations other than ``"scaled"``.
        mean_neighbours: n̄ of the ``"scaled"`` normalisation.
    """

    width: int
    num_heads: int
    content: str = "dot_product"
    location: str = "network"
    combination: str = "sum"
    normalisation: str = "scaled"
    kernel_hidden: int = 32
    content_features: int | None = None
    gated_values: bool = True
    epsilon: float = 1e-6
    mean_neighbours: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("content", CONTENT_KERNELS),
            ("location", LOCATION_KERNELS),
            ("combination", COMBINATIONS),
            ("normalisation", NORMALISATIONS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(allowed)}")
        if self.width < 1 or self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(
                f"width must be a positive multiple of num_heads, got {self.width} and {self.num_heads}"
            )
        if self.location == "network":
            if self.content not in ("dot_product", "none") or self.combination != "sum":
                raise ValueError(
                    "location='network' adds its bias to the logits: it goes with content='dot_product' or 'none' "
                    f"and combination='sum', not content={self.content!r}, combination={self.combination!r}"
                )
            if not self.gated_values:
                raise ValueError(
                    "location='network' gates the values: use location='mlp' for gated_values=False"
                )


class LieSelfAttention(nn.Module):
    """Multi-head self-attention over lifted points; see the module's equation.

    Args:
        config: its options.
        location_dim: A, given by the lifting.
    """

    def __init__(self, config: AttentionConfig, location_dim: int) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.num_heads
        self.logits: CombinedLogits | None = None
        self.dot_product: DotProductContent | None = None
        self.network: PairNetwork | None = None
        self.gate: nn.Module | None = None
        if config.location == "network":
            if config.content == "dot_product":
                self.dot_product = DotProductContent(width, heads)
            self.network = PairNetwork(
                width=width, num_heads=heads, location_dim=location_dim, hidden=config.kernel_hidden
            )
        else:
            self.logits = CombinedLogits(
                width=width,
                num_heads=heads,
                location_dim=location_dim,
                content=config.content,
                location=config.location,
                combination=config.combination,
                hidden=config.kernel_hidden,
                content_features=config.content_features,
            )
            if config.gated_values:
                hidden = nn.Linear(location_dim, config.kernel_hidden)
                self.gate = nn.Sequential(hidden, SiLU(), nn.Linear(config.kernel_hidden, width))
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, f: Float[Tensor, "B M C"], pairs: PairGeometry, compressed: Float[Tensor, "B M K A"]
    ) -> Float[Tensor, "B M C"]:
        """Attend; ``compressed`` is the location squeezed to [−1, 1], made once for all layers."""
        config = self.config
        gate: Tensor | None = None
        if self.network is not None:
            logits, gate = self.network(f, pairs, compressed)
            if self.dot_product is not None:
                logits = logits + self.dot_product(f, pairs).squeeze(-1)
        else:
            assert self.logits is not None
            logits = self.logits(f, pairs)
            gate = None if self.gate is None else self.gate(compressed)
        weights = attention_weights(
            logits,
            pairs.envelope,
            config.normalisation,
            epsilon=config.epsilon,
            mean_neighbours=config.mean_neighbours,
        )
        out: Tensor = self.out(self._aggregate(weights, self.value(f), gate, pairs))
        return out

    def _aggregate(self, weights: Tensor, values: Tensor, gate: Tensor | None, pairs: PairGeometry) -> Tensor:
        """Σ_j α_ij V_ij, heads concatenated."""
        heads = self.config.num_heads
        batch, points, width = values.shape
        if gate is None and pairs.index is None:  # a plain matrix product per head
            per_head = values.reshape(batch, points, heads, -1).transpose(1, 2)
            return (weights.permute(0, 3, 1, 2) @ per_head).transpose(1, 2).reshape(batch, points, width)
        source = pairs.sources(values)
        gated = source if gate is None else source * gate
        split = gated.reshape(*gated.shape[:3], heads, width // heads)
        return (weights[..., None] * split).sum(2).reshape(batch, points, width)
