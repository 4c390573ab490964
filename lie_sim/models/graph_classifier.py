r"""Classes of graphs by convolutions and pooling, in the two architectures of the SAGPool paper.

    global          h₁ = conv(x), h₂ = conv(h₁), h₃ = conv(h₂);   y = MLP(readout(pool(h₁ ‖ h₂ ‖ h₃)))
    hierarchical    three times h ← pool(conv(h));                y = MLP(Σ readout(h))

Each convolution is followed by ReLU.

Shape letters: G graphs.
Reference: Lee, Lee, Kang, "Self-attention graph pooling", ICML 2019, arXiv:1904.08082, figure 2 and table 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.pooling import GRAPH_POOLS, GraphBatch, GraphConvolution, GraphPool, read_out_graphs
from lie_sim.pooling.soft_top_k import check_temperature
from lie_sim.pooling.top_k import check_ratio

GRAPH_ARCHITECTURES = ("global", "hierarchical")


@dataclass(frozen=True)
class GraphClassifierConfig:
    """Everything that fixes a :class:`GraphClassifier`; the defaults are those of the paper.

    Args:
        num_features: numbers known of each node.
        num_classes: classes.
        architecture: "global" or "hierarchical".
        pool: "sag", "soft_sag", "random" or "mean"; the last keeps all nodes, the readout being the same.
        ratio: share of the nodes that a pooling keeps.
        temperature: of "soft_sag".
        width: channels of a convolution.
        num_layers: convolutions.
        dropout: of the classifier.

    Raises:
        ValueError: an impossible value.
    """

    num_features: int
    num_classes: int
    architecture: str = "hierarchical"
    pool: str = "sag"
    ratio: float = 0.5
    temperature: float = 0.1
    width: int = 128
    num_layers: int = 3
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name, allowed in (("architecture", GRAPH_ARCHITECTURES), ("pool", GRAPH_POOLS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(allowed)}"
                )
        for name, least in (("num_features", 1), ("num_classes", 2), ("width", 2), ("num_layers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        check_ratio(self.ratio)
        check_temperature(self.temperature)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")


class GraphClassifier(nn.Module):
    """Scores of the classes of each graph.

    Args:
        config: the architecture.

    Example:
        >>> model = GraphClassifier(GraphClassifierConfig(num_features=1, num_classes=2))
        >>> edge = GraphBatch(torch.ones(2, 1), torch.tensor([1, 0]), torch.tensor([0, 1, 2]), torch.tensor([0, 0]), 1)
        >>> model(edge).shape
        torch.Size([1, 2])
    """

    equivariant_under = "permutations"

    def __init__(self, config: GraphClassifierConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        inputs = (config.num_features, *(width,) * (config.num_layers - 1))
        self.convolutions = nn.ModuleList(GraphConvolution(size, width) for size in inputs)
        joined = width * config.num_layers if config.architecture == "global" else width
        count = 1 if config.architecture == "global" else config.num_layers
        self.pools = nn.ModuleList(
            GraphPool(joined, mode=config.pool, ratio=config.ratio, temperature=config.temperature)
            for _ in range(count)
        )
        self.classify = nn.Sequential(
            nn.Linear(2 * joined, width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Linear(width // 2, config.num_classes),
        )

    def forward(self, graphs: GraphBatch) -> Float[Tensor, "G classes"]:
        """Scores, shape (G, num_classes).

        Raises:
            ValueError: nodes have another number of features than the model was made for.
        """
        if graphs.x.shape[-1] != self.config.num_features:
            raise ValueError(
                f"this model was made for num_features={self.config.num_features}, the nodes have {graphs.x.shape[-1]}"
            )
        found = self._global(graphs) if self.config.architecture == "global" else self._hierarchical(graphs)
        scores: Tensor = self.classify(found)
        return scores

    def _global(self, graphs: GraphBatch) -> Tensor:
        layers = []
        for convolution in self.convolutions:
            graphs = graphs.with_features(torch.relu(convolution(graphs)))
            layers.append(graphs.x)
        return read_out_graphs(self.pools[0](graphs.with_features(torch.cat(layers, dim=-1))))

    def _hierarchical(self, graphs: GraphBatch) -> Tensor:
        readouts = []
        for convolution, pool in zip(self.convolutions, self.pools, strict=True):
            graphs = pool(graphs.with_features(torch.relu(convolution(graphs))))
            readouts.append(read_out_graphs(graphs))
        return torch.stack(readouts).sum(0)
