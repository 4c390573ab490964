"""Simple estimates agree with NumPy and SciPy, use observations only, and are finite whatever is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.interpolate import CubicHermiteSpline

from lie_sim.imputation import NAMES, Observations, estimates, neighbours


def windows(seed: int = 0, missing: float = 0.4) -> Observations:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 20, 4, 2, generator=draw, dtype=torch.float64)
    times = (0.1 + torch.rand(3, 20, generator=draw, dtype=torch.float64)).cumsum(1)
    return Observations(x, torch.rand(x.shape, generator=draw) > missing, times)


def estimate(name: str, seen: Observations) -> torch.Tensor:
    return estimates(seen)[..., NAMES.index(name)]


def test_linear_is_that_of_numpy() -> None:
    seen = windows()
    found = estimate("linear", seen)
    for b, place, m in np.ndindex(3, 4, 2):
        there = seen.observed[b, :, place, m].numpy()
        t, x = seen.times[b].numpy(), seen.values[b, :, place, m].numpy()
        expected = np.interp(t, t[there], x[there])
        assert np.abs(found[b, :, place, m].numpy() - expected)[~there].max(initial=0) < 1e-12


def test_an_observation_is_estimated_from_the_others() -> None:
    seen = windows()
    b, t, place, m = (int(k) for k in seen.observed.nonzero()[40])
    changed = seen.values.clone()
    changed[b, t, place, m] += 5.0
    other = Observations(changed, seen.observed, seen.times)
    own_mean = 5.0 / float(seen.observed[b, :, place, m].sum())
    for name, change in (("linear", 0.0), ("difference", 0.0), ("places", own_mean), ("mean", own_mean)):
        before, after = (float(estimate(name, each)[b, t, place, m]) for each in (seen, other))
        assert after - before == pytest.approx(change), name


def test_cubic_is_a_hermite_spline_and_exact_for_parabolas() -> None:
    seen = windows(missing=0.3)
    t = seen.times[:, :, None, None].expand(seen.values.shape)
    parabola = Observations(2 - t + 0.3 * t**2, seen.observed, seen.times)
    near = neighbours(seen.observed)
    before = near.before.gather(1, near.before.clamp(min=0)) >= 0
    after = near.after.gather(1, near.after.clamp(max=19)) < 20
    inside = before & after & (near.before >= 0) & (near.after < 20)
    assert int(inside.sum()) > 50
    assert float((estimate("cubic", parabola) - parabola.values).abs()[inside].max()) < 1e-9
    x, v = np.array([1.0, 3.0]), np.array([0.5, -2.0])
    spline = CubicHermiteSpline([0.0, 2.0], x, v)
    s = 0.25
    value = (1 + 2 * s) * (1 - s) ** 2 * x[0] + s * (1 - s) ** 2 * 2 * v[0]
    value += s**2 * (3 - 2 * s) * x[1] + s**2 * (s - 1) * 2 * v[1]
    assert value == pytest.approx(float(spline(0.5)))


def test_places_follow_the_others_at_their_own_level() -> None:
    wave = torch.linspace(-1, 1, 21, dtype=torch.float64)
    x = torch.stack([wave + 10, wave - 5, wave], dim=-1)[None, :, :, None]
    seen = Observations(x, torch.ones_like(x, dtype=torch.bool), torch.arange(21.0)[None])
    hidden = torch.zeros_like(seen.observed)
    hidden[0, 10, 0, 0] = True
    assert float(estimate("places", seen.hiding(hidden))[0, 10, 0, 0]) == pytest.approx(10.0)


def test_the_difference_to_the_others_is_drawn_on_through_an_outage() -> None:
    draw = torch.Generator().manual_seed(0)
    common = torch.randn(30, generator=draw, dtype=torch.float64).cumsum(0)
    drift = torch.linspace(-1, 2, 30, dtype=torch.float64)
    x = torch.stack([common + drift, common - 5, common], dim=-1)[None, :, :, None]
    seen = Observations(x, torch.ones_like(x, dtype=torch.bool), torch.arange(30.0)[None])
    hidden = torch.zeros_like(seen.observed)
    hidden[0, 10:20, 0] = True
    error = {name: float((estimate(name, seen.hiding(hidden)) - x)[hidden].abs().max()) for name in NAMES}
    assert error.pop("difference") < 1e-12
    assert min(error.values()) > 0.3, error
    alone = Observations(x[:, :, :1], ~hidden[:, :, :1], seen.times)
    assert torch.equal(estimate("difference", alone), estimate("linear", alone))


@pytest.mark.parametrize("missing", [0.0, 0.9, 1.0])
def test_estimates_are_finite_and_never_see_what_is_missing(missing: float) -> None:
    seen = windows(missing=missing)
    spoiled = Observations(torch.where(seen.observed, seen.values, torch.nan), seen.observed, seen.times)
    found = estimates(seen)
    assert bool(found.isfinite().all())
    assert torch.equal(found, estimates(spoiled))
    if missing == 1.0:
        assert float(found.abs().max()) == 0.0


def test_neighbours_are_the_nearest_observations() -> None:
    seen = windows(missing=0.6)
    near = neighbours(seen.observed)
    for b, t, place, m in np.ndindex(3, 20, 4, 2):
        there = np.flatnonzero(seen.observed[b, :, place, m].numpy())
        assert int(near.before[b, t, place, m]) == max(there[there < t], default=-1)
        assert int(near.after[b, t, place, m]) == min(there[there > t], default=20)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"times": torch.zeros(3, 20)}, "times must rise"),
        ({"times": torch.arange(19.0).expand(3, -1)}, "times"),
        ({"observed": torch.ones(3, 20, 4, 1, dtype=torch.bool)}, "observed"),
        ({"values": torch.full((3, 20, 4, 2), torch.nan)}, "an observed value is NaN"),
    ],
)
def test_impossible_observations(change: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises((ValueError, TypeCheckError), match=says):
        Observations(**vars(windows()) | change)
