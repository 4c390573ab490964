"""The published architectures: sizes, values, and what each configuration field refuses."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm, silu

from lie_sim.models import (
    PAPER_PRESETS,
    FullyConnectedConfig,
    LieTransformer,
    LieTransformerConfig,
    paper_preset,
    parameter_count,
)
from lie_sim.neighbors import neighbour_matrix
from lie_sim.state import Particles

ROUNDING = 1e-12
NAN, INFINITE = float("nan"), float("inf")
PARAMETERS = {"springs-T2": 841_641, "springs-SE2": 139_353, "shapes": 10_028_081, "qm9": 55_549_761}


def test_all_presets_are_counted():
    assert set(PARAMETERS) == set(PAPER_PRESETS)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_parameter_counts(preset):
    with torch.device("meta"):
        assert parameter_count(LieTransformer.paper(preset)) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PARAMETERS)
def test_presets_run_at_a_small_width(preset):
    model = LieTransformer.paper(preset, width=32, num_layers=2)
    config = model.config
    particles = Particles(masses=torch.ones(2, 3), attributes=torch.randn(2, 3, config.num_attributes))
    q = torch.randn(2, 3, config.dim, requires_grad=True)
    energy = model.energy(q, particles)
    assert energy.shape == (2,)
    energy.sum().backward()
    assert bool(q.grad.isfinite().all())
    assert float(q.grad.abs().max()) > 0


def paper_by_hand(model, q, particles):
    """T(2) springs model of the paper in plain dense tensors: mean over particles of a pre-norm transformer."""
    w = dict(model.named_parameters())

    def linear(name, x):
        return x @ w[f"{name}.weight"].mT + w[f"{name}.bias"]

    def norm(name, x):
        return layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    heads, count = model.config.num_heads, q.shape[1]
    centred = q - q.mean(1, keepdim=True)
    a = centred[:, None] - centred[:, :, None]
    f = linear("backbone.embed", torch.cat([particles.masses[..., None], particles.attributes], -1))
    for layer in range(model.config.num_layers):
        block = f"backbone.blocks.{layer}"
        x = norm(f"{block}.norm_attention", f)
        query, key, value = (
            linear(f"{block}.attention.{name}", x).unflatten(-1, (heads, -1))
            for name in ("logits.content.query", "logits.content.key", "value")
        )
        location = a[..., None, :, None]
        for step in range(3):
            weight, bias = (
                w[f"{block}.attention.logits.location.{part}.{step}"] for part in ("weights", "biases")
            )
            location = silu(weight @ location + bias)
        logits = torch.einsum("bihc,bjhc->bijh", query, key) / query.shape[-1] ** 0.5 + location[..., 0, 0]
        f = f + linear(
            f"{block}.attention.out", torch.einsum("bijh,bjhc->bihc", logits / count, value).flatten(2)
        )
        x = norm(f"{block}.norm_feed_forward", f)
        f = f + silu(linear(f"{block}.feed_forward.second", silu(linear(f"{block}.feed_forward.first", x))))
    total = f.mean(1)
    for layer in range(3):
        total = linear(f"head.layers.{layer}", silu(total))
    return total[:, 0]


def test_springs_preset_is_the_published_architecture():
    model = LieTransformer.paper("springs-T2", width=16, num_heads=4, num_layers=2).double()
    q = torch.randn(3, 4, 2, dtype=torch.float64)
    particles = Particles(masses=torch.rand(3, 4).double(), attributes=torch.rand(3, 4, 1).double())
    error = (model.energy(q, particles) - paper_by_hand(model, q, particles)).detach().abs().max()
    assert float(error) < ROUNDING


def test_unknown_preset_and_option():
    with pytest.raises(
        ValueError, match="unknown paper preset 'springs'; choose one of springs-T2, springs-SE2"
    ):
        paper_preset("springs")
    with pytest.raises(TypeError, match="widht"):
        paper_preset("springs-T2", widht=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lifting": "none"}, "unknown lifting 'none'; choose one of frame, moments, haar, finite"),
        ({"readout": "median"}, "unknown readout 'median'"),
        ({"lifting": "moments", "num_moments": 2}, "give cutoff > 0 and num_moments >= 1"),
        ({"lifting": "moments", "cutoff": 2.0}, "give cutoff > 0 and num_moments >= 1"),
        (
            {"lifting": "moments", "cutoff": 2.0, "num_moments": 2, "chirality": True},
            "leave chirality False",
        ),
        ({"lifting": "moments", "group": "C4"}, r"'moments' is E\(d\) or SE\(d\) by construction"),
        ({"head": "wide"}, "unknown head 'wide'; choose one of residual, deep, linear"),
        ({"norm": "batch"}, "unknown norm 'batch'"),
        ({"source_weight": "charges"}, "unknown source_weight 'charges'"),
        ({"readout_weight": "charges"}, "unknown readout_weight 'charges'"),
        ({"num_attributes": 2, "attribute_mean": (0.0,)}, "attribute_mean has 1 values for num_attributes=2"),
        ({"length_scale": 0.0}, "length_scale must be positive"),
        ({"num_attributes": 2, "attribute_mean": (0.0, INFINITE)}, r"attribute_mean must be finite, got"),
        ({"num_attributes": 2, "attribute_std": (1.0, NAN)}, "attribute_std must be finite, got"),
        (
            {"num_attributes": 2, "attribute_std": (1.0, 0.0)},
            r"attribute_std\[1\] must be positive and finite",
        ),
        ({"mass_mean": NAN}, "mass_mean must be finite, got nan"),
        (
            {"num_lifts": 2},
            "num_lifts is for lifting='haar' and would have no effect with 'frame': leave it 1",
        ),
        (
            {"lifting": "finite", "group": "C4", "squash": 7.0},
            "squash is for lifting='haar' .* with 'finite'",
        ),
        ({"lifting": "finite", "group": "C4", "pose": "log"}, "pose is for lifting='haar' .* with 'finite'"),
        ({"group": "SE(2)"}, "leave group empty"),
        ({"lifting": "finite"}, "needs a group name"),
        ({"lifting": "haar", "group": "T(2)", "cutoff": 1.0}, "describes all pairs: leave cutoff 0"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LieTransformerConfig(**options)


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, INFINITE])
@pytest.mark.parametrize("name", ["length_scale", "energy_scale", "mass_std", "mean_neighbours"])
def test_scales_must_be_positive_and_finite(name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, got {value}"):
        LieTransformerConfig(**{name: value})


@pytest.mark.parametrize("value", [-1.0, NAN, INFINITE])
@pytest.mark.parametrize("name", ["cutoff", "squash", "softening", "epsilon"])
def test_lengths_must_not_be_negative(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and not negative, got {value}"):
        LieTransformerConfig(**{name: value})


@pytest.mark.parametrize(
    ("least", "names"),
    [
        (0, ["num_attributes", "num_species", "num_frames", "num_moments", "content_features"]),
        (1, ["dim", "num_lifts", "num_radial", "width", "num_heads", "num_layers", "kernel_hidden"]),
    ],
)
def test_counts_have_a_least_value(least, names):
    for name in names:
        with pytest.raises(ValueError, match=f"{name} must be at least {least}, got {least - 1}"):
            LieTransformerConfig(**{name: least - 1})
        LieTransformerConfig(**{"lifting": "haar", "group": "SE(2)", name: least})


@pytest.mark.parametrize("value", [0.0, NAN, INFINITE])
def test_energy_scale_of_the_fully_connected_network(value):
    with pytest.raises(ValueError, match="energy_scale must be positive and finite"):
        FullyConnectedConfig(energy_scale=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lifting": "haar", "group": "T(3)"}, r"T\(3\) acts in 3 dimensions, but dim=2"),
        ({"lifting": "finite", "group": "O"}, "O acts in 3 dimensions, but dim=2"),
        ({"lifting": "haar", "group": "SU(2)"}, r"there is no group 'SU\(2\)'"),
        ({"lifting": "haar", "group": "SE(2)", "pose": "quaternion"}, 'no "quaternion" encoding'),
        ({"radial": "fourier"}, "unknown radial basis 'fourier'"),
        ({"content": "cosine"}, "unknown content 'cosine'"),
        ({"width": 10}, "width must be a positive multiple of num_heads"),
    ],
)
def test_impossible_models_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LieTransformer.default(**options)


def test_inputs_are_checked():
    ones = torch.ones(1, 3)
    q = torch.zeros(1, 3, 2)
    with pytest.raises(ValueError, match=r"positions must have shape \(B, N, 2\), got \(1, 3, 3\)"):
        LieTransformer.default()(torch.zeros(1, 3, 3), Particles(masses=ones))
    with pytest.raises(ValueError, match="needs 2 attributes per particle, got None"):
        LieTransformer.default(num_attributes=2)(q, Particles(masses=ones))
    with pytest.raises(ValueError, match="needs 2 attributes per particle, got 1"):
        LieTransformer.default(num_attributes=2)(q, Particles(masses=ones, attributes=ones[..., None]))
    species = LieTransformer.default(num_species=2)
    with pytest.raises(ValueError, match=r"needs particles.species \(0 to 1\), which is None"):
        species(q, Particles(masses=ones))
    for wrong in ([0, 1, 2], [-1, 0, 1]):
        with pytest.raises(
            ValueError, match=f"species run from {min(wrong)} to {max(wrong)}; the model knows 0 to 1"
        ):
            species(q, Particles(masses=ones, species=torch.tensor([wrong])))
    periodic = Particles(masses=ones, cell=torch.eye(2)[None])
    for lifting in ({}, {"lifting": "finite", "group": "C4"}, {"lifting": "haar", "group": "T(2)"}):
        with pytest.raises(ValueError, match="this model has no cutoff: set the cutoff"):
            LieTransformer.default(**lifting)(q, periodic)
    neighbours = neighbour_matrix(q, periodic, cutoff=1.0)
    with pytest.raises(ValueError, match="use FrameLift with a neighbour matrix"):
        LieTransformer.default(lifting="haar", group="T(2)")(q, periodic, neighbours)
