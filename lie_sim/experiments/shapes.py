"""Counting shapes in a cloud of points, invariant to motions of the plane.

Each cloud holds up to two squares, triangles, pentagons and L's; the model says how many of each. It is trained
without augmentation and tested on clouds that were shifted (T2) and shifted and turned (SE2).

Reference: Hutchinson et al., arXiv:2012.10885, section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import nn

from lie_sim.data import Constellations, constellation_splits
from lie_sim.errors import ConfigError
from lie_sim.experiments.base import Evaluation, Experiment, register_experiment
from lie_sim.models import LieTransformerClassifier, LieTransformerConfig
from lie_sim.report import ReportData, Table
from lie_sim.training import ClassificationTask, LabelledSets, TrainingConfig

PUBLISHED = {
    "SetTransformer (published)": (0.58, 0.44, 0.44),
    "LieTransformer-T2 (published)": (0.75, 0.75, 0.63),
    "LieTransformer-SE2 (published)": (0.71, 0.71, 0.69),
}
"""Accuracies of Hutchinson et al. on D, T2 and SE2 tests after training on D."""

_CLASSES = 3
_SHAPES = 4
_BATCH = 250


def shapes_model() -> LieTransformerConfig:
    """Soft frames over the corners nearby; a side of a shape is about one length unit."""
    return LieTransformerConfig(
        dim=2,
        use_masses=False,
        num_frames=4,
        num_moments=2,
        radial="gaussian",
        num_radial=16,
        cutoff=0.2,
        length_scale=0.03,
        width=32,
        num_heads=8,
        num_layers=2,
        norm="none",
        kernel_hidden=32,
        mean_neighbours=4.0,
        head="deep",
    )


def shapes_training() -> TrainingConfig:
    """About five CPU minutes."""
    return TrainingConfig(
        batch_size=32, max_steps=2400, warmup_steps=50, validate_every=400, checkpoint_every=200
    )


@dataclass(frozen=True)
class ShapesConfig:
    """Options of the shape-counting experiment.

    Args:
        num_train: training clouds.
        num_validation: validation clouds.
        num_test: clouds of each test set.
        data_seed: of all data.
        model: the network.
        training: the training run.
    """

    num_train: int = 10_000
    num_validation: int = 1_000
    num_test: int = 1_000
    data_seed: int = 0
    model: LieTransformerConfig = field(default_factory=shapes_model)
    training: TrainingConfig = field(default_factory=shapes_training)

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "num_test"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1 cloud, got {getattr(self, name)}")


@register_experiment
class ShapesExperiment(Experiment[ShapesConfig]):
    """Count shapes whatever their position and orientation."""

    name = "shapes"
    Config = ShapesConfig
    evaluation_only: ClassVar[frozenset[str]] = frozenset({"num_test"})
    """Options that training and its data do not depend on; they may change in a run that is there."""

    @cached_property
    def splits(self) -> dict[str, Constellations]:
        """Training, validation and three test sets."""
        config = self.config
        return constellation_splits(
            config.num_train, config.num_validation, config.num_test, seed=config.data_seed
        )

    def task(self) -> ClassificationTask:
        """Cross-entropy of the four counts."""
        return ClassificationTask(
            labelled(self.splits["train"]), labelled(self.splits["val"]), num_classes=_CLASSES
        )

    def build(self) -> LieTransformerClassifier:
        """An untrained classifier."""
        torch.manual_seed(self.config.training.seed)
        return LieTransformerClassifier(self.config.model, num_outputs=_SHAPES * _CLASSES)

    def evaluate(self, module: nn.Module, *, progress: bool = True) -> Evaluation:
        """Accuracy on the three test sets, beside the published ones."""
        names = {"accuracy": "test", "accuracy_t2": "test_t2", "accuracy_se2": "test_se2"}
        results = {key: accuracy(module, self.splits[split]) for key, split in names.items()}
        results["accuracy_drop_se2"] = results["accuracy"] - results["accuracy_se2"]
        rows: list[list[str | int | float | None]] = [
            ["LieTransformer, soft frames", *list(results.values())[:3]]
        ]
        rows += [[name, *values] for name, values in PUBLISHED.items()]
        report = ReportData(
            title="Shape counting",
            subtitle="How many squares, triangles, pentagons and L's; trained without augmentation",
            summary={
                "accuracy": f"{results['accuracy']:.1%}",
                "accuracy, shifted and turned": f"{results['accuracy_se2']:.1%}",
                "published, shifted and turned": f"{PUBLISHED['LieTransformer-SE2 (published)'][2]:.0%}",
            },
            comparison=Table(columns=["model", "D", "T2", "SE2"], rows=rows),
        )
        return Evaluation(results=results, report=report)


def labelled(clouds: Constellations) -> LabelledSets:
    """Clouds and counts as the training task wants them."""
    return LabelledSets(clouds.positions, clouds.particles("constant"), clouds.counts)


@torch.no_grad()
def accuracy(module: nn.Module, clouds: Constellations) -> float:
    """Share of the four counts that are right."""
    parameter = next(module.parameters())
    right = 0.0
    for start in range(0, len(clouds), _BATCH):
        part = clouds[slice(start, start + _BATCH)]
        particles = part.particles("constant").to(dtype=parameter.dtype, device=parameter.device)
        scores = module(part.positions.to(parameter), particles).reshape(len(part), _SHAPES, _CLASSES)
        right += float((scores.argmax(-1).cpu() == part.counts).double().mean(-1).sum())
    return right / len(clouds)
