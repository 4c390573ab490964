"""Agreement with SAGPooling of PyTorch Geometric, where that is installed, once its sign is fixed.

It multiplies the score by a random number before it takes the highest: where that is negative, the lowest are kept.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lie_sim.pooling import GraphPool
from tests.pooling.graphs import random_graphs

geometric = pytest.importorskip("torch_geometric.nn", reason="torch_geometric is not installed")

AGREES = 1e-6
WIDTH, SIZES = 5, [9, 6, 12]


def theirs(sign: float, pool: GraphPool, ratio: float) -> torch.nn.Module:
    """Their pool with our weights."""
    assert pool.score is not None
    made = geometric.SAGPooling(WIDTH, ratio=ratio, GNN=geometric.GCNConv).double()
    made.load_state_dict(
        {
            "gnn.lin.weight": pool.score.linear.weight,
            "gnn.bias": pool.score.bias,
            "select.weight": torch.full((1, 1), sign, dtype=torch.float64),
        }
    )
    return made


def edges(adjacency: Tensor) -> Tensor:
    return adjacency.nonzero().T


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_the_same_nodes_features_and_edges(ratio: float) -> None:
    graphs, adjacency = random_graphs(SIZES, width=WIDTH)
    ours = GraphPool(WIDTH, ratio=ratio).double()
    found = ours(graphs)
    x, links, _, batch, kept, _ = theirs(1.0, ours, ratio)(graphs.x, edges(adjacency), batch=graphs.graph)
    order = kept.argsort()  # they sort by score
    torch.testing.assert_close(found.x, x[order], rtol=AGREES, atol=AGREES)
    assert torch.equal(found.graph, batch[order])
    dense = torch.zeros(len(x), len(x))
    dense[links[0], links[1]] = 1
    dense = dense[order][:, order]
    assert torch.equal(dense.nonzero(as_tuple=True)[1], found.neighbours)
    assert torch.equal(dense.sum(1).long(), found.degrees)


def test_with_the_other_sign_they_keep_the_lowest() -> None:
    graphs, adjacency = random_graphs([10], width=WIDTH)
    ours = GraphPool(WIDTH).double()
    assert ours.score is not None
    kept = theirs(-1.0, ours, 0.5)(graphs.x, edges(adjacency))[4]
    lowest = ours.score(graphs).squeeze(-1).argsort()[:5]
    assert torch.equal(kept.sort().values, lowest.sort().values)
