"""Learning to classify particle sets: one or more labels per set.

    L = −⟨ log softmax(scores)_label ⟩

Shape letters: S samples, P labels per sample, K classes, N particles, d space dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lie_sim.state import Particles
from lie_sim.training.tasks import Batch, TensorTask, particle_tensors, particles_of, select

_VALIDATION_BATCH = 200


@dataclass(frozen=True)
class LabelledSets:
    """Particle sets with labels.

    Args:
        positions: shape (S, N, d).
        particles: what the particles are.
        labels: integer classes from 0, shape (S, P).
    """

    positions: Float[Tensor, "S N d"]
    particles: Particles
    labels: Int[Tensor, "S P"]

    def tensors(self) -> Batch:
        """All tensors by name."""
        return {"q": self.positions, "labels": self.labels, **particle_tensors(self.particles)}


class ClassificationTask(TensorTask):
    """Cross-entropy of a :class:`~lie_sim.models.LieTransformerClassifier` with P·K outputs.

    Args:
        train: labelled sets.
        validation: likewise.
        num_classes: K, the same for each of the P labels.

    Example:
        >>> labels = torch.tensor([[0], [1], [2], [0]])
        >>> sets = LabelledSets(torch.randn(4, 5, 2), Particles(torch.ones(4, 5)), labels)
        >>> task = ClassificationTask(sets, sets, num_classes=3)
        >>> task.batch(torch.tensor([0, 1]), torch.Generator())["q"].shape
        torch.Size([2, 5, 2])
    """

    metric: str = "error_rate"
    option_names: ClassVar[tuple[str, ...]] = ("num_classes",)

    def __init__(self, train: LabelledSets, validation: LabelledSets, *, num_classes: int) -> None:
        for sets in (train, validation):
            low, high = int(sets.labels.min()), int(sets.labels.max())
            if low < 0 or high >= num_classes:
                raise ValueError(f"labels must be from 0 to {num_classes - 1}, got {low} to {high}")
        super().__init__(train.tensors(), validation.tensors())
        self.num_classes = num_classes

    def _scores(self, module: nn.Module, batch: Batch) -> Float[Tensor, "BP K"]:
        scores: Tensor = module(batch["q"], particles_of(batch))
        expected = batch["labels"].shape[1] * self.num_classes
        if scores.shape != (batch["q"].shape[0], expected):
            raise ValueError(
                f"{batch['labels'].shape[1]} labels of {self.num_classes} classes need {expected} outputs, "
                f"got scores of shape {tuple(scores.shape)}"
            )
        return scores.reshape(-1, self.num_classes)

    def loss(self, module: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy, averaged over samples and labels, in nats."""
        return functional.cross_entropy(self._scores(module, batch), batch["labels"].flatten().long())

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Cross-entropy, and the rate of wrong labels (``accuracy`` is the rest)."""
        loss = wrong = 0.0
        labels = self._validation["labels"].flatten()
        for start in range(0, len(self._validation["labels"]), _VALIDATION_BATCH):
            part = select(self._validation, slice(start, start + _VALIDATION_BATCH))
            scores, truth = self._scores(module, part), part["labels"].flatten().long()
            loss += float(functional.cross_entropy(scores, truth, reduction="sum"))
            wrong += int((scores.argmax(-1) != truth).sum())
        error_rate = wrong / len(labels)
        return {"validation_loss": loss / len(labels), "error_rate": error_rate, "accuracy": 1 - error_rate}
