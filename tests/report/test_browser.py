"""The page in a real browser: loads without a complaint or a request, moves, and fits."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lie_sim.report import Plot, ReportData, TrajectoryView

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
PIXELS = 1.0  # a particle has moved when it moved by more than this

RED_AND_DRAWN = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [red, drawn] = [0, 0];
  for (let k = 0; k < data.length; k += 4) {
    if (data[k + 3] > 0) drawn++;
    if (data[k] === 255 && data[k + 1] === 0 && data[k + 2] === 0 && data[k + 3] === 255) red++;
  }
  return [red, drawn];
}"""


def test_loads_without_error_or_request(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report)
    assert report.page.locator(".plot path.curve").count() == 4 + 3 + 2 + 1 + 1 + 2 + 1
    assert report.complaints == []
    assert [url.split(":")[0] for url in report.requests] == ["file"]


def test_slider_and_keys_move_the_particles(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report)
    start, first_time = report.first_particle(), report.time()
    report.move_slider(150)
    moved = np.abs(report.first_particle() - start).max()
    assert moved > PIXELS, f"the first particle moved by {moved:.2f} px"
    assert report.time() > first_time
    before = report.time()
    report.page.locator("#player [data-part=canvas]").press("ArrowRight")
    assert report.time() > before
    report.page.locator("#player [data-part=canvas]").press("ArrowLeft")
    assert report.time() == before
    assert "beyond the training data" in report.page.locator("#player [data-part=readout]").inner_text()


def test_play_advances_and_pause_stops(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report)
    button = report.page.locator("#player [data-part=play]")
    button.click()
    report.wait_for_time_after(0.2)
    button.click()
    stopped = report.time()
    report.page.wait_for_timeout(250)
    assert report.time() == stopped
    report.page.locator("#player [data-part=canvas]").press(" ")
    report.wait_for_time_after(stopped)
    assert button.inner_text() == "Pause"


def test_three_dimensions_turn_by_dragging(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report)
    report.page.select_option("#player [data-part=system]", "1")
    start = report.first_particle()
    box = report.page.locator("#player [data-part=canvas]").bounding_box()
    report.page.mouse.move(box["x"] + 200, box["y"] + 200)
    report.page.mouse.down()
    report.page.mouse.move(box["x"] + 300, box["y"] + 230, steps=4)
    report.page.mouse.up()
    moved = np.abs(report.first_particle() - start).max()
    assert moved > PIXELS, f"the first particle moved by {moved:.2f} px"
    assert "not finite from t = 3.8" in report.page.locator("#player .note").inner_text()


def test_a_motion_alone_is_not_compared(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report)
    legend = report.page.locator("#player [data-part=legend]")
    readout = report.page.locator("#player [data-part=readout]")
    assert legend.is_visible()
    assert "distance" in readout.inner_text()
    report.page.select_option("#player [data-part=system]", "2")
    start = report.first_particle()
    report.move_slider(20)
    assert np.abs(report.first_particle() - start).max() > PIXELS
    assert legend.is_hidden()
    assert "distance" not in readout.inner_text() + report.page.locator("#player .note").inner_text()
    assert report.complaints == []


def test_dark_mode_by_preference_and_by_button(open_report: Any, sample_report: ReportData) -> None:
    def brightness(report: Any) -> float:
        colour = report.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return float(np.mean([int(part) for part in colour[4:-1].split(",")]))

    report = open_report(sample_report, color_scheme="light")
    light = brightness(report)
    report.page.click("#theme-toggle")
    dark = brightness(report)
    assert light > 200 > 60 > dark
    assert brightness(open_report(sample_report, color_scheme="dark")) == dark


def test_charts_answer_pointer_keys_and_legend(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(sample_report).page
    plot = page.locator("[data-chart=error] .plot")
    plot.hover()
    assert "paper preset" in plot.locator(".tooltip").inner_text()
    page.mouse.move(0, 0)
    assert plot.locator(".tooltip").is_hidden()
    plot.focus()
    page.keyboard.press("ArrowLeft")
    assert "time 24.5" in plot.locator(".tooltip").inner_text()
    page.locator("[data-chart=error] .legend button").first.click()
    assert plot.locator("path.curve").count() == 3
    page.get_by_role("button", name="by CPU time").click()
    assert "CPU time (s)" in page.locator("[data-chart=learning]").text_content()


def test_phone_has_no_sideways_scroll(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report, viewport=PHONE)
    report.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    width = report.page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"the page is {width} px wide on a phone of {PHONE['width']} px"


def test_phone_shows_selector_and_first_columns(open_report: Any, sample_report: ReportData) -> None:
    longer = replace(
        sample_report.trajectories[0], label="a label that is longer than a telephone is wide, by far"
    )
    data = replace(sample_report, trajectories=[longer, *sample_report.trajectories])
    page = open_report(data, viewport=PHONE).page
    inside = page.evaluate(
        "(() => { const box = document.querySelector('.player').getBoundingClientRect();"
        "return [...document.querySelectorAll('.player select')].every((s) => "
        "s.getBoundingClientRect().right <= box.right && s.getBoundingClientRect().left >= box.left); })()"
    )
    assert inside, "a selector is wider than its card"
    for name in ("Error", "Verdict"):
        box = page.locator("th", has_text=re.compile(f"^{name}$")).bounding_box()
        assert box["x"] + box["width"] <= PHONE["width"], f"the column {name} is out of sight"


def test_begins_with_the_chosen_system(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(replace(sample_report, first_trajectory=1)).page
    assert page.locator("#player [data-part=system]").input_value() == "1"
    assert "drag to rotate" in page.locator("#player [data-part=hint]").inner_text()


def test_reduced_motion_updates_a_few_times_a_second(open_report: Any, sample_report: ReportData) -> None:
    report = open_report(sample_report, reduced_motion="reduce")
    count = "window.seen = new Set(); new MutationObserver(() => seen.add(player.dataset.time))"
    report.page.evaluate(count + ".observe(player, {attributes: true, attributeFilter: ['data-time']})")
    report.page.click("#player [data-part=play]")
    report.page.wait_for_timeout(1100)
    assert 2 <= report.page.evaluate("seen.size") <= 7


def test_printing_unfolds_and_lightens(open_report: Any, sample_report: ReportData) -> None:
    page = open_report(sample_report, color_scheme="dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_empty_and_degenerate_reports_load(open_report: Any) -> None:
    assert open_report(ReportData(title="Nothing yet")).complaints == []
    still = np.zeros((1, 1, 2))
    hostile = "</script><script>console.error('ran')</script>"
    data = ReportData(
        title=hostile,
        trajectories=[
            TrajectoryView(hostile, np.zeros(1), still, still * np.nan, np.ones(1), [hostile], 0.0)
        ],
        learning_curve=[{"step": 1, "train_loss": None}],
        error_curves={hostile: (np.arange(3.0), np.full(3, np.nan))},
        energy_curves={"empty": (np.zeros(0), np.zeros(0)), "one point": (np.ones(1), np.ones(1))},
    )
    report = open_report(data, viewport=PHONE)
    report.page.click("#player [data-part=play]")
    report.page.wait_for_timeout(100)
    assert report.complaints == []
    assert report.page.locator("h1").inner_text() == hostile
    assert report.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_single_validation_is_a_dot_and_has_no_chart_of_its_own(open_report: Any) -> None:
    rows = [{"step": step, "train_loss": 1.0 / step} for step in (1, 2, 3)]
    rows[-1] |= {"validation_loss": 0.5, "force_mae": 0.1}
    data = ReportData(title="short", learning_curve=rows, metrics={"force_mae": "force MAE (eV/Å)"})
    page = open_report(data).page
    assert page.locator("[data-chart=learning] .plot").count() == 1
    assert page.locator("[data-chart=learning] path.dots.only").count() == 1
    for other in (0.2, float("nan")):
        rows[0] |= {"validation_loss": 0.7, "force_mae": other}
        page = open_report(data).page
        assert page.locator("[data-chart=learning] .plot").count() == 2
        assert page.locator("[data-chart=learning] path.dots.only").count() == int(np.isnan(other))


def test_a_value_between_gaps_is_a_dot_and_axes_far_from_zero_have_labels(open_report: Any) -> None:
    x = 1.7e9 + np.arange(5.0)
    plot = Plot("p", {"a": (x, np.array([1.0, np.nan, 2.0, np.nan, 3.0])), "b": (x, np.arange(5.0))})
    page = open_report(ReportData(title="x", plots=[plot])).page
    dots = page.locator(".plot path.dots")
    assert dots.count() == 1
    assert dots.get_attribute("d").count("M") == 3
    labels = page.locator(".plot text").all_text_contents()
    assert {"1700000000", "1700000002"} <= set(labels), labels


def test_colours_and_bonds_are_drawn(open_report: Any) -> None:
    q = np.zeros((5, 2, 3))
    q[:, 1, 0] = 1.0
    plain = TrajectoryView("H2", np.arange(5.0), q, None, np.ones(2))
    joined = replace(plain, colours=["#ff0000", "#ff0000"], bonds=[[0, 1]])

    def seen(view: TrajectoryView) -> tuple[int, int]:
        """Pixels that are pure red, and those that are not empty."""
        page = open_report(ReportData(title="x", trajectories=[view])).page
        red, drawn = page.locator("#player [data-part=canvas]").evaluate(RED_AND_DRAWN)
        return red, drawn

    (no_red, few), (red, many) = seen(plain), seen(joined)
    assert no_red == 0
    assert red > 50
    assert many > few + 100, "a line"
