"""Random graphs for the tests, sparse and as dense matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from lie_sim.pooling import GraphBatch
from lie_sim.pooling.graph_batch import row_offsets


def graph_batch(x: Tensor, adjacency: Tensor, sizes: list[int]) -> GraphBatch:
    """The graphs of a block-diagonal adjacency matrix."""
    near, far = adjacency.nonzero(as_tuple=True)
    return GraphBatch(
        x=x,
        neighbours=far,
        offsets=row_offsets(torch.bincount(near, minlength=len(x))),
        graph=torch.repeat_interleave(torch.tensor(sizes)),
        num_graphs=len(sizes),
    )


def random_graphs(sizes: list[int], *, width: int = 4, seed: int = 0) -> tuple[GraphBatch, Tensor]:
    """Graphs with features, float64, and their adjacency matrix."""
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for size in sizes:
        upper = (torch.rand(size, size, generator=generator) < 0.5).double().triu(1)
        blocks.append(upper + upper.T)
    adjacency = torch.block_diag(*blocks)
    x = torch.randn(sum(sizes), width, generator=generator, dtype=torch.float64)
    return graph_batch(x, adjacency, sizes), adjacency
