"""A trained module on disk, and what identifies it: models of this library whole, any other as its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lie_sim.checkpoint import save_model
from lie_sim.data.storage import save_tensors
from lie_sim.descriptions import Model, Other, describe_model
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import EnergyModel


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Plain values in which a module of another architecture differs.

    Example:
        >>> describe_module(nn.Linear(2, 1))
        {'class': 'Linear', 'shapes': {'weight': [1, 2], 'bias': [1]}}
    """
    if isinstance(module, Model):
        return describe_model(module)
    shapes = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    return {"class": type(module).__qualname__, "shapes": shapes}


def config_of(module: nn.Module) -> Any | None:
    """The configuration of a model of this library; None of any other module."""
    model = module.potential if isinstance(module, Hamiltonian) else module
    return model.config if isinstance(model, EnergyModel | Other) else None


def save_module(module: nn.Module, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``folder/model``, or just ``weights.safetensors`` if it is no model of this library."""
    if isinstance(module, Model):
        save_model(module, folder / "model", metadata=facts)
        return
    tensors: dict[str, Tensor] = {name: t.detach().clone() for name, t in module.state_dict().items()}
    save_tensors(folder / "weights.safetensors", tensors, facts, kind="weights")
