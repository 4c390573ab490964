"""Graphs of different sizes side by side: one large graph whose parts are not connected.

Neighbours are kept row by row, so that a product with the adjacency matrix is one pass over the edges:

    (A x)_i = Σ_{j ∈ neighbours(i)} x_j

Graphs are undirected: A is symmetric, and the gradient of A x is A x̄.

Shape letters: P nodes of all graphs, E directed edges (each undirected one twice), G graphs, F features of a node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional


@dataclass(frozen=True)
class GraphBatch:
    """Undirected graphs without loops.

    Args:
        x: features of the nodes, shape (P, F).
        neighbours: node at the far end of every directed edge, shape (E,), sorted by the near end.
        offsets: where the neighbours of each node begin, and E at the end, shape (P + 1,).
        graph: number of the graph of each node, ascending, shape (P,).
        num_graphs: G.
        weights: part of each node that is there, in [0, 1], shape (P,); None means all of it. An edge counts by the
            product of both ends.
    """

    x: Float[Tensor, "P F"]
    neighbours: Int[Tensor, " E"]
    offsets: Int[Tensor, " P1"]
    graph: Int[Tensor, " P"]
    num_graphs: int
    weights: Float[Tensor, " P"] | None = None

    @property
    def sizes(self) -> Int[Tensor, " G"]:
        """Nodes of each graph."""
        return torch.bincount(self.graph, minlength=self.num_graphs)

    @property
    def degrees(self) -> Int[Tensor, " P"]:
        """Neighbours of each node."""
        return self.offsets.diff()

    def with_features(self, x: Float[Tensor, "P F2"], weights: Tensor | None = None) -> GraphBatch:
        """The same graphs with other features, and other weights if they are given."""
        return replace(self, x=x, weights=self.weights if weights is None else weights)

    def keep(self, kept: Bool[Tensor, " P"]) -> GraphBatch:
        """The nodes that are kept, and the edges between them."""
        near = torch.repeat_interleave(self.degrees)
        both = kept[near] & kept[self.neighbours]
        number = kept.cumsum(0) - 1
        degrees = torch.bincount(near[both], minlength=len(kept))[kept]
        return GraphBatch(
            x=self.x[kept],
            neighbours=number[self.neighbours[both]],
            offsets=row_offsets(degrees),
            graph=self.graph[kept],
            num_graphs=self.num_graphs,
            weights=None if self.weights is None else self.weights[kept],
        )

    def adjacent_sum(self, x: Float[Tensor, "P C"]) -> Float[Tensor, "P C"]:
        """A x, weights included."""
        if self.weights is None:
            found: Tensor = _AdjacentSum.apply(x, self.neighbours, self.offsets)
            return found
        weights = self.weights[:, None]
        found = _AdjacentSum.apply(weights * x, self.neighbours, self.offsets)
        return weights * found

    def padded(self, values: Float[Tensor, " P"]) -> tuple[Float[Tensor, "G N"], Bool[Tensor, "G N"]]:
        """Numbers of the nodes as one row for each graph, and which of them exist."""
        sizes = self.sizes
        exists = torch.arange(max(1, int(sizes.max())), device=values.device) < sizes[:, None]
        return torch.zeros_like(exists, dtype=values.dtype).masked_scatter(exists, values), exists

    def mean(self, x: Float[Tensor, "P C"]) -> Float[Tensor, "G C"]:
        """Mean over the nodes of each graph, weighted; 0 for a graph without nodes."""
        ones = x.new_ones(len(x)) if self.weights is None else self.weights
        total = x.new_zeros(self.num_graphs, x.shape[1]).index_add(0, self.graph, x * ones[:, None])
        count = x.new_zeros(self.num_graphs).index_add(0, self.graph, ones)
        return total / count.clamp(min=torch.finfo(x.dtype).tiny)[:, None]

    def max(self, x: Float[Tensor, "P C"]) -> Float[Tensor, "G C"]:
        """Largest value of each channel among the nodes of each graph; 0 for a graph without nodes."""
        if self.weights is not None:
            x = x * self.weights[:, None]
        # Not segment_reduce: where several nodes have the maximum its gradient is wrong (PyTorch 2.13).
        every = torch.arange(len(x), device=x.device)
        return functional.embedding_bag(every, x, row_offsets(self.sizes)[:-1], mode="max")


def row_offsets(counts: Int[Tensor, " P"]) -> Int[Tensor, " P1"]:
    """Where each of consecutive rows begins, and their whole length at the end.

    Example:
        >>> row_offsets(torch.tensor([2, 0, 1]))
        tensor([0, 2, 2, 3])
    """
    return functional.pad(counts.cumsum(0), (1, 0))


class _AdjacentSum(Function):
    """A x of a symmetric A; the gradient is the same product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, neighbours: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(neighbours, offsets)
        if not len(neighbours):
            return torch.zeros_like(x)
        return functional.embedding_bag(neighbours, x.contiguous(), offsets[:-1], mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found: Tensor = _AdjacentSum.apply(gradient, *ctx.saved_tensors)
        return found, None, None
