"""The shape-counting experiment on a few clouds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lie_sim import load_model
from lie_sim.experiments import ShapesConfig, ShapesExperiment, open_run
from lie_sim.experiments.shapes import accuracy

ACCURACIES = ("accuracy", "accuracy_t2", "accuracy_se2")


@pytest.fixture(scope="module")
def experiment() -> ShapesExperiment:
    config = ShapesConfig(num_train=24, num_validation=8, num_test=12)
    model = replace(config.model, width=8, num_heads=2, num_layers=1, num_radial=4, kernel_hidden=8)
    training = replace(config.training, max_steps=3, batch_size=8, validate_every=3, checkpoint_every=3)
    return ShapesExperiment(replace(config, model=model, training=training))


def test_moving_the_clouds_changes_no_answer(experiment: ShapesExperiment, tmp_path: Path) -> None:
    experiment.run(tmp_path, progress=False)
    results = open_run(tmp_path).evaluate(load_model(tmp_path / "model"), progress=False).results
    assert set(results) == {*ACCURACIES, "accuracy_drop_se2"}
    assert all(0 < results[key] < 1 for key in ACCURACIES)
    assert results["accuracy"] == results["accuracy_t2"] == results["accuracy_se2"]
    assert results["accuracy_drop_se2"] == 0


def test_more_test_clouds_leave_the_training_as_it_is(experiment: ShapesExperiment) -> None:
    more = ShapesExperiment(replace(experiment.config, num_test=20))
    assert more.task().digest() == experiment.task().digest()
    assert more.splits["test"].digest() != experiment.splits["test"].digest()


class Oracle(nn.Module):
    """Scores that name the given counts."""

    def __init__(self, counts: torch.Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(nn.functional.one_hot(counts, 3).float().flatten(1))

    def forward(self, q: torch.Tensor, particles: object) -> torch.Tensor:
        return self.scores


def test_accuracy_counts_every_number_of_every_cloud(experiment: ShapesExperiment) -> None:
    clouds = experiment.splits["test"]
    assert accuracy(Oracle(clouds.counts), clouds) == 1.0
    wrong = clouds.counts.clone()
    wrong[0, 0] = (wrong[0, 0] + 1) % 3
    assert accuracy(Oracle(wrong), clouds) == pytest.approx(1 - 1 / 48)
