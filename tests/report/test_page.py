"""The page holds all parts, leaks no markup, asks nothing of a network, and stays small."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lie_sim.report import MoleculeView, Parity, Plot, ReportData, Table, TrajectoryView, write_report
from lie_sim.report.figures import PALETTE
from lie_sim.report.page import render_html
from lie_sim.report.payload import MAX_FRAMES, embed_json, log_limits, page_payload, sample_indices
from lie_sim.report.sections import LEADS
from lie_sim.report.tables import without_none

MAX_PAGE_BYTES = 600_000  # two long trajectories and all curves; a page must travel by mail
ROUNDING = 1e-5  # 5 significant digits


class _Outline(HTMLParser):
    """Elements with their attributes, and the text inside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
            self._in_script = False


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{script}}'


def hostile_report() -> ReportData:
    view = TrajectoryView(
        HOSTILE, np.arange(2.0), np.ones((2, 1, 2)), np.ones((2, 1, 2)), np.ones(1), [HOSTILE]
    )
    molecule = MoleculeView(
        HOSTILE, HOSTILE, [HOSTILE], np.zeros((1, 3)), np.zeros((0, 2)), facts={HOSTILE: HOSTILE}
    )
    return ReportData(
        title=HOSTILE,
        subtitle=HOSTILE,
        parity=[Parity.measure(HOSTILE, np.arange(2.0), np.arange(2.0), unit=HOSTILE, note=HOSTILE)],
        breakdown=[Table([HOSTILE, "MAE"], [[HOSTILE, 1.0]], title=HOSTILE, bar="MAE", note=HOSTILE)],
        molecules=[molecule],
        plots=[Plot(HOSTILE, {HOSTILE: (np.arange(2.0), np.ones(2))}, note=HOSTILE)],
        summary={HOSTILE: HOSTILE},
        trajectories=[view],
        error_curves={HOSTILE: (np.arange(2.0), np.ones(2))},
        configuration={HOSTILE: {HOSTILE: HOSTILE}, "plain": HOSTILE},
    )


def test_hostile_text_stays_text() -> None:
    harmless, hostile = _Outline(render_html(ReportData(title="x"))), _Outline(render_html(hostile_report()))
    count = sum(tag == "script" for tag, _ in harmless.tags)
    assert sum(tag == "script" for tag, _ in hostile.tags) == count
    assert not any(tag == "img" for tag, _ in hostile.tags)
    payload = json.loads(next(text for text in hostile.scripts if text.startswith("{")))
    assert payload["trajectories"][0]["label"] == HOSTILE
    assert payload["error"]["series"][0]["name"] == HOSTILE


def test_embedded_json_cannot_end_its_element() -> None:
    text = embed_json({"a": "</script><!-- &"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!-- &"}


def test_page_asks_nothing_of_a_network(sample_report: ReportData) -> None:
    page = render_html(sample_report)
    outline = _Outline(page)
    for tag, attributes in outline.tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith(("#", "data:")), attributes
    assert "default-src 'none'" in page
    assert not re.search(r"@import|url\((?!#)", page)
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address


def test_all_parts_are_on_the_page(sample_report: ReportData) -> None:
    page = render_html(sample_report)
    text = unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL))
    for expected in (
        "212 CPU s",
        "paper preset",
        "842\u202f313",
        "not finite",
        "✗ exceeds",
        "4.4×10⁻¹⁵",
        "seed = 0",
    ):
        assert expected in text, expected
    assert 'class="missing"' not in page.replace('<noscript><p class="missing">', "")
    assert "{{" not in page
    assert len(page.encode()) < MAX_PAGE_BYTES


def test_notes_stand_beside_their_part_and_are_text(sample_report: ReportData) -> None:
    page = render_html(
        replace(sample_report, notes={"error": "of <q> alone", "comparison": "equal CPU time"})
    )
    assert "Mean squared error over the test systems. of &lt;q&gt; alone" in page
    assert page.index("Comparison</h2>") < page.index("equal CPU time") < page.index("Learning curve</h2>")
    with pytest.raises(ValueError, match="notes has the unknown key 'eror'; use trajectories, error"):
        replace(sample_report, notes={"eror": "x"})
    with pytest.raises(ValueError, match="first_trajectory must be from 0 to 2, got 3"):
        replace(sample_report, first_trajectory=3)
    written = replace(sample_report, first_trajectory=1, notes={"error": "x"})
    again = ReportData.from_json(written.to_json())
    assert (again.first_trajectory, again.notes) == (1, {"error": "x"})


def test_configuration_reads_back_as_toml(sample_report: ReportData) -> None:
    blocks = re.findall(r'<pre tabindex="0">(.*?)</pre>', render_html(sample_report), flags=re.DOTALL)
    merged = {key: value for block in blocks for key, value in tomllib.loads(unescape(block)).items()}
    assert merged == without_none(sample_report.configuration)
    assert "channels = [64, 64]" in "".join(blocks)


def test_a_section_is_there_if_it_has_something_to_show(sample_report: ReportData, tmp_path: Path) -> None:
    def headings(data: ReportData) -> list[str]:
        return re.findall(r'<h2 id="heading-([^"]+)"', render_html(data))

    every = ["trajectories", "error", "energy", "parity", "breakdown", "molecules"]
    every += ["plot-0", "plot-1", "table-0", "comparison"]
    assert headings(sample_report) == [*every, "learning", "equivariance", "configuration"]
    assert headings(ReportData(title="x", learning_curve=[{"step": 1, "train_loss": 1.0}])) == ["learning"]
    fields = {
        "error": "error_curves",
        "energy": "energy_curves",
        "plot-0": "plots",
        "plot-1": "plots",
        "table-0": "tables",
        "learning": "learning_curve",
    }
    for name in every:
        field = fields.get(name, name)
        without = replace(
            sample_report, **{field: None if name == "comparison" else type(getattr(sample_report, field))()}
        )
        assert name not in headings(without), name
    page = write_report(ReportData(title="Nothing yet"), tmp_path).read_text()
    assert "Nothing was recorded for this run" in page
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_bars_of_a_table(sample_report: ReportData) -> None:
    page = render_html(sample_report)
    shares = re.findall(r'class="bar" style="--share: ([^"]+)"', page)
    assert shares == ["0.5", "1", "0", "1", "0"], "a value that is not finite has a bar of no length"
    assert "not finite" in re.sub(
        r"<script.*?</script>", "", page[page.index("heading-breakdown") :], flags=re.DOTALL
    )
    assert page.count("<h3>By element</h3>") == 1


def test_nothing_is_said_of_predictions_where_there_are_none(sample_report: ReportData) -> None:
    alone = ReportData(
        title="x", trajectories=sample_report.trajectories[2:], notes={"trajectories": "Of many."}
    )
    page = render_html(alone)
    assert "Of many." in page
    assert LEADS["trajectories"] not in page
    assert LEADS["trajectories"] in render_html(sample_report)
    assert page_payload(alone)["trajectories"][0]["predicted"] is None


def test_payload_is_thinned_and_rounded(sample_report: ReportData) -> None:
    view, sent = sample_report.trajectories[1], page_payload(sample_report)["trajectories"][1]
    kept = sample_indices(view.times.size, MAX_FRAMES)
    assert len(sent["times"]) == kept.size <= MAX_FRAMES < view.times.size == sent["totalFrames"]
    assert sent["times"][-1] == view.times[-1]
    received = np.array(sent["true"], dtype=float).reshape(kept.size, 6, 3)
    error = np.abs(received - view.true[kept]).max() / np.ptp(view.true)
    assert error < ROUNDING, f"positions moved by {error:.1e} of the extent, allowed {ROUNDING:.0e}"
    lost = np.array(sent["predicted"], dtype=float).reshape(kept.size, 6, 3)
    np.testing.assert_array_equal(np.isnan(lost), np.isnan(view.predicted[kept]))


def test_log_limits_resist_one_diverged_value() -> None:
    values = np.concatenate([np.geomspace(1e-6, 1e-2, 50), [1e200, np.inf, 0.0, np.nan]])
    limits = log_limits(values)
    assert limits is not None
    low, high = limits
    assert 1e-7 < low < 1e-6
    assert 1e-2 < high < 1e4
    assert log_limits(np.array([0.0, np.nan, -1.0])) is None


@pytest.mark.parametrize(("length", "limit"), [(1, 400), (399, 400), (400, 400), (401, 400), (7306, 400)])
def test_sample_indices_keep_both_ends(length: int, limit: int) -> None:
    kept = sample_indices(length, limit)
    assert (kept[0], kept[-1]) == (0, length - 1)
    assert min(length, limit) / 2 <= kept.size <= limit
    assert np.unique(np.diff(kept)[:-1]).size <= 1, "the stride must be constant up to the last step"


def test_page_and_figures_share_their_colours(sample_report: ReportData) -> None:
    light = render_html(sample_report).split(':root[data-theme="dark"]')[0]
    assert tuple(re.findall(r"--series-\d: (#[0-9a-f]{6})", light)) == PALETTE
