"""Powers of directions: inner products are powers of the cosine, and nothing is singular."""

from __future__ import annotations

import math

import pytest
import torch

from lie_sim.groups import group
from lie_sim.lifting.moments import DirectionMoments
from lie_sim.lifting.powers import DirectionPowers, orders_of_products

ROUND_OFF = 1e-14


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_inner_products_of_each_order_are_powers_and_do_not_turn(dim: int) -> None:
    powers = DirectionPowers(dim, 4).double()
    a, b = torch.randn(2, 7, dim, dtype=torch.float64) / 2
    orders = orders_of_products(dim, 4).double()
    assert orders.shape == (5, math.comb(dim + 4, 4))
    found = (powers(a) * powers(b)) @ orders.T
    expected = (a * b).sum(-1, keepdim=True) ** torch.arange(5)
    assert (found - expected).abs().max() < ROUND_OFF
    turn = -torch.eye(1).double() if dim == 1 else group(f"O({dim})").random((), 1, dtype=torch.float64)
    assert ((powers(a @ turn.mT) * powers(b @ turn.mT)) @ orders.T - found).abs().max() < ROUND_OFF


def test_up_to_two_they_are_the_moments() -> None:
    u = torch.randn(5, 3, dtype=torch.float64) / 2
    assert (
        DirectionPowers(3, 2).double()(u) - DirectionMoments(3).double()(u)
    ).abs().max() < 1e-7  # √2 of buffers in float32


def test_they_are_smooth_at_the_origin() -> None:
    powers, u = DirectionPowers(3, 4).double(), torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(powers, (u,))
    assert torch.autograd.gradgradcheck(powers, (u,))
