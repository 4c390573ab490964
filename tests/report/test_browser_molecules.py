"""Predictions, molecules and linear plots in a real browser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lie_sim.report import MoleculeView, ReportData

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
PIXELS = 1.0  # an atom has moved when it moved by more than this
CANVAS = "#molecules [data-part=canvas]"
ROUNDING = (
    0.2  # pixels: the height of the canvas is no whole number of them, its middle is off by up to a quarter
)
COUNT = """(canvas) => {
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  return data.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""


AT_THE_EDGE = """(canvas) => {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const rows = [[0, 0, width, 2], [0, height - 2, width, 2], [0, 0, 2, height], [width - 2, 0, 2, height]];
  const bytes = rows.flatMap((row) => [...context.getImageData(...row).data]);
  return bytes.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""


def first_atom(page: Any) -> np.ndarray:
    return np.array([float(page.locator(CANVAS).get_attribute(f"data-first-{axis}")) for axis in "xy"])


def picture(page: Any) -> str:
    """What is on the canvas, as one text."""
    return str(page.locator(CANVAS).evaluate("(canvas) => canvas.toDataURL()"))


def test_molecules_turn_by_mouse_and_keys_and_zoom(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(sample_report).page
    start = first_atom(page)
    page.locator(CANVAS).scroll_into_view_if_needed()
    box = page.locator(CANVAS).bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 220, steps=3)
    page.mouse.up()
    dragged = first_atom(page)
    assert np.abs(dragged - start).max() > PIXELS
    page.locator(CANVAS).press("ArrowLeft")
    assert np.abs(first_atom(page) - dragged).max() > PIXELS
    page.locator(CANVAS).press("0")
    np.testing.assert_allclose(first_atom(page), start)
    middle = np.array([box["width"], box["height"]]) / 2
    page.locator(CANVAS).press("+")
    np.testing.assert_allclose(first_atom(page) - middle, 1.25 * (start - middle), atol=ROUNDING)


def test_a_turn_keeps_the_shape(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(sample_report).page
    page.locator(CANVAS).press("ArrowLeft")
    for _ in range(30):
        page.locator(CANVAS).press("ArrowUp")
        page.locator(CANVAS).press("ArrowRight")
    box = page.locator(CANVAS).bounding_box()
    reach = np.abs(first_atom(page) - np.array([box["width"], box["height"]]) / 2).max()
    assert reach < box["height"] / 2, "an atom wandered off: the view is no rotation any more"


def test_selector_colours_labels_and_arrows(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report)
    page = report.page
    assert page.locator("#molecules optgroup").evaluate_all("(all) => all.map((one) => one.label)") == [
        "largest errors",
        "smallest errors",
    ]
    legend = page.locator("#molecules [data-part=legend]")
    assert legend.locator("li").all_inner_texts() == ["H", "O", "longest arrow 50 meV/Å"]
    assert "1.2 meV/atom" in page.locator("#molecules [data-part=facts]").inner_text()
    plain = picture(page)
    for change in (
        lambda: page.locator("#molecules [data-part=arrows]").uncheck(),
        lambda: page.select_option("#molecules [data-part=labels]", "error"),
        lambda: page.select_option("#molecules [data-part=colour]", "error"),
    ):
        change()
        other = picture(page)
        assert other != plain
        plain = other
    assert legend.locator("li").all_inner_texts() == ["no error", "50 meV/Å"]
    page.hover(CANVAS, position={"x": 5, "y": 5})
    assert page.locator("#molecules [data-part=hint]").inner_text() == "drag to turn"
    x, y = first_atom(page)
    page.hover(CANVAS, position={"x": float(x), "y": float(y)})
    assert page.locator("#molecules [data-part=hint]").inner_text() == "O 0: force error 50 meV/Å"
    page.select_option("#molecules [data-part=structure]", "1")
    assert report.complaints == []


def test_molecules_without_forces_have_no_arrows(open_report: Any, sample_report: ReportData) -> None:
    views = [replace(view, force_error=None) for view in sample_report.molecules]
    lone = MoleculeView("He", "smallest errors", ["He"], np.zeros((1, 3)), np.zeros((0, 2)))
    report = open_report(replace(sample_report, molecules=[*views, lone]), viewport=PHONE)
    assert report.page.locator("#molecules [data-part=arrows]").is_hidden()
    report.page.select_option("#molecules [data-part=structure]", "2")
    assert report.page.locator(CANVAS).evaluate(COUNT) > 100, "the atom is drawn"
    assert report.complaints == []


def test_a_round_molecule_is_seen_in_full(open_report: Any, sample_report: ReportData) -> None:
    ball = np.random.default_rng(0).normal(size=(60, 3))
    ball *= 4.0 / np.linalg.norm(ball, axis=1, keepdims=True)
    none, large = np.zeros((0, 2)), {"Cs": 2.44}
    views = [
        MoleculeView("ball", "largest errors", ["C"] * 60, ball, none),
        MoleculeView("arrows", "largest errors", ["C"] * 60, ball, none, force_error=ball),
        MoleculeView("one", "largest errors", ["Cs"], np.zeros((1, 3)), none, radii=large),
        MoleculeView("two", "largest errors", ["Cs", "Cs"], 2.3 * np.eye(3)[:2], none, radii=large),
    ]
    for viewport in (None, PHONE):
        page = open_report(replace(sample_report, molecules=views), viewport=viewport).page
        for number in range(len(views)):
            page.select_option("#molecules [data-part=structure]", str(number))
            assert page.locator(CANVAS).evaluate(COUNT) > 100, "the atoms are drawn"
            assert page.locator(CANVAS).evaluate(AT_THE_EDGE) == 0, views[number].label


def test_dark_mode_reaches_the_canvas(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(sample_report, color_scheme="light").page
    page.select_option("#molecules [data-part=colour]", "error")
    light = picture(page)
    page.click("#theme-toggle")
    assert picture(page) != light


def test_predictions_answer_pointer_and_keys(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(sample_report).page
    cards = page.locator("[data-chart=parity] > .chart")
    assert cards.count() == 2
    assert "MAE 0.1 D · RMSE 0.1 D" in cards.nth(1).inner_text()
    assert "3 of them are off the axes or not finite" in cards.nth(0).inner_text()
    plot = cards.nth(0).locator(".plot")
    plot.focus()
    page.keyboard.press("ArrowRight")
    tooltip = plot.locator(".tooltip")
    sent = sample_report.parity[0]
    worst = np.argmax(np.abs(sent.predicted - sent.true))
    expected = 1000 * (sent.predicted[worst] - sent.true[worst])
    shown = tooltip.inner_text().replace("×10³", "e3")
    assert f"{float(f'{expected:.3g}'):g}" in shown, "the first key reads the largest error"
    first = tooltip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tooltip.inner_text() != first
    page.keyboard.press("Tab")
    assert tooltip.is_hidden()
    middle = plot.bounding_box()
    page.mouse.move(middle["x"] + 54 + (middle["width"] - 64) / 2, middle["y"] + 8 + 206)
    assert "reference" in tooltip.inner_text()


def test_linear_plot_has_its_marks_and_reads_negative_values(
    open_report: Any, sample_report: ReportData
) -> None:
    page = open_report(sample_report).page
    chart = page.locator("[data-chart=plot-0]")
    assert chart.locator("path.curve").count() == 2
    assert chart.locator("path.marks").get_attribute("d").count("M") == 2
    assert chart.locator("rect.shaded").count() == 2
    assert chart.locator("path.band").get_attribute("d").count("M") == 1, "one unbroken part"
    assert "heating" in chart.locator(".legend").inner_text()
    assert chart.locator(".stretch-key").bounding_box()["width"] > 10, "its key is seen"
    before = chart.locator("path.band").count()
    chart.locator(".legend button").nth(1).click()
    assert (before, chart.locator("path.band").count()) == (1, 0), "a hidden curve has no band"
    chart.locator(".legend button").nth(1).click()
    chart.locator(".plot").focus()
    page.keyboard.press("ArrowRight")
    text = chart.locator(".tooltip").inner_text()
    assert "-3" in text
    assert "nearest harmonic" in text
    assert "5 ps" in text


def test_phone_has_room_for_all_of_it(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report, viewport=PHONE)
    width = report.page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"the page is {width} px wide on a phone of {PHONE['width']} px"
    assert report.complaints == []
