"""The inner product of two features depends on the difference of the times only, and phases keep their digits."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from lie_sim.time_encoding import BochnerTime, MercerTime, TimeMap, build_time_map

MAPS = [BochnerTime([0.7, 2.3, 5.0]), MercerTime([0.7, 2.3], degree=3)]
LATE = 1e6
"""A late time; its phases have lost six digits of float64, and all of float32."""


@pytest.mark.parametrize("time", MAPS, ids=lambda time: time.name)
def test_the_kernel_is_the_inner_product(time: TimeMap) -> None:
    t = torch.linspace(-20, 40, 61, dtype=torch.float64)
    features = time(t)
    assert features.shape == (61, time.num_features)
    assert float((features @ features.T - time.kernel(t[:, None] - t)).abs().max().detach()) < 1e-12


@pytest.mark.parametrize("time", MAPS, ids=lambda time: time.name)
def test_a_shift_of_all_times_changes_no_inner_product(time: TimeMap) -> None:
    t = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30
    inner = [time(t + shift) @ time(t + shift).T for shift in (0.0, LATE)]
    assert float((inner[0] - inner[1]).abs().max().detach()) < 1e-8


@pytest.mark.parametrize("time", MAPS, ids=lambda time: time.name)
def test_derivatives(time: TimeMap) -> None:
    t = torch.tensor([-3.0, 0.0, 0.4, 17.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(time, (t,))
    assert gradcheck(time.kernel, (t,))
    time(t).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in time.parameters())


def test_float32_features_have_the_phase_of_float64() -> None:
    time = BochnerTime([3.7]).float()
    late = torch.tensor([2.0**20], dtype=torch.float32)  # a number of float32
    expected = math.cos(3.7 * 2.0**20)
    assert time(late).dtype == torch.float32
    assert abs(float(time(late)[0, 0].detach()) - expected) < 1e-6


@pytest.mark.parametrize("convert", ["float", "half", "double"])
def test_frequencies_keep_their_digits(convert: str) -> None:
    time = BochnerTime([math.pi])
    before = time.frequencies.detach().clone()
    assert torch.equal(getattr(copy.deepcopy(time), convert)().frequencies, before)
    assert torch.equal(time.to(torch.float32).frequencies, before)
    assert time.shift.dtype == torch.float64


@pytest.mark.parametrize("time", MAPS, ids=lambda time: time.name)
def test_a_map_is_made_again_from_its_options(time: TimeMap) -> None:
    again = build_time_map(time.name, **time.options())
    again.load_state_dict(time.state_dict())
    t = torch.linspace(0, 9, 7)
    assert torch.equal(again(t), time(t))


def test_frequencies_of_samples() -> None:
    t = np.random.default_rng(0).uniform(0, 60, 400)
    forces = np.stack([np.sin(1.1 * t), 2 * np.cos(2.9 * t + 1)], axis=-1)
    found = MercerTime.from_samples(torch.from_numpy(t), torch.from_numpy(forces), 2, degree=2)
    assert found.num_features == 10
    assert found.frequencies.tolist() == pytest.approx([2.9, 1.1], rel=1e-6)


@pytest.mark.parametrize("frequencies", [[], [0.0], [-1.0], [math.nan], [math.inf]])
def test_impossible_frequencies(frequencies: list[float]) -> None:
    with pytest.raises(ValueError, match="list of positive numbers"):
        BochnerTime(frequencies)


def test_frequencies_are_learned_at_a_rate_of_their_own() -> None:
    slow, still = BochnerTime([2.0], rate=0.01), BochnerTime([2.0], rate=0.0)
    t = torch.tensor([0.3], dtype=torch.float64)
    optimizer = torch.optim.Adam([slow.shift], lr=1e-2)
    slow(t)[0, 0].backward()
    optimizer.step()
    assert abs(float(slow.frequencies.detach()) - 2.0) == pytest.approx(2.0 * 1e-4, rel=1e-3)
    assert not any(p.requires_grad for p in still.parameters())


def test_what_is_impossible_is_named() -> None:
    with pytest.raises(ValueError, match="rate must be finite and not negative, got -1"):
        BochnerTime([1.0], rate=-1.0)
    with pytest.raises(ValueError, match="degree must be at least 1, got 0"):
        MercerTime([1.0], degree=0)
    with pytest.raises(ValueError, match="choose one of bochner, mercer"):
        build_time_map("fourier")
