"""Scalar, vector and matrix of a direction: one order each of 1 + a·b + (a·b)², in every dtype."""

from __future__ import annotations

import pytest
import torch

from lie_sim.lifting import MomentLift
from lie_sim.lifting.powers import orders_of_products

ROUND_OFF = {torch.float32: 1e-6, torch.float64: 2e-15}
"""Of sums of at most six products, relative to (|a||b|)^order; measured 2.3e-7 and 1.6e-16."""


@pytest.mark.parametrize("dtype", ROUND_OFF)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_products_are_powers_of_the_scalar_product(dim: int, dtype: torch.dtype) -> None:
    """Also for a lift that was made in float32 and converted: √2 must not be kept in single precision."""
    lift = MomentLift(dim, cutoff=2.0).to(dtype).directions
    a, b = torch.randn(2, 50, 1, 1, dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    both = lift(a) * lift(b)
    product, size = (a * b).sum(-1), a.norm(dim=-1) * b.norm(dim=-1)
    for order, chosen in enumerate(orders_of_products(dim, 2)):
        error = ((both[..., chosen > 0].sum(-1) - product**order) / size**order).abs().max()
        assert error < ROUND_OFF[dtype], f"order {order}: {error:.1e}"
