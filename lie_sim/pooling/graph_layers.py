r"""Layers for batches of graphs: convolution, self-attention pooling, readout.

    convolution    Y = D̃^{-1/2} (A + I) D̃^{-1/2} X W + b,       D̃_i = 1 + Σ_j A_ij
    scores         z = one convolution to a single channel
    sag            X' = X[kept] tanh(z[kept]),  A' = A[kept, kept],  kept = the ⌈kN⌉ highest z
    soft_sag       X' = X tanh(z),  A'_ij = g_i A_ij g_j,  g = soft_top_k(z, k Σ g of before)
    readout        Σ_i g_i x_i / Σ_i g_i  ‖  max_i g_i x_i

Shape letters: P nodes of all graphs, G graphs, C channels.
References: Lee, Lee, Kang, "Self-attention graph pooling", ICML 2019, arXiv:1904.08082; Kipf, Welling, ICLR 2017.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.pooling.graph_batch import GraphBatch
from lie_sim.pooling.soft_top_k import check_temperature, soft_top_k
from lie_sim.pooling.top_k import check_ratio, hard_top_k, kept_count

GRAPH_POOLS = ("sag", "soft_sag", "random", "mean")
"""Which nodes remain: the highest scores, all with soft weights, random ones, all."""
_RANDOM_SEED = 0


class GraphConvolution(nn.Module):
    """A graph convolution; see the module's equation.

    Args:
        inputs: channels of X.
        outputs: channels of Y.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, graphs: GraphBatch) -> Float[Tensor, "P C"]:
        """New features of the nodes."""
        x: Tensor = self.linear(graphs.x)
        if graphs.weights is None:
            degrees = graphs.degrees.to(x.dtype)[:, None]
        else:
            degrees = graphs.adjacent_sum(torch.ones_like(x[:, :1]))
        scale = torch.rsqrt(1 + degrees)
        x = x * scale
        return (graphs.adjacent_sum(x) + x) * scale + self.bias


class GraphPool(nn.Module):
    """Pool every graph to a share of its nodes.

    Args:
        width: channels.
        mode: one of ``GRAPH_POOLS``. "random" draws anew at every call in training, and always the same nodes of
            a batch in evaluation.
        ratio: share of the nodes that is kept.
        temperature: of "soft_sag".

    Raises:
        ValueError: unknown mode, impossible ratio.
    """

    def __init__(
        self, width: int, *, mode: str = "sag", ratio: float = 0.5, temperature: float = 0.1
    ) -> None:
        super().__init__()
        if mode not in GRAPH_POOLS:
            raise ValueError(f"unknown pool {mode!r}; choose one of {', '.join(GRAPH_POOLS)}")
        check_ratio(ratio)
        check_temperature(temperature)
        self.mode, self.ratio, self.temperature = mode, ratio, temperature
        self.score = GraphConvolution(width, 1) if mode in ("sag", "soft_sag") else None

    def forward(self, graphs: GraphBatch) -> GraphBatch:
        """The smaller (or softly weighted) graphs."""
        if self.mode == "mean":
            return graphs
        if self.score is None:
            return graphs.keep(self._highest(graphs, self._random(graphs)))
        scores = self.score(graphs).squeeze(-1)
        if self.mode == "soft_sag":
            return graphs.with_features(graphs.x * torch.tanh(scores)[:, None], self._softly(graphs, scores))
        kept = self._highest(graphs, scores)
        smaller = graphs.keep(kept)
        return smaller.with_features(smaller.x * torch.tanh(scores[kept])[:, None])

    def _softly(self, graphs: GraphBatch, scores: Tensor) -> Tensor:
        """Weights of the nodes, a share of those they had."""
        there = torch.ones_like(scores) if graphs.weights is None else graphs.weights
        rows, exists = graphs.padded(scores)
        amounts, _ = graphs.padded(there)
        k = self.ratio * amounts.sum(1)
        soft = soft_top_k(rows, k, temperature=self.temperature, mask=exists, amounts=amounts)
        return soft[exists] * there

    def _highest(self, graphs: GraphBatch, scores: Tensor) -> Tensor:
        rows, exists = graphs.padded(scores.detach())
        return hard_top_k(rows, kept_count(self.ratio, graphs.sizes), mask=exists)[exists]

    def _random(self, graphs: GraphBatch) -> Tensor:
        generator = None if self.training else torch.Generator().manual_seed(_RANDOM_SEED)
        return torch.rand(len(graphs.x), generator=generator).to(graphs.x)


def read_out_graphs(graphs: GraphBatch) -> Float[Tensor, "G C2"]:
    """Mean and maximum over the nodes, side by side, shape (G, 2C)."""
    return torch.cat([graphs.mean(graphs.x), graphs.max(graphs.x)], dim=-1)
