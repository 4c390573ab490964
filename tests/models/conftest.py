"""Small models and systems that the model tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lie_sim.models import LieTransformer
from lie_sim.state import Particles

SMALL = {"width": 8, "num_heads": 2, "num_layers": 2, "kernel_hidden": 8, "num_radial": 6}


@pytest.fixture
def make_model() -> Callable[..., LieTransformer]:
    """A small model with noise on all parameters: zero-initialised layers would hide what follows them."""

    def make(*, dtype: torch.dtype = torch.float64, noise: float = 0.3, **options: Any) -> LieTransformer:
        torch.manual_seed(1)
        model = LieTransformer.default(**{**SMALL, **options}).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += noise * torch.randn_like(parameter)
        return model

    return make


@pytest.fixture
def make_system() -> Callable[..., tuple[Tensor, Particles]]:
    """Random positions, masses, one attribute and two species."""

    def make(
        dim: int, *, batch: int = 4, count: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0
    ) -> tuple[Tensor, Particles]:
        generator = torch.Generator().manual_seed(seed)
        q = torch.randn(batch, count, dim, generator=generator, dtype=torch.float64)
        particles = Particles(
            masses=0.5 + torch.rand(batch, count, generator=generator, dtype=torch.float64),
            attributes=torch.randn(batch, count, 1, generator=generator, dtype=torch.float64),
            species=torch.randint(2, (batch, count), generator=generator),
        )
        return q.to(dtype), particles.to(dtype=dtype)

    return make


@pytest.fixture
def forces_of() -> Callable[..., Tensor]:
    """−∂E/∂q, differentiable."""

    def forces(model: LieTransformer, q: Tensor, particles: Particles, neighbours: Any = None) -> Tensor:
        leaf = q.detach().requires_grad_(True)
        energy = model.energy(leaf, particles, neighbours).sum()
        return -torch.autograd.grad(energy, leaf, create_graph=True)[0]

    return forces
