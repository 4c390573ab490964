"""Tiny experiments: a few systems, a few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lie_sim.experiments import SpringsConfig, SpringsExperiment
from lie_sim.models import LieTransformerConfig
from lie_sim.training import TrainingConfig

TINY_MODEL = LieTransformerConfig(
    dim=2, num_attributes=1, num_layers=1, width=8, num_heads=2, num_frames=1, kernel_hidden=8
)
TINY_TRAINING = TrainingConfig(
    max_steps=4, batch_size=8, warmup_steps=1, validate_every=2, checkpoint_every=2, log_every=2
)


@pytest.fixture(scope="session")
def tiny_springs() -> SpringsConfig:
    """Springs in less than a second."""
    return SpringsConfig(
        num_train=16,
        num_validation=4,
        num_test=2,
        long_steps=10,
        model=TINY_MODEL,
        training=TINY_TRAINING,
    )


@pytest.fixture(scope="session")
def springs_run(tiny_springs: SpringsConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of the tiny springs experiment, to be read only."""
    folder = tmp_path_factory.mktemp("springs") / "run"
    SpringsExperiment(replace(tiny_springs)).run(folder, progress=False)
    return folder
