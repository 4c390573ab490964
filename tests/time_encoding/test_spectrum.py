"""Periods are found at irregular times, in noise, the strongest first; what cannot be found is said."""

from __future__ import annotations

import numpy as np
import pytest

from lie_sim.time_encoding import spectral_frequencies

OMEGA = np.array([0.8, 0.8 * 5**0.5, 4.1])
AMPLITUDES = np.array([1.0, 0.6, 0.3])


def samples(seed: int, count: int, noise: float, *, regular: bool = False) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    t = np.linspace(0, 40, count) if regular else draw.uniform(0, 40, count)
    waves = (AMPLITUDES * np.cos(t[:, None] * OMEGA + [0.1, 2.0, 4.0])).sum(1)
    return t, 3.0 + waves + noise * draw.normal(size=count)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("regular", [True, False])
def test_frequencies_in_noise(seed: int, regular: bool) -> None:
    t, y = samples(seed, 800, 0.5, regular=regular)
    found = spectral_frequencies(t, y, 3)
    assert found.frequencies == pytest.approx(OMEGA, rel=0.01)
    assert found.periods == pytest.approx(2 * np.pi / OMEGA, rel=0.01)
    assert bool((np.diff(found.explained) > 0).all())
    assert found.resolution == pytest.approx(2 * np.pi / 40, rel=0.02)


def test_without_noise_they_are_exact_and_their_share_is_known() -> None:
    t, y = samples(0, 300, 0.0)
    found = spectral_frequencies(t, y, 3)
    assert found.frequencies == pytest.approx(OMEGA, rel=1e-8)
    assert found.explained[-1] == pytest.approx(1.0, abs=1e-12)


def test_order_offset_and_unit_of_time_do_not_matter() -> None:
    t, y = samples(1, 400, 0.2)
    expected = spectral_frequencies(t, y, 2).frequencies
    shuffled = np.random.default_rng(0).permutation(len(t))
    assert spectral_frequencies(t[shuffled], y[shuffled], 2).frequencies == pytest.approx(expected, rel=1e-6)
    assert spectral_frequencies(t + 1e5, y, 2).frequencies == pytest.approx(expected, rel=1e-6)
    assert spectral_frequencies(t / 3600, y, 2).frequencies == pytest.approx(3600 * expected, rel=1e-6)


def test_signals_are_searched_together_and_gaps_left_out() -> None:
    t, y = samples(2, 400, 0.1)
    both = np.stack([y, np.sin(6.0 * t)], axis=-1)
    both[5, 0] = np.nan
    found = spectral_frequencies(t, both, 2)
    assert sorted(found.frequencies) == pytest.approx([0.8, 6.0], rel=0.01)


def test_a_range_of_periods() -> None:
    t, y = samples(0, 800, 0.1)
    assert spectral_frequencies(t, y, 1, longest_period=5.0).frequencies == pytest.approx(
        [OMEGA[1]], rel=0.01
    )


@pytest.mark.parametrize(
    ("t", "y", "count", "says"),
    [
        (np.arange(3.0), np.arange(3.0), 1, "need at least 8 samples"),
        (np.arange(20.0), np.full(20, np.nan), 1, "got 0 without a NaN"),
        (np.arange(20.0), np.ones(20), 1, "constant"),
        (np.arange(20.0), np.ones(19), 1, r"got \(20,\) and \(19,\)"),
        (np.arange(20.0), np.arange(20.0), 0, "count must be at least 1"),
        (np.zeros(20), np.arange(20.0), 1, "got 1 without"),
    ],
)
def test_what_cannot_be_searched(t: np.ndarray, y: np.ndarray, count: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        spectral_frequencies(t, y, count)


def test_a_pure_wave_has_no_second_frequency() -> None:
    t = np.linspace(0, 40, 200)
    with pytest.raises(ValueError, match="1 frequencies explain all"):
        spectral_frequencies(t, np.cos(2.0 * t), 2)
    with pytest.raises(ValueError, match="leave nothing to look for"):
        spectral_frequencies(t, np.cos(2.0 * t), 1, shortest_period=50.0)
