"""SiLU: value and derivatives of three orders against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from lie_sim.activations import SiLU, silu


def _derivatives(function, x: torch.Tensor) -> list[torch.Tensor]:
    """Value and first three derivatives of Σ function(x)²."""
    found = [function(x)]
    total = found[0].square().sum()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(total, x, create_graph=True)
        found.append(gradient)
        total = gradient.square().sum()
    return found


def test_three_derivatives_agree_with_pytorch() -> None:
    x = torch.linspace(-20, 20, 401, dtype=torch.float64, requires_grad=True)
    for ours, theirs in zip(_derivatives(silu, x), _derivatives(torch.nn.functional.silu, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_against_finite_differences() -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    assert gradcheck(silu, x)
    assert gradgradcheck(silu, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_arguments_stay_finite(dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, -100.0, 100.0, 1e4], dtype=dtype, requires_grad=True)
    for value in _derivatives(SiLU(), x)[:3]:
        assert value.isfinite().all()


def test_final_backward_without_a_graph_gives_the_same_second_derivative() -> None:
    x = torch.randn(7, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, dtype=torch.float64)
    results = []
    for function in (silu, torch.nn.functional.silu):
        (gradient,) = torch.autograd.grad((weights * function(x)).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
        results.append(second)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
