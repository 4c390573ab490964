"""Attention along three axes: order and places do not matter, it begins as a mixture, and it learns."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lie_sim.imputation import (
    CDSA,
    CDSAConfig,
    CrossDimensionalLayer,
    ImputationTask,
    Observations,
    estimates,
    hidden_end,
    hidden_outages,
)
from lie_sim.imputation.layers import AXES, along
from lie_sim.training import TrainingConfig, train

EXACT = 1e-12
SMALL = CDSAConfig(num_measurements=2, width=8, num_heads=2, num_layers=2)


def windows(count: int = 3, length: int = 12, places: int = 4, seed: int = 0) -> Observations:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, length, places, 2, generator=draw, dtype=torch.float64)
    times = (0.1 + torch.rand(count, length, generator=draw, dtype=torch.float64)).cumsum(1)
    return Observations(x, torch.rand(x.shape, generator=draw) > 0.3, times)


def model(config: CDSAConfig = SMALL) -> CDSA:
    torch.manual_seed(0)
    made = CDSA(config).double()
    for parameter in made.parameters():  # the head begins at zero
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_the_order_of_the_axes_does_not_matter() -> None:
    layer = model().trunk.layers[0]
    assert isinstance(layer, CrossDimensionalLayer)
    seen = windows()
    y = torch.randn(3, 12, 4, 2, 8, dtype=torch.float64)
    maps = layer.attention(y, seen.times, torch.ones(3, 12, dtype=torch.bool))
    assert [tuple(m.shape[2:]) for m in maps] == [(12, 12), (4, 4), (2, 2)]
    assert all(float((m.sum(-1) - 1).abs().max().detach()) < EXACT for m in maps)
    value = torch.randn(3, 12, 4, 2, 2, 4, dtype=torch.float64)
    found = []
    for order in itertools.permutations(range(3)):
        z = value
        for k in order:
            z = along(z, maps[k], AXES[k])
        found.append(z)
    joint = torch.einsum("bhts,bhlk,bhmn,bsknhd->btlmhd", *maps, value)
    assert max(float((z - joint).abs().max().detach()) for z in found) < EXACT


def test_places_may_be_permuted_and_their_number_may_change() -> None:
    made, seen = model(), windows()
    order = torch.tensor([2, 0, 3, 1])
    permuted = Observations(seen.values[:, :, order], seen.observed[:, :, order], seen.times)
    for name in ("estimated", "estimated_scale"):
        there, here = (getattr(made(each), name) for each in (permuted, seen))
        assert float((there - here[:, :, order]).abs().max().detach()) < EXACT
    assert made(windows(places=7, length=9)).values.shape == (3, 9, 7, 2)


def test_only_differences_of_times_matter_without_a_clock() -> None:
    made, seen = model(), windows()
    later = Observations(seen.values, seen.observed, seen.times + 1000.0)
    assert float((made(later).estimated - made(seen).estimated).abs().max().detach()) < 1e-9
    clock = model(replace(SMALL, frequencies=(2.0,)))
    assert float((clock(later).estimated - clock(seen).estimated).abs().max().detach()) > 1e-3


def test_the_unit_of_time_is_a_unit() -> None:
    seen = windows()
    hours, seconds = model(), model(replace(SMALL, unit_of_time=3600.0))
    there = seconds(Observations(seen.values, seen.observed, 3600 * seen.times))
    assert float((there.estimated - hours(seen).estimated).abs().max().detach()) < 1e-9


def test_an_untrained_model_is_the_mean_of_the_simple_estimates() -> None:
    seen = windows()
    found = CDSA(SMALL).double()(seen)
    assert float((found.estimated - estimates(seen).mean(-1)).abs().max().detach()) < EXACT
    assert torch.equal(found.values[seen.observed], seen.values[seen.observed])
    assert float(found.scale[seen.observed].detach().abs().max()) == 0.0
    assert bool((found.scale[~seen.observed] > 0).all())


def test_what_was_not_observed_is_not_seen() -> None:
    made, seen = model(), windows()
    spoiled = Observations(torch.where(seen.observed, seen.values, torch.nan), seen.observed, seen.times)
    assert torch.equal(made(spoiled).estimated, made(seen).estimated)


def test_landmarks_of_the_time_axis_are_those_of_the_linformer_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = pytest.importorskip("linformer.linformer", reason="the package linformer is not installed")
    length, width, heads, landmarks = 24, 8, 2, 6
    torch.manual_seed(1)
    theirs = package.LinformerSelfAttention(width, length, k=landmarks, heads=heads).double()
    config = CDSAConfig(num_measurements=1, width=width, num_heads=heads, landmarks=landmarks, window=length)
    layer = CrossDimensionalLayer(config).double()
    query_key = layer.maps[0]
    assert isinstance(query_key, torch.nn.Linear)
    assert layer.project is not None
    with torch.no_grad():
        query_key.weight.copy_(torch.cat([theirs.to_q.weight, theirs.to_k.weight]))
        layer.value.weight.copy_(theirs.to_v.weight)
        layer.out.load_state_dict(theirs.to_out.state_dict())
        layer.project[0].copy_(theirs.proj_k.T)
        layer.project[1].copy_(theirs.proj_v.T)
        monkeypatch.setattr(layer, "before", torch.nn.Identity())
        for parameter in layer.each[-1].parameters():
            torch.nn.init.zeros_(parameter)
        x = torch.randn(3, length, width, dtype=torch.float64)
        entries, times = x[:, :, None, None], torch.arange(length).double().expand(3, -1)
        mine = layer(entries, times, torch.ones(3, length, dtype=torch.bool)) - entries
        assert float((mine[:, :, 0, 0] - theirs(x)).abs().max()) < 1e-12


def test_frames_without_observations_do_not_reach_the_landmarks() -> None:
    config = replace(SMALL, landmarks=4, window=12)
    made, seen = model(config), windows()
    layer = made.trunk.layers[0]
    assert isinstance(layer, CrossDimensionalLayer)
    frames = torch.ones(3, 12, dtype=torch.bool)
    frames[:, 5] = False
    y = torch.randn(3, 12, 4, 2, 8, dtype=torch.float64)
    changed = y.clone()
    changed[:, 5] += 1.0
    others = torch.arange(12) != 5
    maps = [layer.attention(each, seen.times, frames)[0] for each in (y, changed)]
    assert torch.equal(maps[0][:, :, others], maps[1][:, :, others])
    with pytest.raises(ValueError, match="windows of 12 times, got 9"):
        made(windows(length=9))


def test_outages_and_single_gaps_are_hidden() -> None:
    seen = windows(count=8)
    task = ImputationTask(seen, seen, share=0.3, longest=6)
    hidden = task.batch(torch.arange(8), torch.Generator().manual_seed(0))["hidden"]
    assert not bool((hidden & ~seen.observed).any())
    series = hidden.any(1).any(-1).sum(-1)
    assert sorted([bool((series[k::2] <= 1).all()) for k in range(2)]) == [False, True], (
        "every other one an outage"
    )
    alone = ImputationTask(windows(count=1), seen, share=0.01, longest=6)
    draw = torch.Generator().manual_seed(0)
    longest = [int(alone.batch(torch.zeros(1).long(), draw)["hidden"].sum(1).max()) for _ in range(20)]
    assert max(longest) >= 4, "a single window has outages as well"
    everything = torch.ones(200, 12, 4, 2, dtype=torch.bool)
    outages = hidden_outages(everything, 6, torch.Generator().manual_seed(1))
    assert sorted(set(outages.any(-1).any(2).sum(1).tolist())) == [1, 2, 3, 4, 5, 6]


def test_a_model_that_forecasts_has_the_end_hidden() -> None:
    seen = windows(count=4)
    task = ImputationTask(seen, seen, longest=3, ahead=5)
    for hidden in (
        task.batch(torch.arange(4), torch.Generator())["hidden"],
        task.hidden(seen.observed, torch.Generator()),
    ):
        assert torch.equal(hidden[:, -5:], seen.observed[:, -5:])
        assert not bool(hidden[:, :-5].any())
    one = hidden_end(torch.ones(1, 3, 1, 1, dtype=torch.bool), 2)
    assert one.flatten().tolist() == [False, True, True]


def test_it_learns_what_no_simple_estimate_knows() -> None:
    """The second measurement is the square of the first."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(160, 12, 3, 1, generator=draw)
    values = torch.cat([x, x.square() - 1], dim=-1)
    seen = Observations(values, torch.ones_like(values, dtype=torch.bool), torch.arange(12.0).expand(160, -1))

    def part(rows: slice) -> Observations:
        return Observations(seen.values[rows], seen.observed[rows], seen.times[rows])

    task = ImputationTask(part(slice(0, 128)), part(slice(128, None)), share=0.2)
    torch.manual_seed(0)
    made = CDSA(replace(SMALL, width=16))
    hidden: Tensor = task._validation["hidden"]
    simple = (
        (estimates(part(slice(128, None)).hiding(hidden)) - values[128:, ..., None]).abs()[hidden].mean(0)
    )
    training = TrainingConfig(max_steps=250, batch_size=32, learning_rate=1e-2, validate_every=250)
    found = task.validate(train(made, task, training, progress=False).module)
    assert found["mae"] < 0.8 * float(simple.min())


def test_places_with_names_learn_who_says_what_of_whom() -> None:
    """The first of three stations is the second less the third, which no mean of the others knows."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(160, 12, 3, 1, generator=draw)
    x[:, :, 0] = x[:, :, 1] - x[:, :, 2]
    seen = Observations.of(x, torch.arange(12.0).expand(160, -1))
    task = ImputationTask(seen, seen, share=0.05, longest=8)
    errors = {}
    for places in (0, 3):
        torch.manual_seed(0)
        made = CDSA(replace(SMALL, num_measurements=1, num_places=places))
        training = TrainingConfig(max_steps=120, batch_size=32, learning_rate=2e-2, validate_every=120)
        errors[places] = task.validate(train(made, task, training, progress=False).module)["mae"]
    assert errors[3] < 0.7 * errors[0], errors


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_places": 3, "dim": 2}, "particles are exchangeable: num_places=3"),
        ({"width": 9}, "width=9 must be a multiple of num_heads=2"),
        ({"landmarks": 4}, "give both, or neither"),
        ({"unit_of_time": 0.0}, "unit_of_time must be positive"),
        ({"num_layers": 0}, "must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(SMALL, **options)


def test_what_does_not_fit_is_named() -> None:
    seen = windows()
    with pytest.raises(ValueError, match="for 3 measurements, got 2"):
        CDSA(replace(SMALL, num_measurements=3)).double()(seen)
    with pytest.raises(ValueError, match="for 5 places, got 4"):
        CDSA(replace(SMALL, num_places=5)).double()(seen)
    for options, says in (
        ({"share": 0.0}, "share must be"),
        ({"longest": 13}, "longest must be from 0"),
        ({"ahead": 12}, "ahead must be from 0 to less than the window of 12, got 12"),
    ):
        with pytest.raises(ValueError, match=says):
            ImputationTask(seen, seen, **options)
    with pytest.raises(
        TypeError, match=r"observations are torch\.float64 and the model is torch\.float32: convert"
    ):
        CDSA(SMALL)(seen)
    arrays = seen.values.numpy(), np.arange(12)[None].repeat(3, axis=0)
    assert torch.equal(Observations.of(*arrays).times[0], torch.arange(12.0).double())
    late = 1.7e9 + torch.arange(12.0).double().expand(3, -1)
    assert torch.equal(Observations.of(seen.values.float(), late).times, late), "times keep their digits"
    task = ImputationTask(seen, seen)
    with pytest.raises(TypeError, match="for a CDSA or GeometricCDSA, got Linear"):
        task.validate(torch.nn.Linear(1, 1))
