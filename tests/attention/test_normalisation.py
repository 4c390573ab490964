"""Attention weights against their formulas, one pair at a time."""

from __future__ import annotations

import pytest
import torch

from lie_sim.attention import NORMALISATIONS, attention_weights

ROUNDING = 1e-14


def by_hand(logits, envelope, normalisation, epsilon, mean_neighbours):
    """The equations of the module with plain loops over rows and heads."""
    out = torch.zeros_like(logits)
    for b in range(logits.shape[0]):
        for i in range(logits.shape[1]):
            for h in range(logits.shape[3]):
                row, w = logits[b, i, :, h], envelope[b, i]
                numerator = w * (row if normalisation in ("constant", "scaled") else row.exp())
                below = {
                    "softmax": epsilon + (w * row.exp()).sum(),
                    "constant": epsilon + w.sum(),
                    "norm_exp": epsilon + w.sum(),
                    "scaled": torch.tensor(mean_neighbours, dtype=logits.dtype),
                }[normalisation]
                out[b, i, :, h] = numerator / below
    return out


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 0.5])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_weights_follow_the_formula(normalisation, epsilon):
    logits = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    envelope = torch.rand(2, 3, 4, dtype=torch.float64)
    envelope[0, 1, 2] = 0.0
    weights = attention_weights(logits, envelope, normalisation, epsilon=epsilon, mean_neighbours=3.0)
    expected = by_hand(logits, envelope, normalisation, epsilon, 3.0)
    assert float((weights - expected).abs().max()) < ROUNDING


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_pair_of_weight_zero_is_absent_whatever_its_logit(normalisation):
    logits = torch.randn(1, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    envelope = torch.ones(1, 2, 4, dtype=torch.float64)
    envelope[..., 3] = 0.0
    wild = logits.detach().clone()
    wild[:, :, 3] = 800.0  # exp overflows
    wild.requires_grad_(True)
    weights = attention_weights(wild, envelope, normalisation, epsilon=0.0)
    shorter = attention_weights(logits[:, :, :3], envelope[:, :, :3], normalisation, epsilon=0.0)
    assert torch.equal(weights[:, :, 3], torch.zeros(1, 2, 2, dtype=torch.float64))
    assert torch.allclose(weights[:, :, :3], shorter, rtol=0, atol=ROUNDING)
    weights.square().sum().backward()
    assert bool(wild.grad.isfinite().all())


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("width", [0, 2])
def test_without_neighbours_nothing_is_attended(normalisation, width):
    logits = torch.randn(1, 2, width, 3, requires_grad=True)
    weights = attention_weights(logits, torch.zeros(1, 2, width), normalisation, epsilon=0.0)
    assert weights.shape == logits.shape
    assert bool((weights == 0).all())
    weights.sum().backward()
    assert bool(logits.grad.isfinite().all())


def test_softmax_neither_overflows_nor_underflows():
    logits = torch.tensor([1e4, 1e4 - 1, -1e4]).reshape(1, 1, 3, 1)
    weights = attention_weights(logits, torch.ones(1, 1, 3), "softmax").flatten()
    assert torch.allclose(weights, torch.softmax(torch.tensor([0.0, -1.0, -2e4]), 0), atol=1e-7)
    tiny = attention_weights(-logits.abs(), torch.ones(1, 1, 3), "softmax", epsilon=1e-6)
    assert bool((tiny == 0).all())  # ε outweighs e^(−10000)


def test_softmax_gradients_are_right_twice():
    logits = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    envelope = torch.rand(1, 2, 3, dtype=torch.float64, requires_grad=True)

    def softmax(x, w):
        return attention_weights(x, w, "softmax", epsilon=0.1)

    assert torch.autograd.gradcheck(softmax, (logits, envelope))
    assert torch.autograd.gradgradcheck(softmax, (logits, envelope))


def test_unknown_normalisation_is_named():
    with pytest.raises(
        ValueError, match="unknown normalisation 'sparsemax'; choose one of softmax, constant"
    ):
        attention_weights(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1), "sparsemax")


def test_softmax_without_epsilon_of_very_negative_logits() -> None:
    weights = attention_weights(torch.full((1, 1, 2, 1), -1000.0), torch.ones(1, 1, 2), "softmax")
    assert weights.flatten().tolist() == [0.5, 0.5]
    empty = attention_weights(torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2), "softmax")
    assert empty.flatten().tolist() == [0.0, 0.0]
