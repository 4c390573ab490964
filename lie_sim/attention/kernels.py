"""The content and location kernels of the paper, and the ways to combine them.

    k_c(f_i, f_j)   content    dot product   (W_Q f_i)·(W_K f_j)/√c
                               concat        [W_K f_i, W_Q f_j]
                               concat_linear W_o [W_K f_i, W_Q f_j]
                               none          0
    k_l(a_ij)       location   mlp           one three-layer perceptron per head, activation after every layer
                               plain         a_ij itself
                               none          0
    combination                sum           k_c + k_l
                               product       k_c · k_l
                               mlp           one three-layer perceptron per head of [k_c, k_l]

A content or location kernel returns features of shape (B, M, K, H, F); the sum and the product need F = 1.

Shape letters: B batch, M points, K neighbours, H heads, C channels, c = C/H channels per head,
A location dimension.

Reference: Hutchinson et al., arXiv:2012.10885, section 3.2 and appendix.
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.lifting.base import PairGeometry

CONTENT_KERNELS = ("dot_product", "concat", "concat_linear", "none")
LOCATION_KERNELS = ("mlp", "plain", "network", "none")
COMBINATIONS = ("sum", "product", "mlp")


class PerHeadMLP(nn.Module):
    """The paper's kernel network: three linear layers per head to one number, SiLU after each, the last included.

    Works feature-major, (H, F, rows), so that every layer is one batched product of contiguous matrices.

    Args:
        num_heads: H.
        in_features: F of the input.
        hidden: width of both hidden layers.
    """

    def __init__(self, num_heads: int, in_features: int, hidden: int) -> None:
        super().__init__()
        sizes = [in_features, hidden, hidden, 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(inputs)
            self.weights.append(torch.empty(num_heads, outputs, inputs).uniform_(-bound, bound))
            self.biases.append(torch.empty(num_heads, outputs, 1).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "B M K H1 F"]) -> Float[Tensor, "B M K H"]:
        """One number per head; H1 = 1 gives the same input to every head."""
        shape, features = x.shape[:3], x.shape[-1]
        first, bias = self.weights[0], self.biases[0]
        heads, hidden = first.shape[:2]
        if x.shape[3] == 1:  # one matrix product serves all heads
            rows = x.reshape(-1, features).t()
            y = torch.addmm(bias.flatten()[:, None], first.flatten(0, 1), rows).reshape(heads, hidden, -1)
        else:
            y = torch.baddbmm(bias, first, x.permute(3, 4, 0, 1, 2).reshape(heads, features, -1))
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            y = torch.baddbmm(bias, weight, silu(y))
        return silu(y).reshape(heads, *shape).permute(1, 2, 3, 0)


class DotProductContent(nn.Module):
    """(W_Q f_i)·(W_K f_j)/√c, F = 1."""

    num_features = 1

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)

    def forward(self, f: Float[Tensor, "B M C"], pairs: PairGeometry) -> Float[Tensor, "B M K H 1"]:
        """Scaled dot products of queries and keys."""
        batch, points, width = f.shape
        per_head = width // self.num_heads
        query: Tensor = self.query(f).reshape(batch, points, self.num_heads, per_head) * per_head**-0.5
        key: Tensor = self.key(f)
        if pairs.index is None:
            keys = key.reshape(batch, points, self.num_heads, per_head)
            return (query.transpose(1, 2) @ keys.permute(0, 2, 3, 1)).permute(0, 2, 3, 1)[..., None]
        keys = pairs.sources(key)
        keys = keys.reshape(*keys.shape[:3], self.num_heads, per_head)
        return (query[:, :, None] * keys).sum(-1, keepdim=True)


class ConcatContent(nn.Module):
    """[W_K f_i, W_Q f_j] per head, optionally mixed by one linear map shared by the heads (W_o)."""

    def __init__(self, width: int, num_heads: int, features: int, *, mixed: bool) -> None:
        super().__init__()
        self.num_heads, self.num_features = num_heads, features
        half = features if mixed else features // 2
        if not mixed and features % 2:
            raise ValueError(
                f"the concat kernel splits its features in two halves: give an even number, not {features}"
            )
        self.query = nn.Linear(width, half * num_heads)
        self.key = nn.Linear(width, half * num_heads)
        self.mix = nn.Linear(2 * half, features) if mixed else None

    def forward(self, f: Float[Tensor, "B M C"], pairs: PairGeometry) -> Float[Tensor, "B M K H F"]:
        """Concatenated projections of both ends of each pair."""
        batch, points, _ = f.shape
        own = self.key(f).reshape(batch, points, 1, self.num_heads, -1)
        source = pairs.sources(self.query(f))
        source = source.reshape(*source.shape[:3], self.num_heads, own.shape[-1])
        shape = (batch, points, source.shape[2], self.num_heads, own.shape[-1])
        both = torch.cat([own.expand(shape), source.expand(shape)], dim=-1)
        return both if self.mix is None else self.mix(both)


class CombinedLogits(nn.Module):
    """Content and location kernel combined into one logit per pair and head.

    Args:
        width: C. num_heads: H. location_dim: A.
        content: one of ``CONTENT_KERNELS``.
        location: one of ``LOCATION_KERNELS`` except ``"network"``.
        combination: one of ``COMBINATIONS``.
        hidden: width of the per-head networks (the paper's kernel_dim).
        content_features: F of the concat kernels; None means C/(4H) as in the reference.
    """

    def __init__(
        self,
        *,
        width: int,
        num_heads: int,
        location_dim: int,
        content: str,
        location: str,
        combination: str,
        hidden: int,
        content_features: int | None = None,
    ) -> None:
        super().__init__()
        self.combination = combination
        features = content_features or max(2, width // (4 * num_heads))
        self.content: nn.Module | None = None
        if content == "dot_product":
            self.content = DotProductContent(width, num_heads)
        elif content != "none":
            self.content = ConcatContent(width, num_heads, features, mixed=content == "concat_linear")
        self.location = PerHeadMLP(num_heads, location_dim, hidden) if location == "mlp" else None
        self.use_location = location != "none"
        content_size = 0 if self.content is None else int(self.content.num_features)
        location_size = {"mlp": 1, "plain": location_dim, "none": 0}[location]
        self._check(content_size, location_size)
        self.combine = (
            PerHeadMLP(num_heads, content_size + location_size, hidden) if combination == "mlp" else None
        )

    def _check(self, content_size: int, location_size: int) -> None:
        if content_size + location_size == 0:
            raise ValueError(
                "content and location kernel cannot both be 'none': nothing would set the logits"
            )
        if self.combination != "mlp" and max(content_size, location_size) > 1:
            raise ValueError(
                f"combination {self.combination!r} needs scalar kernels, but content has {content_size} and "
                f"location {location_size} features per head: use combination='mlp', or dot_product with mlp"
            )

    def forward(self, f: Float[Tensor, "B M C"], pairs: PairGeometry) -> Float[Tensor, "B M K H"]:
        """Logits ℓ_ij of every head."""
        content = None if self.content is None else self.content(f, pairs)
        location = None
        if self.use_location:
            raw = pairs.location[..., None, :]
            location = raw if self.location is None else self.location(raw)[..., None]
        present = [x for x in (content, location) if x is not None]
        if self.combine is not None:
            heads = max(x.shape[-2] for x in present)
            wide = [x.expand(*x.shape[:-2], heads, x.shape[-1]) for x in present]
            combined: Tensor = self.combine(torch.cat(wide, dim=-1))
            return combined
        if len(present) == 1:
            return present[0].squeeze(-1)
        both = present[0] + present[1] if self.combination == "sum" else present[0] * present[1]
        return both.squeeze(-1)


class PairNetwork(nn.Module):
    """One network of (a_ij, f_i, f_j) for logit biases and value gates together.

        h_ij = SiLU(U compress(a_ij) + U_q f_i + U_k f_j)
        (bias_ij, gate_ij) = W h_ij + (0, G a_ij)

    The hidden layer sees the location compressed to [−1, 1], so that outside the training data only the
    linear term G a_ij grows: with one block the energy cannot run away faster than the radial basis itself, nor
    with several whose inputs are bounded (``norm="bounded"``); otherwise later blocks multiply what has grown.

    Args:
        width: C. num_heads: H. location_dim: A. hidden: width of the hidden layer.
    """

    def __init__(self, *, width: int, num_heads: int, location_dim: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.location = nn.Linear(location_dim, hidden)
        self.query = nn.Linear(width, hidden, bias=False)
        self.source = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, num_heads + width)
        self.linear_gate = nn.Linear(location_dim, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, f: Float[Tensor, "B M C"], pairs: PairGeometry, compressed: Float[Tensor, "B M K A"]
    ) -> tuple[Float[Tensor, "B M K H"], Float[Tensor, "B M K C"]]:
        """Logit biases and value gates of every pair."""
        hidden = self.location(compressed) + self.query(f)[:, :, None] + pairs.sources(self.source(f))
        bias, gate = self.out(silu(hidden)).split([self.num_heads, self.linear_gate.out_features], dim=-1)
        return bias, gate + self.linear_gate(pairs.location)
