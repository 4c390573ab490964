r"""SteerableAttention: self-attention between features that turn with the system, as in the SE(3)-Transformer.

    message   m_ij^p = W^p(r_ij, f_i⁰, f_j⁰) (f_j^a ⊗ Y^s(r̂_ij))^c        one for each path p = (a, s) → c
    logits    ℓ_ij   = L b( Σ_p (W_Q^p f_i^c)·m_ij^p / (L √n) ),     b(x) = x/√(1 + x²)
    weights   α_ij   = w_ij e^ℓ_ij / (1 + Σ_k w_ik e^ℓ_ik)
    change    f_i^c += Σ_{p → c} W_V^p Σ_j α_ij m_ij^p

a, s and c are representations of O(3), (·⊗·)^c the Clebsch-Gordan product. Inner products within a representation are
invariant, so ℓ and α are, and the change turns with the system. W^p are networks of invariants, "depthwise" a number
per channel, "dense" (the paper's) a matrix of channels. One product per pair serves keys and values: what mixes the
channels of keys and values stands at the particles, W_Q and W_V, because both maps are linear.

n is the number of components of one head in that sum. ℓ stays within ±L, so that no distant pair takes all the weight
of an unbounded system; the 1 in the denominator is a logit 0 of the particle itself, with which the last neighbour
leaves smoothly.

Shape letters: B batch, N particles, K neighbours, C channels, H heads, S components of all Y, P paths,
D components of all messages, A location dimension.
Reference: Fuchs, Worrall, Fischer, Welling, "SE(3)-Transformers: 3D roto-translation equivariant attention networks",
NeurIPS 2020, arXiv:2006.10503. The smooth weights, bounded logits and depthwise products are ours.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.attention.normalisation import attention_weights
from lie_sim.lifting.base import PairGeometry
from lie_sim.lifting.exact import Exact
from lie_sim.lifting.irreps import dimension, irreps
from lie_sim.lifting.radial import compress

KERNELS = ("depthwise", "dense")
_LARGEST_LOGIT = 6.0
"""L: one neighbour can weigh at most e¹² times what another one does."""

Steerable = dict[str, Tensor]
"""Features by representation, such as {"0e": (B, N, 1, C), "1o": (B, N, 3, C)}."""


class SteerableProduct(nn.Module):
    """(f_j^a ⊗ Y^s)^c of every path, times W^p.

    Args:
        inputs: representations a of the features.
        harmonics: representation s of each degree.
        outputs: representations c that are wanted.
        width: C.
        kernel: one of ``KERNELS``.

    Attributes:
        targets: c of every path.
        sizes: 2l + 1 of every path; D is their sum.
        num_weights: numbers in all W^p of a pair.
    """

    rows: Tensor

    def __init__(
        self,
        inputs: Sequence[str],
        harmonics: Sequence[str],
        outputs: Collection[str],
        *,
        width: int,
        kernel: str,
    ) -> None:
        super().__init__()
        self.inputs, self.kernel = tuple(inputs), kernel
        self.targets: list[str] = []
        self.couplings = nn.ModuleList(self._coupling(name, harmonics, outputs) for name in inputs)
        self.sizes = [dimension(name) for name in self.targets]
        self.num_weights = len(self.targets) * width * (width if kernel == "dense" else 1)
        rows = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes))
        self.register_buffer("rows", rows, persistent=False)

    def _coupling(self, name: str, harmonics: Sequence[str], outputs: Collection[str]) -> Exact:
        """Coefficients of all paths from one representation, shape (S, D_a, 2 l_a + 1)."""
        o3, blocks, start = irreps(), [], 0
        source, total = o3.Irrep(name), sum(map(dimension, harmonics))
        for harmonic in map(o3.Irrep, harmonics):
            for target in source * harmonic:
                if str(target) in outputs:
                    symbol = o3.wigner_3j(source.l, harmonic.l, target.l, dtype=torch.float64)
                    block = symbol.new_zeros(total, target.dim, source.dim)
                    block[start : start + harmonic.dim] = math.sqrt(target.dim) * symbol.permute(1, 2, 0)
                    blocks.append(block)
                    self.targets.append(str(target))
            start += harmonic.dim
        return Exact(torch.cat(blocks, 1))

    def forward(
        self, f: Steerable, pairs: PairGeometry, weights: Float[Tensor, "B N K weights"]
    ) -> Float[Tensor, "B N K D C"]:
        """Messages of all pairs.

        Args:
            f: features of the particles.
            pairs: geometry, with spherical harmonics as directions.
            weights: W^p of every pair, ``num_weights`` of them.
        """
        assert pairs.directions is not None
        products = []
        for name, coupling in zip(self.inputs, self.couplings, strict=True):
            source = pairs.sources(f[name].flatten(-2)).unflatten(-1, f[name].shape[-2:])
            constants = coupling(source)
            steering = (pairs.directions @ constants.flatten(1)).unflatten(-1, constants.shape[1:])
            products.append(steering @ source)
        return self._weighted(torch.cat(products, dim=-2), weights)

    def _weighted(self, products: Tensor, weights: Tensor) -> Tensor:
        paths, channels = len(self.targets), products.shape[-1]
        if self.kernel == "depthwise":
            each: Tensor = weights.unflatten(-1, (paths, channels))[..., self.rows, :]
            return products * each
        matrices = weights.unflatten(-1, (paths, channels, channels)).unbind(-3)
        mixed = [x @ matrix for x, matrix in zip(products.split(self.sizes, -2), matrices, strict=True)]
        return torch.cat(mixed, dim=-2)

    def components(self, names: Iterable[str]) -> list[int]:
        """Components of all paths to each representation, those of one order together."""
        starts = [0, *itertools.accumulate(self.sizes)]
        return [
            start + order
            for name in names
            for order in range(dimension(name))
            for start, target in zip(starts, self.targets, strict=False)
            if target == name
        ]


class SteerableAttention(nn.Module):
    """One attention over pairs; see the module's equation.

    Args:
        inputs: representations of the features, "0e" among them.
        harmonics: representation of the spherical harmonics of each degree.
        outputs: representations that change, if a path leads there.
        width: C.
        num_heads: H, a divisor of C.
        location_dim: A.
        hidden: width of the networks W^p.
        kernel: one of ``KERNELS``.
    """

    heads: Tensor
    asked: Tensor
    wanted: Tensor

    def __init__(
        self,
        *,
        inputs: Sequence[str],
        harmonics: Sequence[str],
        outputs: Sequence[str],
        width: int,
        num_heads: int,
        location_dim: int,
        hidden: int,
        kernel: str = "depthwise",
    ) -> None:
        super().__init__()
        self.product = SteerableProduct(inputs, harmonics, {*inputs, *outputs}, width=width, kernel=kernel)
        targets = self.product.targets
        self.radial = nn.Linear(location_dim, hidden)
        self.ends = nn.Linear(width, 2 * hidden, bias=False)
        self.weights = nn.Linear(hidden, self.product.num_weights)
        self.query = nn.ModuleDict(
            {name: nn.Linear(width, targets.count(name) * width, bias=False) for name in inputs}
        )
        self.value = nn.ModuleDict(
            {
                name: nn.Linear(targets.count(name) * width, width, bias=False)
                for name in outputs
                if name in targets
            }
        )
        asked = self.product.components(self.query)
        places = torch.full(
            (sum(self.product.sizes),), len(asked)
        )  # by default the row of zeros after the queries
        places[asked] = torch.arange(len(asked))
        heads = torch.arange(num_heads).repeat_interleave(width // num_heads)
        self.scale = math.sqrt(len(asked) * width / num_heads)
        self.register_buffer("asked", places, persistent=False)
        self.register_buffer("wanted", torch.tensor(self.product.components(self.value)), persistent=False)
        self.register_buffer("heads", nn.functional.one_hot(heads, num_heads).float(), persistent=False)

    def forward(self, f: Steerable, pairs: PairGeometry) -> Steerable:
        """Change of the features."""
        messages = self.product(f, pairs, self._weights(f["0e"].squeeze(-2), pairs))
        return self._values(self._attention(f, messages, pairs), messages)

    def _weights(self, scalars: Tensor, pairs: PairGeometry) -> Float[Tensor, "B N K weights"]:
        own, other = self.ends(scalars).chunk(2, dim=-1)
        hidden = self.radial(pairs.location) + own[:, :, None] + pairs.sources(other)
        weights: Tensor = self.weights(silu(hidden))
        return weights

    def _attention(self, f: Steerable, messages: Tensor, pairs: PairGeometry) -> Float[Tensor, "B N K H"]:
        channels = messages.shape[-1]
        queries = [
            linear(f[name]).unflatten(-1, (-1, channels)).flatten(-3, -2)
            for name, linear in self.query.items()
        ]
        nothing = torch.zeros_like(queries[0][..., :1, :])
        query = torch.cat([*queries, nothing], dim=-2)[..., self.asked, :]
        by_head = (query[..., None] * self.heads).flatten(-3, -2)  # (B, N, D·C, H)
        logits = messages.flatten(-2) @ by_head / self.scale
        bounded = _LARGEST_LOGIT * compress(logits / _LARGEST_LOGIT)
        return attention_weights(bounded, pairs.envelope, "softmax", epsilon=1.0)

    def _values(self, attention: Tensor, messages: Tensor) -> Steerable:
        collected = (attention.mT @ messages.flatten(-2)).unflatten(
            -1, messages.shape[-2:]
        )  # (B, N, H, D, C)
        own = (collected * self.heads.T[:, None]).sum(-3)[..., self.wanted, :]
        sizes = [self.product.targets.count(name) * dimension(name) for name in self.value]
        return {
            name: linear(part.unflatten(-2, (dimension(name), -1)).flatten(-2))
            for (name, linear), part in zip(self.value.items(), own.split(sizes, -2), strict=True)
        }
