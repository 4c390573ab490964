import pytest
import torch
from torch.testing import assert_close

from lie_sim.attention import MomentAttention, moments


def test_moments_are_carried_alike_in_all_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a few products, by matrix products, and along a list of neighbours."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 4, 4, 3, generator=generator, dtype=torch.float64)
    carried = torch.randn(2, 4, 10, 3, generator=generator, dtype=torch.float64)
    expected = torch.einsum("bijm,bjpm->bipm", weights, carried)

    few = MomentAttention._carry(weights, carried, None)
    monkeypatch.setattr(moments, "_FEW_PRODUCTS", 0)
    many = MomentAttention._carry(weights, carried, None)
    listed = MomentAttention._carry(weights, carried, carried[:, None].expand(2, 4, 4, 10, 3))

    for found in (few, many, listed):
        assert_close(found, expected, rtol=1e-13, atol=1e-13)
