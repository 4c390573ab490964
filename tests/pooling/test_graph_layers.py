"""Layers on batches of graphs against dense matrices, and their invariance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from lie_sim.pooling import GRAPH_POOLS, GraphConvolution, GraphPool, hard_top_k, read_out_graphs
from tests.pooling.graphs import graph_batch, random_graphs

EXACT = 1e-12
"""Sums of a handful of float64 numbers in another order."""


def dense_convolution(layer: GraphConvolution, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
    loops = adjacency + torch.eye(len(x), dtype=x.dtype)
    scale = loops.sum(1).rsqrt()
    return scale[:, None] * loops * scale @ x @ layer.linear.weight.T + layer.bias


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_convolution_is_its_matrix(sizes: list[int], seed: int) -> None:
    graphs, adjacency = random_graphs(sizes, seed=seed)
    layer = GraphConvolution(4, 3).double()
    torch.testing.assert_close(
        layer(graphs), dense_convolution(layer, graphs.x, adjacency), rtol=EXACT, atol=EXACT
    )


def test_weights_of_nodes_are_weights_of_edges() -> None:
    graphs, adjacency = random_graphs([4, 5])
    layer, weights = GraphConvolution(4, 3).double(), torch.rand(9, dtype=torch.float64)
    weighted = weights[:, None] * adjacency * weights
    torch.testing.assert_close(
        layer(graphs.with_features(graphs.x, weights)),
        dense_convolution(layer, graphs.x, weighted),
        rtol=EXACT,
        atol=EXACT,
    )


def test_keeping_is_taking_rows_and_columns() -> None:
    graphs, adjacency = random_graphs([5, 3, 4])
    kept = torch.rand(12) < 0.5
    kept[5:8] = False  # nothing is left of the second graph
    smaller = graphs.keep(kept)
    layer = GraphConvolution(4, 3).double()
    expected = dense_convolution(layer, graphs.x[kept], adjacency[kept][:, kept])
    torch.testing.assert_close(layer(smaller), expected, rtol=EXACT, atol=EXACT)
    assert smaller.sizes.tolist()[1] == 0
    assert not read_out_graphs(smaller)[1].any()


@pytest.mark.parametrize("mode", ["sag", "soft_sag", "mean"])
def test_pooled_graphs_do_not_see_the_order_of_nodes(mode: str) -> None:
    graphs, adjacency = random_graphs([7])
    pool = GraphPool(4, mode=mode).double()
    order = torch.randperm(7)
    turned = graph_batch(graphs.x[order], adjacency[order][:, order], [7])
    torch.testing.assert_close(
        read_out_graphs(pool(turned)), read_out_graphs(pool(graphs)), rtol=EXACT, atol=EXACT
    )


@pytest.mark.parametrize("mode", ["sag", "soft_sag", "mean"])
def test_a_batch_is_its_graphs_one_by_one(mode: str) -> None:
    sizes = [4, 1, 6]
    graphs, adjacency = random_graphs(sizes)
    pool = GraphPool(4, mode=mode).double()
    together, begin = read_out_graphs(pool(graphs)), 0
    for number, size in enumerate(sizes):
        part = slice(begin, begin + size)
        alone = read_out_graphs(pool(graph_batch(graphs.x[part], adjacency[part, part], [size])))
        torch.testing.assert_close(together[number : number + 1], alone, rtol=EXACT, atol=EXACT)
        begin += size


def test_the_gradient_of_a_maximum_goes_to_those_that_have_it_once() -> None:
    graphs, _ = random_graphs([40, 30])
    x = torch.randint(0, 3, (70, 128)).double().requires_grad_()
    slopes = torch.randn(2, 256, dtype=torch.float64)[:, 128:]
    found = graphs.max(x)
    (gradient,) = torch.autograd.grad(found, x, slopes)
    for graph, part in enumerate((slice(0, 40), slice(40, 70))):
        assert torch.equal(found[graph], x[part].amax(0))
        torch.testing.assert_close(gradient[part].sum(0), slopes[graph], rtol=EXACT, atol=EXACT)
        assert not gradient[part][x[part] != found[graph]].any()


def test_equal_nodes_are_kept_together() -> None:
    ring = torch.eye(6, dtype=torch.float64).roll(1, 0)
    graphs = graph_batch(torch.ones(6, 4, dtype=torch.float64), ring + ring.T, [6])
    assert len(GraphPool(4).double()(graphs).x) == 6


def test_the_hard_pool_takes_the_highest_scores_times_their_tanh() -> None:
    graphs, adjacency = random_graphs([8])
    pool = GraphPool(4, ratio=0.3).double()
    assert pool.score is not None
    scores = dense_convolution(pool.score, graphs.x, adjacency)[:, 0]
    kept = hard_top_k(scores[None], 3)[0]
    expected = graphs.x[kept] * torch.tanh(scores[kept])[:, None]
    torch.testing.assert_close(pool(graphs).x, expected, rtol=EXACT, atol=EXACT)


def test_soft_pools_in_a_row_keep_a_share_of_what_is_left_and_become_hard() -> None:
    graphs, _ = random_graphs([9, 6])
    first, second = (GraphPool(4, mode="soft_sag", temperature=0.2).double() for _ in range(2))
    twice = second(first(graphs))
    assert twice.weights is not None
    left = torch.zeros(2, dtype=torch.float64).index_add(0, twice.graph, twice.weights)
    torch.testing.assert_close(left, torch.tensor([9.0, 6.0]).double() / 4, rtol=EXACT, atol=EXACT)
    graphs, _ = random_graphs([8])
    soft, hard = GraphPool(4, mode="soft_sag", temperature=1e-5).double(), GraphPool(4).double()
    soft.load_state_dict(hard.state_dict())
    torch.testing.assert_close(
        read_out_graphs(soft(graphs)).relu(), read_out_graphs(hard(graphs)).relu(), rtol=1e-6, atol=1e-6
    )


def test_derivatives_of_the_soft_pool() -> None:
    graphs, _ = random_graphs([3, 2], width=2)
    pool = GraphPool(2, mode="soft_sag", temperature=0.5).double()

    def pooled(x: torch.Tensor) -> torch.Tensor:
        found = pool(graphs.with_features(x))
        return found.mean(found.x)

    x = graphs.x.clone().requires_grad_()
    assert gradcheck(pooled, x)
    assert gradgradcheck(pooled, x)


def test_random_nodes_differ_in_training_and_are_fixed_in_evaluation() -> None:
    graphs, _ = random_graphs([30])
    pool = GraphPool(4, mode="random")
    assert len(pool(graphs).x) == 15
    assert not torch.equal(pool(graphs).x, pool(graphs).x)
    pool.eval()
    assert torch.equal(pool(graphs).x, pool(graphs).x)


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of " + ", ".join(GRAPH_POOLS)):
        GraphPool(4, mode="best")
