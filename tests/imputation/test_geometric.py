"""Estimates of vectors turn, shift and permute with the data, and learn what conservation laws say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline
from torch import Tensor

from lie_sim.imputation import (
    CDSA,
    NAMES,
    CDSAConfig,
    GeometricCDSA,
    ImputationTask,
    Observations,
    build_imputer,
    estimates,
    hermite,
)
from lie_sim.training import TrainingConfig, train

EXACT = 1e-12


def config(dim: int, kinds: int = 2) -> CDSAConfig:
    return CDSAConfig(num_measurements=kinds, width=8, num_heads=2, num_layers=2, dim=dim)


def windows(dim: int, kinds: int = 2, missing: float = 0.3) -> Observations:
    draw = torch.Generator().manual_seed(dim)
    x = torch.randn(3, 12, 4, kinds * dim, generator=draw, dtype=torch.float64)
    times = (0.1 + torch.rand(3, 12, generator=draw, dtype=torch.float64)).cumsum(1)
    whole = torch.rand(3, 12, 4, kinds, generator=draw) > missing
    return Observations(x, whole.repeat_interleave(dim, dim=-1), times)


def model(options: CDSAConfig) -> GeometricCDSA:
    torch.manual_seed(0)
    made = GeometricCDSA(options).double()
    for parameter in made.parameters():  # the head begins at zero
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def moved(seen: Observations, turn: Tensor, shift: Tensor) -> Observations:
    kinds = seen.values.unflatten(-1, (-1, len(turn))) @ turn.T
    kinds = torch.cat([kinds[..., :1, :] + shift, kinds[..., 1:, :]], dim=-2)
    return Observations(kinds.flatten(-2), seen.observed, seen.times)


@pytest.mark.parametrize("kinds", [1, 2])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_estimates_turn_shift_and_reflect_with_the_data(dim: int, kinds: int) -> None:
    made, seen = model(config(dim, kinds)), windows(dim, kinds)
    draw = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=draw, dtype=torch.float64)).Q
    shift = 3 * torch.randn(dim, generator=draw, dtype=torch.float64)
    for sign in (1.0, -1.0):  # one of them is a reflection, where dim is odd
        there = made(moved(seen, sign * turn, shift))
        here = made(seen)
        expected = moved(Observations(here.estimated, seen.observed, seen.times), sign * turn, shift).values
        assert float((there.estimated - expected).abs().max().detach()) < 3 * EXACT
        assert float((there.estimated_scale - here.estimated_scale).abs().max().detach()) < 3 * EXACT


def test_mirrored_data_have_mirrored_estimates() -> None:
    made, seen = model(config(2)), windows(2)
    mirror = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    none = torch.zeros(2, dtype=torch.float64)
    expected = moved(
        Observations(made(seen).estimated.detach(), seen.observed, seen.times), mirror, none
    ).values
    assert float((made(moved(seen, mirror, none)).estimated - expected).abs().max().detach()) < EXACT


def test_particles_have_no_order_and_no_number() -> None:
    made, seen = model(config(2)), windows(2)
    order = torch.tensor([2, 0, 3, 1])
    permuted = Observations(seen.values[:, :, order], seen.observed[:, :, order], seen.times)
    change = made(permuted).estimated - made(seen).estimated[:, :, order]
    assert float(change.abs().max().detach()) < EXACT
    alone = Observations(seen.values[:, :, :1], seen.observed[:, :, :1], seen.times)
    assert bool(made(alone).estimated.isfinite().all())


def test_half_a_vector_is_none() -> None:
    made, seen = model(config(2)), windows(2)
    half = seen.observed.clone()
    half[..., 1] = False
    spoiled = torch.where(half, seen.values, torch.nan)
    spoiled[..., 0] += 1.0
    gone = half.clone()
    gone[..., 0] = False
    without = made(Observations(seen.values, gone, seen.times))
    assert torch.equal(made(Observations(spoiled, half, seen.times)).estimated, without.estimated)


@pytest.mark.parametrize("missing", [0.0, 0.9, 1.0])
def test_estimates_are_finite_whatever_is_missing(missing: float) -> None:
    found = model(config(3))(windows(3, missing=missing))
    assert bool(found.estimated.isfinite().all() and (found.estimated_scale > 0).all())


def test_an_untrained_model_is_the_mean_of_the_simple_estimates() -> None:
    seen = windows(2, kinds=1)
    found = GeometricCDSA(config(2, kinds=1)).double()(seen).estimated
    assert (
        float((found - estimates(seen).mean(-1)).abs().max().detach()) < 1e-6
    )  # weights are drawn in float32


def test_hermite_is_that_of_scipy() -> None:
    draw = np.random.default_rng(0)
    t, x, v = np.sort(draw.uniform(0, 9, 12)), draw.normal(size=12), draw.normal(size=12)
    there = np.ones(12, dtype=bool)
    there[[2, 5, 6, 7, 9]] = False
    spline = CubicHermiteSpline(t[there], x[there], v[there])
    observed = torch.from_numpy(there).reshape(1, -1, 1, 1)
    times = torch.from_numpy(t)[None]
    q, rate = (Observations(torch.from_numpy(each).reshape(1, -1, 1, 1), observed, times) for each in (x, v))
    for found, expected in zip(hermite(q, rate), (spline(t), spline(t, 1)), strict=True):
        assert np.abs(found.flatten().numpy() - expected)[~there].max() < 1e-12


def test_it_learns_where_the_centre_of_mass_leaves_a_hidden_particle() -> None:
    """Three equal particles whose centre is at rest: where one is, the others say, and no mean of estimates."""
    draw = torch.Generator().manual_seed(0)
    walk = torch.randn(160, 20, 3, 2, generator=draw).cumsum(1) / 3
    values = walk - walk.mean(2, keepdim=True)
    times = torch.arange(20.0).expand(160, -1)

    def part(rows: slice) -> Observations:
        return Observations.of(values[rows], times[rows])

    task = ImputationTask(part(slice(0, 128)), part(slice(128, None)), share=0.1, longest=12, components=2)
    hidden: Tensor = task._validation["hidden"]
    assert torch.equal(hidden[..., 0], hidden[..., 1])
    simple = (
        (estimates(part(slice(128, None)).hiding(hidden)) - values[128:, ..., None]).abs()[hidden].mean(0)
    )
    torch.manual_seed(0)
    made = build_imputer(replace(config(2, kinds=1), num_layers=1))
    training = TrainingConfig(max_steps=150, batch_size=32, learning_rate=2e-2, validate_every=150)
    found = task.validate(train(made, task, training, progress=False).module)
    assert found["mae"] < 0.5 * float(simple.min()), (found, dict(zip(NAMES, simple.tolist(), strict=True)))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"for 2 vectors of 2 components, .* 4 measurements; got 3"):
        GeometricCDSA(config(2))(Observations.of(torch.zeros(1, 2, 1, 3), torch.arange(2.0)[None]))
    with pytest.raises(
        ValueError, match="positions and velocities, without landmarks; got dim=2, num_measurements=3"
    ):
        config(2, kinds=3)
    with pytest.raises(ValueError, match="use CDSA"):
        GeometricCDSA(config(0))
    with pytest.raises(ValueError, match="GeometricCDSA"):
        CDSA(config(2))
    seen = windows(3, kinds=1)
    with pytest.raises(ValueError, match="components=2 do not divide 3 measurements"):
        ImputationTask(seen, seen, components=2)
