"""Tables, plots and molecules keep what they are given, and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from lie_sim.report import MoleculeView, Plot, ReportData, Table
from lie_sim.report.molecule_view import MAX_ATOMS
from lie_sim.report.page import render_html
from lie_sim.report.payload import linear_limits, page_payload


def molecule(**changes) -> MoleculeView:
    parts = {"symbols": ["H", "H"], "positions": np.eye(3)[:2], "bonds": np.array([[0, 1]])}
    return MoleculeView("H2", "worst", **(parts | changes))


def test_round_trip_of_all_parts() -> None:
    curves = {"a": (np.arange(3.0), np.array([1.0, np.nan, -2.0]))}
    data = ReportData(
        title="x",
        plots=[
            Plot(
                "Energy",
                curves,
                x_name="time",
                marks={"m": np.array([1.5])},
                bands={"a": np.array([0.1, np.nan, 0.2])},
                shaded={"gap": np.array([[0.5, 1.5]])},
                note="n",
            )
        ],
        molecules=[molecule(force_error=np.full((2, 3), np.nan)), molecule(facts={"a": "b"})],
        breakdown=[Table(["a", "b"], [["x", float("nan")], ["y", None], ["z", 1.0]], title="t", bar="b")],
        metrics={"mu_mae": "dipole MAE (D)"},
        learning_curve=[{"step": 1, "mu_mae": 0.2}],
    )
    again = ReportData.from_json(data.to_json())
    assert again.to_json() == data.to_json()
    assert render_html(again) == render_html(data)
    np.testing.assert_array_equal(again.plots[0].curves["a"][1], curves["a"][1])
    assert again.molecules[0].force_error is not None
    assert np.isnan(again.molecules[0].force_error).all()
    assert again.molecules[1].force_error is None
    assert again.breakdown[0].rows == [["x", "not finite"], ["y", None], ["z", 1.0]]


def test_reports_from_before_these_parts_are_read() -> None:
    document = ReportData(title="old").to_json()
    for name in ("parity", "breakdown", "molecules", "plots", "metrics"):
        empty = "{}" if name == "metrics" else "[]"
        assert f'"{name}":{empty},' in document
        document = document.replace(f'"{name}":{empty},', "")
    assert ReportData.from_json(document).to_json() == ReportData(title="old").to_json()


def test_payload_of_a_molecule_is_centred_and_moves_with_it() -> None:
    sent = molecule().payload()
    moved = molecule(positions=np.eye(3)[:2] + 7.0).payload()
    assert sent["positions"] == moved["positions"]
    np.testing.assert_allclose(
        np.array(sent["positions"])[0] - sent["positions"][1], np.eye(3)[0] - np.eye(3)[1]
    )
    assert molecule(force_error=np.array([[np.nan, 0, 0], [0.123456, 0, 0]])).payload()["error"] == [
        [None, 0.0, 0.0],
        [0.1235, 0.0, 0.0],
    ]


def test_linear_axes_hold_negative_values_and_gaps() -> None:
    plot = Plot("x", {"a": (np.arange(4.0), np.array([-2.0, np.nan, 2.0, np.inf]))})
    sent = page_payload(ReportData(title="x", plots=[plot]))["plots"][0]
    assert sent["series"][0]["y"] == [-2, None, 2, None]
    assert sent["limits"] == pytest.approx((-2.2, 2.2))
    assert linear_limits(np.full(3, np.nan)) is None
    assert linear_limits(np.full(3, 5.0)) == pytest.approx((4.5, 5.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": []}, f"from 1 to {MAX_ATOMS} atoms can be shown, got 0"),
        ({"positions": np.zeros((3, 3))}, r"positions must have the shape \(2, 3\); got \(3, 3\)"),
        ({"force_error": np.zeros((2, 2))}, r"force_error must have the shape \(2, 3\)"),
        ({"positions": np.full((2, 3), np.nan)}, "positions must be finite"),
        ({"bonds": np.array([[0, 2]])}, "bonds must join atoms from 0 to 1"),
    ],
)
def test_molecules_that_do_not_fit_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        molecule(**changes)


def test_plots_and_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"curve 'a': both parts must have the shape \(T,\)"):
        Plot("x", {"a": (np.arange(3.0), np.arange(2.0))})
    for bands in ({"b": np.ones(3)}, {"a": np.ones(2)}):
        with pytest.raises(ValueError, match="must be of a curve, as long"):
            Plot("x", {"a": (np.arange(3.0), np.arange(3.0))}, bands=bands)
    with pytest.raises(ValueError, match=r"shaded 'x' must be stretches"):
        Plot("x", {}, shaded={"x": np.ones((2, 3))})
    with pytest.raises(ValueError, match=r"bar must be one of the columns \['a'\], got 'b'"):
        Table(["a"], [], bar="b")
    with pytest.raises(ValueError, match="unknown key 'mu_mae'"):
        ReportData(title="x", learning_curve=[{"step": 1, "mu_mae": 0.2}])


def test_plots_far_from_zero_keep_their_digits_and_bands_are_seen() -> None:
    start = 1.7e9
    times, values = start + np.arange(3.0), 500_000.125 + np.array([0.0, 0.5, 1.0])
    plot = Plot(
        "x",
        {"a": (times, values)},
        marks={"m": times[1:2]},
        bands={"a": np.array([0.0, 0.75, 0.0])},
        shaded={"gap": np.array([[start, start + 0.5]])},
    )
    sent = page_payload(ReportData(title="x", plots=[plot]))["plots"][0]
    assert sent["series"][0]["x"] == times.tolist()
    assert np.ptp(sent["series"][0]["y"]) == pytest.approx(1.0, rel=1e-3)
    assert sent["marks"][0]["x"] == [start + 1]
    assert sent["shaded"][0]["spans"] == [[start, start + 0.5]]
    low, high = sent["limits"]
    assert low < values[1] - 0.75 < values[1] + 0.75 < high


def test_a_wide_band_or_a_curve_that_diverged_does_not_spoil_the_axis() -> None:
    times, values = np.arange(3.0), np.array([0.0, 1.0, 2.0])
    wide = Plot("x", {"a": (times, values)}, bands={"a": np.array([0.0, 1e6, 0.0])})
    lost = Plot("y", {"a": (times, np.array([-1.7e308, 1.7e308, 0.0]))})
    sent = page_payload(ReportData(title="x", plots=[wide, lost]))["plots"]
    assert sent[0]["limits"] == pytest.approx((-2.3, 4.3))
    assert len(sent[1]["series"][0]["y"]) == 3
