"""A small learned potential, cheap enough for long runs and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lie_sim import Particles
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix


class PairPotential(EnergyModel):
    """V = Σ_ij MLP(|q_i − q_j|²), float64, with weights of a fixed seed."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def forward(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Tensor:
        squared = (q[:, :, None] - q[:, None]).square().sum(-1, keepdim=True)
        return self.pair(squared).squeeze(-1).sum(-1)


@pytest.fixture
def pair_potential() -> EnergyModel:
    torch.manual_seed(3)
    return PairPotential()
