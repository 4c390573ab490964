"""Options of a run and their TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lie_sim.errors import ConfigError
from lie_sim.training import TrainingConfig, load_config, save_config


def test_toml_round_trip(tmp_path: Path) -> None:
    config = TrainingConfig(
        loss="rollout", betas=(0.8, 0.9), max_steps=7, max_cpu_seconds=1.5, dtype="float64"
    )
    save_config(config, tmp_path / "run.toml")
    assert load_config(tmp_path / "run.toml", TrainingConfig) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 1.0", "unknown key learning_rat; allowed keys are loss, weight"),
        ('batch_size = "many"', "batch_size must be int"),
        ('loss = "guess"', "loss must be one of 'derivatives', 'rollout'"),
        ("betas = [0.9]", "betas must have 2 entries"),
        ("x = ", "is not TOML"),
    ],
)
def test_bad_files_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"run\.toml.*{message}"):
        load_config(tmp_path / "run.toml", TrainingConfig)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml", TrainingConfig)


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"ema_decay": 1.0},
        {"betas": (0.9, 1.0)},
        {"clip_norm": -1.0},
        {"min_learning_rate_ratio": 2.0},
        {"seed": -1},
        {"seed": 2**63},
        {"patience": 1, "validate_every": 0},
    ],
)
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainingConfig(**options)
