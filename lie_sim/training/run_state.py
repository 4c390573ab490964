"""All that changes during a run, and its checkpoints.

A checkpoint is one safetensors file with a JSON header (:mod:`lie_sim.data.storage`): weights, their average,
the best average, the optimiser's moments, and the counters. Batches and random numbers are functions of the seed and
the step, so nothing else has to be kept for a resumed run to be the undisturbed one, bit for bit.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.errors import CheckpointError, ConfigError, DataError
from lie_sim.plain import with_defaults
from lie_sim.training.adamw import AdamW
from lie_sim.training.config import TrainingConfig
from lie_sim.training.muon import Muon
from lie_sim.training.saving import config_of
from lie_sim.training.schedule import ema_decay

_KIND = "training checkpoint"
_KEPT = 2
_MAY_CHANGE = {"checkpoint_every"}
_COUNTERS = ("step", "cpu_seconds", "best_step", "bad_validations", "validated_step", "loss_count", "rows")


@dataclass
class RunState:
    """Weights, optimiser and counters of a run.

    Args:
        module: what is trained.
        config: of the run.
        identity: plain values that a checkpoint must agree with (model, data).
    """

    module: nn.Module
    config: TrainingConfig
    identity: dict[str, Any]
    step: int = 0
    cpu_seconds: float = 0.0
    best_metric: float = math.inf
    best_step: int = 0
    bad_validations: int = 0
    validated_step: int = -1
    loss_count: int = 0
    rows: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters: list[Tensor] = [p for p in self.module.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("the module has no trainable parameters")
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.parameters[0].device)
        self.average = copy.deepcopy(self.module).eval()
        self._averaged: list[Tensor] = [p for p in self.average.parameters() if p.requires_grad]
        make = Muon if self.config.optimizer == "muon" else AdamW
        self.optimizer = make(self.parameters, betas=self.config.betas, weight_decay=self.config.weight_decay)

    @torch.no_grad()
    def average_weights(self) -> None:
        """One step of the exponential moving average."""
        weight = 1 - ema_decay(self.config, self.step)
        torch._foreach_lerp_(self._averaged, self.parameters, weight)

    def averaged_module(self) -> nn.Module:
        """The module with the averaged weights; its buffers are those of the trained module."""
        for mine, theirs in zip(self.average.buffers(), self.module.buffers(), strict=True):
            mine.copy_(theirs)
        return self.average

    def note_validation(self, found: dict[str, float], metric: str) -> None:
        """Keep the averaged weights if they are the best so far."""
        self.validation, self.validated_step = found, self.step
        if found[metric] < self.best_metric:
            self.best_metric, self.best_step, self.bad_validations = found[metric], self.step, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.average.state_dict().items()}
        else:
            self.bad_validations += 1

    def adopt_best(self) -> nn.Module:
        """Give the module its best averaged weights (the last ones, if no validation was finite)."""
        self.module.load_state_dict(self.best or self.averaged_module().state_dict())
        return self.module.eval()

    def save(self, folder: Path) -> Path:
        """Write a checkpoint, atomically, and remove all but the newest two."""
        path = folder / f"step_{self.step:09d}.safetensors"
        facts = {name: getattr(self, name) for name in _COUNTERS}
        facts["best_metric"] = self.best_metric if math.isfinite(self.best_metric) else None
        facts["validation"] = {k: v if math.isfinite(v) else None for k, v in self.validation.items()}
        save_tensors(path, self._tensors(), {**facts, "identity": self.identity}, kind=_KIND)
        for old in checkpoints(folder)[:-_KEPT]:
            old.unlink()
        for leftover in folder.glob(".step_*"):  # of a run killed while it wrote
            leftover.unlink(missing_ok=True)
        return path

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "module": self.module.state_dict(),
            "average": self.averaged_module().state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.tensors(),
            "run": {"loss_sum": self.loss_sum},
        }
        return {
            f"{part}/{name}": t.detach().clone() for part, named in parts.items() for name, t in named.items()
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            DataError: the file is damaged.
            ConfigError: the run was started with other options.
            CheckpointError: the model or the data are others.
        """
        tensors, facts = load_tensors(path, kind=_KIND)
        check_identity(path, facts["identity"], self.identity, like=config_of(self.module))
        self.module.load_state_dict(_part(tensors, "module"))
        self.average.load_state_dict(_part(tensors, "average"))
        device = self.parameters[0].device
        self.best = {name: tensor.to(device) for name, tensor in _part(tensors, "best").items()}
        self.loss_sum = tensors["run/loss_sum"].to(device)
        self.optimizer.load_tensors(_part(tensors, "optimizer"))
        for name in _COUNTERS:
            setattr(self, name, facts[name])
        self.best_metric = math.inf if facts["best_metric"] is None else facts["best_metric"]
        self.validation = {k: math.nan if v is None else v for k, v in facts["validation"].items()}

    def restore_newest(self, folder: Path) -> Path | None:
        """Continue from the newest checkpoint that is intact; None if there is none at all."""
        found = checkpoints(folder)
        for path in reversed(found):
            try:
                self.restore(path)
            except DataError as error:
                warnings.warn(f"skipping a damaged checkpoint: {error}", stacklevel=2)
            else:
                return path
        if found:
            raise CheckpointError(
                f"every checkpoint in {folder} is damaged; start again with resume='restart'"
            )
        return None


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step_*.safetensors"))


def newest_facts(folder: Path) -> dict[str, Any]:
    """Counters and best validation (``step``, ``best_step``, ``best_metric``, …) of the newest intact checkpoint.

    They are empty if there is none.
    """
    for path in reversed(checkpoints(folder)):
        try:
            return load_tensors(path, kind=_KIND)[1]
        except DataError:
            continue
    return {}


def check_identity(
    path: Path, saved: dict[str, Any], current: dict[str, Any], *, like: Any | None = None
) -> None:
    """Refuse to go on with other options, another model or other data.

    Args:
        path: of the checkpoint, for messages.
        saved: the identity that it holds; options that it is too old to know have their defaults.
        current: the identity of the run.
        like: the configuration of the model, if it has one.
    """
    before, now = with_defaults(saved["config"], TrainingConfig()), current["config"]
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(set(before) | set(now))
        if before.get(name) != now.get(name) and name not in _MAY_CHANGE
    ]
    if changed:
        raise ConfigError(
            f"the run of {path} was started with other options: {'; '.join(changed)}. Use the same options, "
            "another run directory, or resume='restart' to begin again"
        )
    saved, current = _compared(saved, like), _compared(current, like)
    for what in sorted((set(saved) | set(current)) - {"config"}):
        if saved.get(what) != current.get(what):
            difference = _difference(saved.get(what), current.get(what))
            raise CheckpointError(
                f"the run of {path} was started with another {what}: {difference}. "
                "Use another run directory, or resume='restart' to begin again"
            )


def _compared(identity: dict[str, Any], like: Any | None) -> dict[str, Any]:
    """The identity, with the defaults of what it is too old to know of the model."""
    model = identity.get("model", {})
    if like is None or "config" not in model:
        return identity
    return identity | {"model": model | {"config": with_defaults(model["config"], like)}}


def _difference(saved: Any, current: Any) -> str:
    if isinstance(saved, dict) and isinstance(current, dict):
        names = [name for name in sorted(set(saved) | set(current)) if saved.get(name) != current.get(name)]
        return "; ".join(f"{name}: {_difference(saved.get(name), current.get(name))}" for name in names[:5])
    return f"{str(saved)[:60]} before, {str(current)[:60]} now"


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}
