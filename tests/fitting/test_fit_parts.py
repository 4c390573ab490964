"""Parts of a fit: units, windows, segments, starts, ends, and which way fills a gap."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lie_sim import Hamiltonian
from lie_sim.errors import DataError
from lie_sim.fitting import (
    Shooting,
    ShootingTask,
    Track,
    fit,
)
from lie_sim.fitting.ends import last_parts, motions_at_ends
from lie_sim.fitting.gaps import Filled, _length, fill, longest_gap
from lie_sim.fitting.segments import Segments
from lie_sim.fitting.shooting import segment_tensors
from lie_sim.fitting.units import units_of
from lie_sim.fitting.windows import merged, windows_of
from lie_sim.state import Particles
from tests.fitting.test_fit import QUICK, Spring, pair


def test_units_make_numbers_of_size_one() -> None:
    table = pair(noise=0.05, count=801)  # noise between neighbours is larger than their motion
    units = units_of(table.tracks, 2)
    assert units.length == pytest.approx(10 * np.sqrt(0.625 / 2), rel=0.1)
    assert units.time == pytest.approx(3 / 2, rel=0.35)
    with pytest.raises(DataError, match="nothing moves"):
        units_of([Track("", np.arange(4.0), np.ones((4, 2, 2)))], 2)


def test_windows_of_tracks_and_back() -> None:
    tracks = [
        Track("", np.arange(n, dtype=float), np.random.default_rng(n).normal(size=(n, 2, 1))) for n in (7, 11)
    ]
    windows = windows_of(tracks, 4, 3)
    assert [(k, b) for k, b in zip(windows.tracks, windows.begins, strict=True)] == [
        (0, 0), (0, 3), (1, 0), (1, 3), (1, 6), (1, 7),
    ]  # fmt: skip
    whole = merged(windows, [windows.seen.values], tracks)
    for track, (values,) in zip(tracks, whole, strict=True):
        np.testing.assert_array_equal(values, track.values)
    edge = torch.arange(len(windows)).double()[:, None, None, None].expand(windows.seen.values.shape)
    taken = merged(windows, [edge], tracks)[0][0][:, 0, 0]
    assert taken.tolist() == [0, 0, 0, 0, 1, 1, 1]  # of two windows, the one that has it more central


def test_segments_share_observations_and_know_who_follows() -> None:
    tracks = [Track("", np.linspace(0, 1, n), np.ones((n, 2, 2))) for n in (9, 6)]
    particles = Particles(masses=torch.tensor([[1.0, 2.0]], dtype=torch.float64))
    segments = Segments(tracks, 2, particles, 4)
    filled = [Filled(each.values, np.zeros_like(each.values)) for each in tracks]
    data = segments.tensors(filled, 0.5, trusted=True)
    assert data["next"].tolist() == [1, -1, 3, -1]
    assert data["last"].tolist() == [4, 4, 4, 1]
    counted = [float(data["weights"][rows].sum()) for rows in (slice(0, 2), slice(2, 4))]
    assert counted == [9 * 4 * 4, 6 * 4 * 4], "each observation once, with 1/σ²"
    assert segments.lasts.tolist() == [1, 3]


def test_starts_are_read_off_what_was_filled_in() -> None:
    t = np.linspace(0, 2, 21)
    q = np.stack([1 + t - t**2, 3 * t], axis=-1)[:, None]
    segments = Segments([Track("", t, q)], 2, Particles(masses=torch.full((1, 1), 2.0).double()), 10)
    places, momenta = segments.starts([Filled(q, np.zeros_like(q))])
    np.testing.assert_allclose(places[:, 0], [[1, 0], [1, 3]], atol=1e-12)
    np.testing.assert_allclose(momenta[:, 0], [[2, 6], [-2, 6]], atol=1e-12)


def test_what_was_filled_in_counts_by_its_scale() -> None:
    x = torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    particles = Particles(masses=torch.ones(1, 1, dtype=torch.float64))
    shooting = Shooting(Hamiltonian(Spring()), torch.ones(1, 1, 1).double(), torch.zeros(1, 1, 1).double())

    def loss(weights: list[float]) -> float:
        weighted = torch.tensor(weights, dtype=torch.float64).reshape(3, 1, 1)
        data = segment_tensors(x[0], weighted, torch.arange(3.0).double(), particles, steps=2)
        return float(ShootingTask(data, joint=1.0, step_size=1.0).validate(shooting)["validation_loss"])

    def soft(square: float) -> float:
        return float(8 * (np.sqrt(1 + square / 4) - 1))

    assert loss([4.0, 4.0, 0.0]) == pytest.approx(soft(4.0))
    assert loss([4.0, 1.0, 0.0]) == pytest.approx((soft(4.0) + soft(1.0)) / 2)
    assert loss([1e-4, 1e-4, 0.0]) == pytest.approx(1e-4, rel=1e-3), "near ones count by their squares"
    assert loss([4e8, 4e8, 0.0]) / loss([1e8, 1e8, 0.0]) == pytest.approx(2, rel=1e-3), "far ones do not"


def test_the_end_of_a_track_is_one_motion_through_many_observations() -> None:
    draw = np.random.default_rng(0)
    t = np.linspace(0, 8, 81)
    clean = np.stack([np.cos(t), np.sin(t)], axis=-1)
    clean = np.stack([clean, -clean], axis=1)  # two particles on a spring with 2 k = 1
    seen = clean + 0.1 * draw.normal(size=clean.shape)
    seen[70:74] = np.nan
    tracks = [Track("", t, seen), Track("short", t[:9], seen[:9])]
    filled = [Filled(np.where(np.isfinite(x.values), x.values, 9.0), 0 * x.values) for x in tracks]
    two = Particles(masses=torch.ones(1, 2, dtype=torch.float64))
    segments = Segments(tracks, 2, two, 4)
    places, momenta = (torch.from_numpy(np.concatenate([x[:80:4], x[:8:4]])) for x in (clean, _turned(clean)))
    spring = Spring()
    spring.log_k.data.fill_(np.log(0.5))
    shooting = Shooting(Hamiltonian(spring), places + 0.1, momenta - 0.1)
    ends, parts, starts = last_parts(segments, shooting, filled)
    assert [len(each.times) for each in ends] == [33, 9]
    assert torch.equal(starts[0], shooting.q[[12, 20]])
    found, moved = motions_at_ends(shooting.hamiltonian, ends, parts, 2, two, 0.1, steps=20, starts=starts)
    off = (moved.q[0] - torch.from_numpy(clean[48])).abs()
    assert float(off.max()) < 0.06 < float((starts[0][0] - torch.from_numpy(clean[48])).abs().max())
    assert float(spring.log_k.detach()) == pytest.approx(np.log(0.5)), "the energy stays"
    wild = tracks[1].values + 1e160 * np.arange(9)[:, None, None]
    beside = [ends[0], Track("wild", t[:9], wild)], [parts[0], Filled(wild, 0 * wild)]
    guess = torch.stack([starts[0][0], torch.full((2, 2), 1e155, dtype=torch.float64)]), starts[1]
    _, both = motions_at_ends(shooting.hamiltonian, *beside, 2, two, 0.1, steps=20, starts=guess)
    assert float((both.q[0] - moved.q[0]).abs().max()) < 0.01, "the others do not suffer"
    assert torch.equal(both.q[1], guess[0][1]), "a track that cannot be followed keeps its first guess"
    alone, _ = motions_at_ends(shooting.hamiltonian, ends[:1], parts[:1], 2, two, 0.1, steps=1)
    assert (alone.counts, found.counts) == ([1], [1, 1])


def _turned(x: np.ndarray) -> np.ndarray:
    """By a right angle: the momenta of unit circles."""
    return np.stack([-x[..., 1], x[..., 0]], axis=-1)


def test_the_window_is_longer_than_the_gaps() -> None:
    values = np.random.default_rng(0).normal(size=(90, 1, 1))
    values[10:30] = np.nan
    tracks = [Track("", np.arange(90.0), values)]
    assert (_length(tracks, 16), _length(tracks, 85)) == (80, 85)
    long = np.concatenate([values, np.full((500, 1, 1), np.nan), values])
    assert _length([Track("", np.arange(680.0), long)], 16) == 256, "a bound on what attention costs"
    assert _length([Track("", np.arange(50.0), values[:50])], 16) == 50


def test_a_gap_is_filled_by_what_expects_the_smaller_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module, kept = sys.modules["lie_sim.fitting.fit"], {}

    def by_motion(self: Segments, shooting: Shooting) -> tuple[list[Filled], float]:
        filled, residual = refilled(self, shooting)
        scale = np.where(filled[0].scale > 0, np.where(np.arange(65)[:, None, None] < 30, 1e-9, 1e9), 0.0)
        kept["motion"] = Filled(filled[0].values, scale)
        return [kept["motion"]], residual

    def by_attention(*arguments: Any, **options: Any) -> list[Filled]:
        kept["attention"] = fill(*arguments, **options)[0]
        return [kept["attention"]]

    refilled = Segments.refilled
    monkeypatch.setattr(Segments, "refilled", by_motion)
    monkeypatch.setattr(module, "fill", by_attention)
    table = pair(noise=0.01)
    fitted = fit(table, replace(QUICK, fit_steps=1))
    track, length = fitted.tracks[0], fitted.units.length
    centre = np.nanmean(table.tracks[0].values[:65], axis=(0, 1))
    for part, source in ((slice(0, 30), "motion"), (slice(30, 65), "attention")):
        missing = ~track.observed[part]
        expected = kept[source].values[part] * length + centre
        np.testing.assert_allclose(track.values[part][missing], expected[missing], rtol=1e-12)
        np.testing.assert_allclose(track.scale[part], kept[source].scale[part] * length)


def test_longest_gap_is_between_observations() -> None:
    values = np.full((9, 1, 1), np.nan)
    values[[1, 2, 6], 0, 0] = 1.0
    assert longest_gap([Track("", np.arange(9.0), values)]) == 3


def test_velocities_that_are_not_there_or_zero_do_not_tell_the_pace() -> None:
    t = np.linspace(0, 6, 61)
    q = np.stack([np.cos(t), np.sin(t)], axis=-1)[:, None]
    tables = [[Track("", t, np.concatenate([q, np.full_like(q, v)], axis=-1))] for v in (np.nan, 0.0)]
    assert [units_of(tracks, 2).time for tracks in tables] == [pytest.approx(1.0, rel=0.2)] * 2
