"""Small models, and folders of models that are changed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import lie_sim.checkpoint as checkpoint_module
from lie_sim import Hamiltonian, LieTransformer, Particles

TINY: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8, "num_attributes": 1}


def tiny_hamiltonian(**options: Any) -> Hamiltonian:
    return Hamiltonian(LieTransformer.default(**TINY, attribute_mean=(0.1,), attribute_std=(0.3,)), **options)


def some_input(dtype: torch.dtype) -> tuple[torch.Tensor, Particles]:
    particles = Particles(
        masses=1 + torch.rand(2, 4, dtype=dtype), attributes=torch.rand(2, 4, 1, dtype=dtype)
    )
    return torch.randn(2, 4, 2, dtype=dtype), particles


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_bytes())


def rewrite(folder: Path, **changes: Any) -> None:
    """Change entries of model.json as an attacker would, with a digest that fits."""
    changed = {**manifest(folder), **changes}
    changed["digest"] = checkpoint_module._digest(changed)
    (folder / "model.json").write_text(json.dumps(changed))
