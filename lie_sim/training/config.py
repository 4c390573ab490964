"""Options of a training run, and any configuration dataclass as a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import tomli_w
import torch

from lie_sim.errors import ConfigError
from lie_sim.files import write_atomically
from lie_sim.plain import from_plain, to_plain

T = TypeVar("T")
_LARGEST_SEED = 2**63 - 1  # of torch.manual_seed, and of a whole number in TOML


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that fixes a training run, given the model and the data.

    Args:
        loss: "derivatives" regresses the forces read off the trajectories; "rollout" integrates each chunk and
            compares all its points.
        weight: of force errors, "none", "mass" (accelerations) or "relative" (each particle's own unit).
        points_per_chunk: random points of each chunk that enter a step of the derivative loss; 0 for all.
        rollout_method: of the rollout loss, "leapfrog" (order 2), "yoshida4" or "pefrl" (order 4).
        rollout_substeps: integrator steps per data step of the rollout loss.
        rollout_points: points of each trajectory that the rollout loss follows, in a random window; 0 for all.
        rollout_adjoint: how its gradient is computed: "autograd" keeps every step, "reversible" steps back in memory
            that does not grow with the number of steps.
        rollout_compile: compile the force and its derivative for ``rollout_adjoint="reversible"``; takes a minute once.
        batch_size: systems per step.
        max_steps: end of the run; 0 for none (then ``max_cpu_seconds`` must be given).
        max_cpu_seconds: CPU time of the process (all its threads) at which the run ends; 0 for none.
        optimizer: "adamw", or "muon" (matrices with their singular values made equal: far fewer steps for forces of
            molecules; a learning rate near 0.01).
        learning_rate: largest learning rate, after the warm-up.
        min_learning_rate_ratio: part of the learning rate that is left at the end of the cosine.
        warmup_steps: steps of linear warm-up.
        weight_decay: of the optimiser.
        betas: β₁ and β₂ of AdamW.
        clip_norm: largest norm of the gradient; 0 for no clipping.
        ema_decay: of the exponential moving average of the weights; 0 for none.
        resample_lifts: draw new stabiliser samples at every step, for models with lifting "haar".
        log_every: steps between two lines of metrics.
        validate_every: steps between validations; 0 for one at the end.
        validation_systems: the first so many validation systems are used; 0 for all.
        patience: stop after this many validations without a new best; 0 for never.
        checkpoint_every: steps between checkpoints.
        seed: of the weights, the data order and everything random in a step.
        dtype: "float32" or "float64", of weights and data.

    Example:
        >>> TrainingConfig(max_steps=100, batch_size=20).learning_rate
        0.003
    """

    loss: Literal["derivatives", "rollout"] = "derivatives"
    weight: Literal["none", "mass", "relative"] = "none"
    points_per_chunk: int = 1
    rollout_method: Literal["leapfrog", "yoshida4", "pefrl"] = "yoshida4"
    rollout_substeps: int = 1
    rollout_points: int = 0
    rollout_adjoint: Literal["autograd", "reversible", "checkpoint"] = "autograd"
    rollout_compile: bool = False
    batch_size: int = 100
    max_steps: int = 3000
    max_cpu_seconds: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 3e-3
    min_learning_rate_ratio: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    resample_lifts: bool = True
    log_every: int = 50
    validate_every: int = 500
    validation_systems: int = 500
    patience: int = 0
    checkpoint_every: int = 500
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if self.max_steps <= 0 and self.max_cpu_seconds <= 0:
            raise ConfigError("a run needs an end: give max_steps or max_cpu_seconds")
        for name in ("batch_size", "rollout_substeps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        counts = (
            "points_per_chunk",
            "rollout_points",
            "max_steps",
            "max_cpu_seconds",
            "warmup_steps",
            "weight_decay",
            "clip_norm",
        )
        for name in (*counts, "validate_every", "validation_systems", "patience"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ConfigError(f"seed must be from 0 to 2^63 - 1, got {self.seed}")
        for name, value in (
            ("ema_decay", self.ema_decay),
            ("betas[0]", self.betas[0]),
            ("betas[1]", self.betas[1]),
        ):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be from 0 to below 1, got {value}")
        if not 0 <= self.min_learning_rate_ratio <= 1:
            raise ConfigError(
                f"min_learning_rate_ratio must be from 0 to 1, got {self.min_learning_rate_ratio}"
            )
        if self.patience and not self.validate_every:
            raise ConfigError("early stopping needs validations: give validate_every, or patience = 0")

    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch knows it."""
        return torch.float64 if self.dtype == "float64" else torch.float32


def load_config(path: str | Path, cls: type[T]) -> T:
    """Read a configuration dataclass (nested ones as tables) from a TOML file.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, a wrong type or an impossible value.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "run.toml")
        >>> save_config(TrainingConfig(max_steps=10), file)
        >>> load_config(file, TrainingConfig).max_steps
        10
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    return from_plain(cls, values, source=str(file))


def save_config(config: object, path: str | Path) -> None:
    """Write a configuration dataclass as TOML; fields that are None are left out."""
    write_atomically(Path(path), tomli_w.dumps(to_plain(config)).encode())
