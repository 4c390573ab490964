"""Learning the classes of graphs, from the set to the accuracy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lie_sim.data.graphs import GraphSet
from lie_sim.models import GraphClassifier, GraphClassifierConfig
from lie_sim.training import GraphTask, evaluate_graphs, sag_pool_training, train
from tests.pooling.graphs import graph_batch


@pytest.fixture(scope="module")
def rings() -> GraphSet:
    """Rings of 3 to 8 nodes, one of which is marked in class 1."""
    blocks, labels, x = [], [], []
    for number in range(120):
        size = 3 + number % 6
        ring = torch.eye(size).roll(1, 0)
        blocks.append(ring + ring.T)
        marked = torch.zeros(size)
        marked[0] = number % 2
        x.append(torch.stack([1 - marked, marked], 1))
        labels.append(number % 2)
    sizes = [len(block) for block in blocks]
    return GraphSet(
        graphs=graph_batch(torch.cat(x), torch.block_diag(*blocks), sizes),
        labels=torch.tensor(labels),
        num_classes=2,
    )


@pytest.mark.parametrize(("architecture", "pool"), [("global", "sag"), ("hierarchical", "soft_sag")])
def test_it_learns_and_stops_early(rings: GraphSet, architecture: str, pool: str) -> None:
    order = torch.randperm(len(rings))
    task = GraphTask(rings, train=order[:60], validation=order[60:80])
    options = GraphClassifierConfig(
        num_features=2, num_classes=2, architecture=architecture, pool=pool, width=16
    )
    config = replace(sag_pool_training(60, batch_size=20, max_epochs=30), learning_rate=1e-2, patience=8)
    found = train(GraphClassifier(options), task, config, progress=False)
    assert evaluate_graphs(found.module, rings, order[80:])["accuracy"] == 1.0


def test_the_same_seed_gives_the_same_weights(rings: GraphSet) -> None:
    def trained() -> torch.Tensor:
        torch.manual_seed(1)
        module = GraphClassifier(GraphClassifierConfig(num_features=2, num_classes=2, width=8, pool="random"))
        task = GraphTask(rings, train=torch.arange(40), validation=torch.arange(40, 60))
        train(module, task, sag_pool_training(40, batch_size=20, max_epochs=3), progress=False)
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    assert torch.equal(trained(), trained())


def test_the_digest_tells_parts_apart_and_takes_every_stride(rings: GraphSet) -> None:
    order = torch.arange(40)
    even, odd = GraphTask(rings, train=order[::2], validation=order[:1]), order[1::2]
    assert even.digest() == GraphTask(rings, train=order[::2].clone(), validation=order[:1]).digest()
    assert even.digest() != GraphTask(rings, train=odd, validation=order[:1]).digest()


def test_evaluation_leaves_the_mode_and_counts_right(rings: GraphSet) -> None:
    class Odd(torch.nn.Module):
        def forward(self, graphs: object) -> torch.Tensor:
            return torch.tensor([[0.0, 1.0]]).expand(graphs.num_graphs, 2)  # type: ignore[attr-defined]

    found = evaluate_graphs(Odd().train(), rings, torch.tensor([0, 1, 3, 5]))
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(0.25 * 1.3132617 + 0.75 * 0.3132617)


def test_empty_parts_are_refused(rings: GraphSet) -> None:
    with pytest.raises(ValueError, match="part of the graphs is empty"):
        GraphTask(rings, train=torch.arange(3), validation=torch.arange(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "top"}, "unknown pool"),
        ({"architecture": "flat"}, "unknown architecture"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"ratio": 7.0}, "ratio must be above 0 and at most 1, got 7.0"),
        ({"temperature": -1.0}, "temperature must be positive and finite, got -1.0"),
    ],
)
def test_impossible_architectures_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphClassifierConfig(**({"num_features": 1, "num_classes": 2} | options))  # type: ignore[arg-type]


def test_other_features_than_the_model_knows_are_refused(rings: GraphSet) -> None:
    model = GraphClassifier(
        GraphClassifierConfig(num_features=rings.num_features + 1, num_classes=2, width=8)
    )
    with pytest.raises(ValueError, match="was made for num_features=3, the nodes have 2"):
        model(rings.select(torch.arange(2)))
