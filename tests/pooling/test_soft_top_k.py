"""Soft top-k: sums, order, limit, derivatives that include the threshold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from lie_sim.pooling import hard_top_k, local_gate, soft_top_k

scores = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)
ROUNDING = 1e-9
"""Sums of a dozen weights of which each is known to the rounding of its score over the temperature."""


@given(values=scores, share=st.floats(0.01, 0.99), temperature=st.floats(1e-3, 1e3))
def test_weights_sum_to_k_and_grow_with_the_score(
    values: list[float], share: float, temperature: float
) -> None:
    z = torch.tensor([values], dtype=torch.float64)
    k = share * len(values)
    weights = soft_top_k(z, k, temperature=temperature)
    assert weights.sum().item() == pytest.approx(k, abs=ROUNDING * max(1, 1 / temperature))
    ordered = weights[0, z[0].argsort()]
    assert (ordered.diff() >= -ROUNDING).all()


def test_padding_is_ignored_and_rows_do_not_see_each_other() -> None:
    z, mask = torch.randn(3, 6, dtype=torch.float64), torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:], mask[2] = False, False
    weights = soft_top_k(z, torch.tensor([3, 2, 1]), temperature=0.3, mask=mask)
    alone = soft_top_k(z[1:2, :4], 2, temperature=0.3)
    torch.testing.assert_close(weights[1, :4], alone[0], rtol=1e-12, atol=1e-12)
    assert not weights[~mask].any()


def test_a_low_temperature_is_the_hard_choice() -> None:
    z = torch.randn(5, 9, dtype=torch.float64)
    soft = soft_top_k(z, 4, temperature=1e-4)
    torch.testing.assert_close(soft, hard_top_k(z, 4).double(), rtol=0, atol=1e-3)


def test_a_row_that_holds_no_more_than_k_keeps_all() -> None:
    z = torch.randn(1, 3, requires_grad=True)
    weights = soft_top_k(z, 3, temperature=0.1)
    assert (weights == 1).all()
    (slope,) = torch.autograd.grad(weights.sum(), z)
    assert (slope == 0).all()


def test_derivatives_include_the_threshold() -> None:
    z = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    amounts = torch.rand(2, 5, dtype=torch.float64).add(0.3).requires_grad_()
    mask = torch.tensor([[True] * 5, [True] * 4 + [False]])

    def weights(z: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
        k = 0.4 * torch.where(mask, amounts, 0.0).sum(1)
        return soft_top_k(z, k, temperature=0.7, mask=mask, amounts=amounts)

    assert gradcheck(weights, (z, amounts))
    assert gradgradcheck(weights, (z, amounts))
    kept_constant = torch.sigmoid(z / 0.7)  # of which the rows of the Jacobian do not sum to 0
    (slope,) = torch.autograd.grad(soft_top_k(z, 2, temperature=0.7).sum(), z)
    assert slope.abs().max() < 1e-12 < torch.autograd.grad(kept_constant.sum(), z)[0].abs().max()


def test_the_third_derivative_is_right_too() -> None:
    z = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)

    def bend(z: torch.Tensor) -> torch.Tensor:
        value = soft_top_k(z, 2, temperature=0.5).square().sum()
        (slope,) = torch.autograd.grad(value, z, create_graph=True)
        return slope

    assert gradgradcheck(bend, z)


def test_scores_far_apart_do_not_break_it() -> None:
    z = torch.tensor([[1e6, -1e6, 0.0, 1e6]], dtype=torch.float64, requires_grad=True)
    weights = soft_top_k(z, 2, temperature=1e-3)
    torch.testing.assert_close(weights.detach(), torch.tensor([[1.0, 0, 0, 1]]).double(), rtol=0, atol=1e-9)
    assert torch.autograd.grad(weights[0, 0], z)[0].isfinite().all()


def test_the_local_gate_hangs_on_one_score_alone() -> None:
    z = torch.randn(4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: local_gate(z, temperature=0.5), z)
    assert (jacobian - torch.diag(jacobian.diagonal())).abs().max() == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        soft_top_k(torch.zeros(1, 2), 1, temperature=temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        local_gate(torch.zeros(2), temperature=temperature)


@pytest.mark.parametrize("k", [0, -1.0, float("nan")])
def test_k_that_is_none_is_refused(k: float) -> None:
    with pytest.raises(ValueError, match="k must be positive"):
        soft_top_k(torch.zeros(1, 2), k, temperature=1.0)
