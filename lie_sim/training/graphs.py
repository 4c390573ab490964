"""Learning the classes of graphs.

L = −⟨ log softmax(scores)_label ⟩
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lie_sim.data.graphs import GraphSet
from lie_sim.data.storage import tensors_digest
from lie_sim.training.config import TrainingConfig
from lie_sim.training.tasks import Batch

_EVALUATION_BATCH = 256


class GraphTask:
    """Cross-entropy of a :class:`~lie_sim.models.GraphClassifier`.

    Args:
        data: the graphs.
        train: indices of those to learn from.
        validation: indices of those that decide when to stop.
    """

    metric: str = "validation_loss"

    def __init__(self, data: GraphSet, *, train: Int[Tensor, " t"], validation: Int[Tensor, " v"]) -> None:
        if not len(train) or not len(validation):
            raise ValueError("a part of the graphs is empty: give at least one to train and one to validate")
        self.data, self.train, self.validation = data, train, validation

    @property
    def num_samples(self) -> int:
        """Graphs to learn from."""
        return len(self.train)

    def to(self, *, dtype: torch.dtype, device: torch.device) -> GraphTask:
        """The same task in another dtype; on the CPU, where its batches are made."""
        if device.type != "cpu":
            raise ValueError(f"graphs are trained on the CPU, not on {device}")
        moved = copy.copy(self)
        graphs = self.data.graphs
        moved.data = replace(self.data, graphs=replace(graphs, x=graphs.x.to(dtype)))
        return moved

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """Indices of the chosen graphs."""
        return {"graphs": self.train[indices]}

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy."""
        chosen = batch["graphs"]
        return functional.cross_entropy(module(self.data.select(chosen)), self.data.labels[chosen])

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Cross-entropy and accuracy of the validation part."""
        return {
            f"validation_{name}": value
            for name, value in evaluate_graphs(module, self.data, self.validation).items()
        }

    def digest(self) -> str:
        """SHA-256 of graphs and parts."""
        graphs = self.data.graphs
        parts = {"train": self.train, "validation": self.validation, "labels": self.data.labels}
        parts |= {"x": graphs.x, "neighbours": graphs.neighbours, "graph": graphs.graph}
        return tensors_digest(
            {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in parts.items()}
        )

    def options(self) -> dict[str, Any]:
        """What changes the loss."""
        return {"task": type(self).__name__}


@torch.no_grad()
def evaluate_graphs(module: nn.Module, data: GraphSet, indices: Int[Tensor, " B"]) -> dict[str, float]:
    """Mean cross-entropy (``loss``) and share of right answers (``accuracy``) of some graphs."""
    training = module.training
    module.eval()
    loss, right = 0.0, 0
    for chosen in indices.split(_EVALUATION_BATCH):
        scores, labels = module(data.select(chosen)), data.labels[chosen]
        loss += float(functional.cross_entropy(scores, labels, reduction="sum"))
        right += int((scores.argmax(-1) == labels).sum())
    module.train(training)
    return {"loss": loss / len(indices), "accuracy": right / len(indices)}


def sag_pool_training(
    num_train: int, *, batch_size: int = 128, seed: int = 0, max_epochs: int = 1000
) -> TrainingConfig:
    """The protocol of the SAGPool paper: rate 5e-4, decay 1e-4, 50 epochs without a lower validation loss.

    Ours differs in that the decay is AdamW's, and in the largest number of epochs (the paper's is 100,000).
    """
    epoch = max(1, num_train // min(batch_size, num_train))
    return TrainingConfig(
        batch_size=min(batch_size, num_train),
        max_steps=max_epochs * epoch,
        learning_rate=5e-4,
        min_learning_rate_ratio=1.0,
        warmup_steps=0,
        weight_decay=1e-4,
        betas=(0.9, 0.999),
        clip_norm=0.0,
        ema_decay=0.0,
        validate_every=epoch,
        validation_systems=0,
        patience=50,
        log_every=epoch,
        checkpoint_every=max_epochs * epoch,
        seed=seed,
    )
