"""LieSelfAttention against the paper's equations written out, and the ways to list the pairs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import silu

from lie_sim.attention import (
    COMBINATIONS,
    CONTENT_KERNELS,
    LOCATION_KERNELS,
    NORMALISATIONS,
    AttentionConfig,
    LieSelfAttention,
)
from lie_sim.attention.kernels import PerHeadMLP
from lie_sim.lifting import PairGeometry, compress

B, M, C, H, A = 2, 4, 8, 2, 3
ROUNDING = 1e-12


def random_pairs(*, listed: bool = False) -> PairGeometry:
    index = torch.randint(M, (B, M, 5)) if listed else None
    width = 5 if listed else M
    return PairGeometry(
        location=torch.randn(B, M, width, A, dtype=torch.float64),
        envelope=torch.rand(B, M, width, dtype=torch.float64),
        index=index,
        num_lifts=1,
    )


def layer_with_noise(**options) -> LieSelfAttention:
    layer = LieSelfAttention(AttentionConfig(width=C, num_heads=H, kernel_hidden=6, **options), A).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


def attend(layer, f, pairs):
    return layer(f, pairs, compress(pairs.location)).detach()


def mlp_of_head(network, head, x):
    """Three layers of one head, SiLU after each."""
    for weight, bias in zip(network.weights, network.biases, strict=True):
        x = silu(weight[head] @ x + bias[head, :, 0])
    return x


def dense_by_hand(layer, f, pairs):
    """Σ_j α_ij V_ij for every query and head, with loops; softmax with envelope."""
    content, c = layer.logits.content, C // H
    out = torch.zeros_like(f)
    for b, i, h in itertools.product(range(B), range(M), range(H)):
        part = slice(h * c, (h + 1) * c)
        logits = []
        for j in range(M):
            query, key = content.query(f[b, i])[part], content.key(f[b, j])[part]
            location = mlp_of_head(layer.logits.location, h, pairs.location[b, i, j])
            logits.append(query @ key / c**0.5 + location.squeeze())
        weights = pairs.envelope[b, i] * torch.stack(logits).exp()
        weights = weights / (layer.config.epsilon + weights.sum())
        for j in range(M):
            value = layer.value(f[b, j])
            if layer.gate is not None:
                value = value * layer.gate(compress(pairs.location[b, i, j]))
            out[b, i, part] += weights[j] * value[part]
    return layer.out(out).detach()


@pytest.mark.parametrize("gated", [False, True])
def test_dense_attention_is_the_equation_of_the_paper(gated):
    layer = layer_with_noise(location="mlp", normalisation="softmax", gated_values=gated)
    f, pairs = torch.randn(B, M, C, dtype=torch.float64), random_pairs()
    assert float((attend(layer, f, pairs) - dense_by_hand(layer, f, pairs)).abs().max()) < ROUNDING


def test_pair_network_is_its_equation():
    layer = layer_with_noise(content="none", normalisation="scaled", mean_neighbours=2.0)
    f, pairs = torch.randn(B, M, C, dtype=torch.float64), random_pairs()
    net, c = layer.network, C // H
    out = torch.zeros_like(f)
    for b, i, j in itertools.product(range(B), range(M), range(M)):
        a = pairs.location[b, i, j]
        hidden = silu(net.location(a / (1 + a**2).sqrt()) + net.query(f[b, i]) + net.source(f[b, j]))
        result = net.out(hidden)
        bias, gate = result[:H], result[H:] + net.linear_gate(a)
        weight = (bias * pairs.envelope[b, i, j] / 2.0).repeat_interleave(c)
        out[b, i] += weight * layer.value(f[b, j]) * gate
    assert float((attend(layer, f, pairs) - layer.out(out).detach()).abs().max()) < ROUNDING


def build_or_explain(options):
    """A layer, or None where the names cannot go together and the error says why."""
    try:
        return layer_with_noise(**options)
    except ValueError as error:
        known = ("needs scalar kernels", "cannot both be 'none'", "location='network'")
        if not any(words in str(error) for words in known):
            raise
        return None


def test_every_name_builds_and_runs_or_says_why_not():
    f, pairs = torch.randn(B, M, C, dtype=torch.float64), random_pairs()
    names = ("content", "location", "combination", "normalisation")
    built = 0
    for choice in itertools.product(CONTENT_KERNELS, LOCATION_KERNELS, COMBINATIONS, NORMALISATIONS):
        layer = build_or_explain(dict(zip(names, choice, strict=True)))
        if layer is None:
            continue
        built += 1
        out = attend(layer, f, pairs)
        assert out.shape == f.shape
        assert bool(out.isfinite().all())
        assert float((out - attend(layer, f.flip(1), pairs)).abs().max()) > 0, choice
    # of each normalisation: 2 with network, 8 with mlp, 4 with plain, 5 with no location
    assert built == 4 * (2 + 8 + 4 + 5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"content": "none"},
        {"normalisation": "softmax"},
        {"location": "mlp", "gated_values": False},
        {"location": "plain", "content": "concat", "combination": "mlp"},
        {"location": "mlp", "content": "concat_linear", "combination": "mlp", "normalisation": "norm_exp"},
        {"location": "mlp", "combination": "product", "normalisation": "constant"},
    ],
)
def test_all_pairs_and_listed_pairs_agree(options):
    layer = layer_with_noise(**options)
    f, pairs = torch.randn(B, M, C, dtype=torch.float64), random_pairs()
    dense = attend(layer, f, pairs)
    order = torch.stack([torch.stack([torch.randperm(M) for _ in range(M)]) for _ in range(B)])
    rows = torch.arange(B)[:, None, None], torch.arange(M)[None, :, None]
    listed = PairGeometry(
        location=pairs.location[*rows, order], envelope=pairs.envelope[*rows, order], index=order, num_lifts=1
    )
    assert float((attend(layer, f, listed) - dense).abs().max()) < ROUNDING
    padding = PairGeometry(
        location=torch.cat([listed.location, torch.randn(B, M, 2, A, dtype=torch.float64)], 2),
        envelope=torch.cat([listed.envelope, torch.zeros(B, M, 2, dtype=torch.float64)], 2),
        index=torch.cat([order, torch.zeros(B, M, 2, dtype=torch.long)], 2),
        num_lifts=1,
    )
    assert float((attend(layer, f, padding) - dense).abs().max()) < ROUNDING


def test_constant_logits_take_the_mean():
    layer = LieSelfAttention(
        AttentionConfig(C, H, location="mlp", normalisation="softmax", gated_values=False, epsilon=0.0), A
    ).double()
    with torch.no_grad():
        layer.logits.content.query.weight.zero_()
        layer.logits.content.query.bias.zero_()
        layer.logits.location.weights[2].zero_()
    f = torch.randn(B, M, C, dtype=torch.float64)
    pairs = replace(random_pairs(), envelope=torch.ones(B, M, M, dtype=torch.float64))
    mean = layer.out(layer.value(f).mean(1, keepdim=True)).detach().expand_as(f)
    assert float((attend(layer, f, pairs) - mean).abs().max()) < ROUNDING


def test_empty_neighbour_lists_leave_the_bias_only():
    for options in ({}, {"location": "plain", "content": "concat", "combination": "mlp"}):
        layer = layer_with_noise(**options)
        none = PairGeometry(
            location=torch.zeros(B, M, 0, A, dtype=torch.float64),
            envelope=torch.zeros(B, M, 0, dtype=torch.float64),
            index=torch.zeros(B, M, 0, dtype=torch.long),
            num_lifts=1,
        )
        out = attend(layer, torch.randn(B, M, C, dtype=torch.float64), none)
        assert torch.equal(out, layer.out.bias.expand_as(out))


def test_per_head_network_is_one_network_per_head():
    network = PerHeadMLP(3, 4, 5).double()
    x = torch.randn(2, 2, 6, 3, 4, dtype=torch.float64)
    result = network(x).detach()
    for b, i, j, h in itertools.product(range(2), range(2), range(6), range(3)):
        assert float((result[b, i, j, h] - mlp_of_head(network, h, x[b, i, j, h])).detach().abs()) < ROUNDING
    shared = x[..., :1, :]
    assert float((network(shared) - network(shared.expand_as(x))).detach().abs().max()) < ROUNDING


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content": "cosine"}, "unknown content 'cosine'; choose one of dot_product"),
        ({"location": "cnn"}, "unknown location 'cnn'"),
        ({"combination": "max"}, "unknown combination 'max'"),
        ({"normalisation": "sparse"}, "unknown normalisation 'sparse'"),
        ({"num_heads": 3}, "width must be a positive multiple of num_heads, got 8 and 3"),
        ({"content": "concat"}, "location='network' adds its bias"),
        ({"combination": "product"}, "location='network' adds its bias"),
        ({"gated_values": False}, "use location='mlp' for gated_values=False"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionConfig(**{"width": 8, "num_heads": 2, **options})


def test_concat_needs_an_even_number_of_features():
    config = AttentionConfig(C, H, content="concat", location="plain", combination="mlp", content_features=3)
    with pytest.raises(ValueError, match="even number, not 3"):
        LieSelfAttention(config, A)
