"""Figures are those of all points, dots are few and lose no outlier."""

from __future__ import annotations

import numpy as np
import pytest

from lie_sim.report import Parity, ReportData
from lie_sim.report.page import render_html
from lie_sim.report.parity import MAX_DOTS

ROUNDING = 1e-12  # sums of 10^5 numbers of order one, in another order


def points(count: int = 100_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    true = generator.normal(size=count)
    return true, true + 0.1 * generator.normal(size=count)


def test_figures_are_those_of_all_points() -> None:
    true, predicted = points()
    made = Parity.measure("force", true, predicted, unit="eV/Å", error_unit="meV/Å", error_scale=1000.0)
    off = predicted - true
    expected = {
        "count": true.size,
        "mae": 1000 * np.abs(off).sum() / true.size,
        "rmse": 1000 * np.linalg.norm(off) / np.sqrt(true.size),
        "r2": 1 - off.var() / true.var(),
        "outside": 0,
    }
    assert made.figures["mae"] != pytest.approx(1000 * np.abs(made.predicted - made.true).mean(), rel=0.01)
    for name, value in expected.items():
        tolerance = 1e-5 if name == "r2" else ROUNDING  # the mean error is not quite 0
        assert made.figures[name] == pytest.approx(value, rel=tolerance), name


def test_dots_are_few_stand_for_all_and_keep_the_worst() -> None:
    true, predicted = points()
    predicted[7] = true[7] + 1.5
    made = Parity.measure("force", true, predicted)
    assert 100 < made.true.size <= MAX_DOTS
    assert made.stands_for.sum() == true.size
    worst = np.argmax(np.abs(made.predicted - made.true))
    assert (made.true[worst], made.predicted[worst]) == (true[7], predicted[7])
    assert set(made.true.tolist()) <= set(true.tolist()), "a dot is a point that was measured"
    assert made.stands_for.max() > 20 * made.stands_for.min()
    for order in (
        [0.5001, 0.5004, 0.5002],
        [0.5004, 0.5001, 0.5002],
    ):  # one cell: the largest error is its dot
        one = Parity.measure("x", np.array([0.0, 0.5, 0.5, 0.5, 1.0]), np.array([0.0, *order, 1.0]))
        assert one.predicted.tolist() == [0.0, 0.5004, 1.0]
        assert one.stands_for.tolist() == [1, 3, 1]


def test_few_points_are_all_drawn_and_the_order_is_none() -> None:
    true, predicted = np.linspace(0, 1, 20), np.linspace(0, 1, 20) ** 2
    made = Parity.measure("x", true, predicted)
    np.testing.assert_array_equal(made.true, true)
    shuffled = np.random.default_rng(1).permutation(20)
    again = Parity.measure("x", true[shuffled], predicted[shuffled])
    np.testing.assert_array_equal(again.predicted, made.predicted)
    assert again.figures == pytest.approx(made.figures, rel=ROUNDING)


def test_predictions_that_left_the_axes_are_counted() -> None:
    true = np.linspace(0.0, 1.0, 50)
    predicted = true.copy()
    predicted[:3] = [np.nan, np.inf, 1e9]
    made = Parity.measure("x", true, predicted)
    assert made.figures["outside"] == 3
    assert np.isnan(made.figures["mae"]), "an error that is not finite must not be averaged away"
    assert made.true.size == 47
    nothing = Parity.measure("x", true, np.full(50, np.nan))
    assert (nothing.true.size, nothing.counts.sum()) == (0, 0)
    data = ReportData(title="x", parity=[made, nothing])
    again = ReportData.from_json(data.to_json())
    assert again.to_json() == data.to_json()
    assert np.isnan(again.parity[0].figures["mae"])
    assert render_html(again) == render_html(data)


def test_histogram_holds_all_but_the_outliers() -> None:
    true, predicted = points()
    made = Parity.measure("x", true, predicted)
    np.testing.assert_allclose(made.edges, -made.edges[::-1], atol=1e-12)
    assert 0.99 * true.size < made.counts.sum() <= true.size
    assert made.edges[-1] == pytest.approx(np.quantile(np.abs(predicted - true), 0.995))


def test_a_page_of_a_million_points_stays_small() -> None:
    true, predicted = points(1_000_000)
    size = len(render_html(ReportData(title="x", parity=[Parity.measure("x", true, predicted)])).encode())
    empty = len(render_html(ReportData(title="x")).encode())
    assert size - empty < 80_000, f"{size - empty} bytes for one quantity; 2500 dots of 3 numbers take 60 kB"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, not empty; got \(2,\), \(3,\)"):
        Parity.measure("x", np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="one shape, not empty"):
        Parity.measure("x", np.ones(0), np.ones(0))
    with pytest.raises(ValueError, match="'mu': reference values must be finite"):
        Parity.measure("mu", np.array([np.nan]), np.ones(1))
    with pytest.raises(ValueError, match="must have one shape"):
        Parity("x", "", np.ones(2), np.ones(2), np.ones(1), np.arange(3), np.ones(2), figures={})
    with pytest.raises(ValueError, match="2 bins need one more edge"):
        Parity("x", "", np.ones(2), np.ones(2), np.ones(2), np.arange(2), np.ones(2), figures={})
    constant = Parity.measure("x", np.ones(3), np.ones(3))
    assert np.isnan(constant.figures["r2"])
