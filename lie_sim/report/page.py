"""Put the page together: templates, styles, script and data become one HTML file without a link outside.

Tables, summary and configuration are plain HTML made here, so that they can be read without a script;
the curves and the animation are drawn by the page's own script from the embedded numbers.
All text is escaped; a content security policy forbids the page any request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from lie_sim.files import write_atomically
from lie_sim.report.data import NOTED, EquivarianceRow, ReportData, Table, plain
from lie_sim.report.figures import write_figures
from lie_sim.report.formatting import format_cell, format_number
from lie_sim.report.payload import embed_json, page_payload

_SCRIPTS = ("report_chart.js", "report_timeline.js", "report_player.js", "report.js")


def write_report(data: ReportData, directory: str | Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into ``directory``, each file atomically.

    Args:
        data: what the report shows; parts that are empty become a note.
        directory: the run directory; it is made if need be.

    Returns:
        Path of ``report.html``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(ReportData(title="Springs"), folder).name
        'report.html'
    """
    directory = Path(directory)
    write_figures(data, directory / "figures")
    return write_atomically(directory / "report.html", render_html(data).encode())


def render_html(data: ReportData) -> str:
    """The whole page as text.

    Example:
        >>> "<script>alert" in render_html(ReportData(title="<script>alert(1)</script>"))
        False
    """
    script = "\n".join(_template(name) for name in _SCRIPTS)
    values = {
        "title": escape(data.title),
        "subtitle": escape(data.subtitle),
        "css": _template("report.css"),
        "summary": _summary(data.summary),
        "trajectories": _template("report_player.html")
        if data.trajectories
        else _missing("No trajectories were recorded for this run."),
        "error": _chart("error", bool(data.error_curves), "No error curves were recorded for this run."),
        "energy": _chart("energy", bool(data.energy_curves), "No energy curves were recorded for this run."),
        "comparison": _comparison(data.comparison),
        **{f"{part}_note": escape(data.notes.get(part, "")) for part in NOTED},
        "learning": _chart(
            "learning", bool(data.learning_curve), "No learning curve was recorded for this run."
        ),
        "equivariance": _equivariance(data.equivariance),
        "configuration": _configuration(data.configuration),
        "data": embed_json(page_payload(data)),
        "script": script,
    }
    # One pass: text that happens to contain a placeholder is not filled in again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _template("report.html"))


def _template(name: str) -> str:
    return (resources.files("lie_sim.report") / name).read_text(encoding="utf-8")


def _missing(sentence: str) -> str:
    return f'<p class="missing">{escape(sentence)}</p>'


def _chart(name: str, present: bool, otherwise: str) -> str:
    return f'<div data-chart="{name}"></div>' if present else _missing(otherwise)


def _summary(summary: Mapping[str, str]) -> str:
    if not summary:
        return ""
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in summary.items()
    )
    return f'<dl class="facts" aria-label="Headline facts">{facts}</dl>'


def _table(label: str, columns: list[str], rows: list[list[str]], numeric: list[bool]) -> str:
    """A table in its own scroll box; ``rows`` hold HTML, ``columns`` hold text."""
    kinds = ["number" if is_number else "text" for is_number in numeric]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(column)}</th>'
        for kind, column in zip(kinds, columns, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _comparison(table: Table | None) -> str:
    if table is None or not table.rows:
        return _missing("No other model was compared in this run.")
    numeric = [any(isinstance(row[i], int | float) for row in table.rows) for i in range(len(table.columns))]
    rows = [[escape(format_cell(cell)) for cell in row] for row in table.rows]
    return _table("Comparison of models", table.columns, rows, numeric)


def _equivariance(measured: list[EquivarianceRow]) -> str:
    if not measured:
        return _missing("No equivariance errors were measured in this run.")
    columns = [
        "Symmetry",
        "Error",
        "Verdict",
        "Number type",
        "When",
        "Tolerance",
    ]  # a phone shows the first ones
    rows = [
        [
            escape(row.symmetry),
            format_number(row.error),
            '<span class="pass">✓ within</span>' if row.passed else '<span class="fail">✗ exceeds</span>',
            escape(row.dtype),
            escape(row.when),
            format_number(row.tolerance),
        ]
        for row in measured
    ]
    return _table("Equivariance errors", columns, rows, [False, True, False, False, False, True])


def _configuration(configuration: Mapping[str, Any]) -> str:
    values = _without_none(plain(configuration))
    if not values:
        return _missing("No configuration was recorded for this run.")
    loose = {key: value for key, value in values.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    parts = [_code(loose)] if loose else []
    for key, value in tables.items():
        parts.append(f"<details><summary>{escape(key)}</summary>{_code({key: value})}</details>")
    return "".join(parts)


def _code(values: dict[str, Any]) -> str:
    """TOML text, with lists of plain numbers on one line each."""
    toml = re.sub(
        r"\[\n((?: +[\w.+-]+,\n)+) *\]",
        lambda match: "[" + ", ".join(match[1].replace(",", " ").split()) + "]",
        tomli_w.dumps(values),
    )
    return f'<pre tabindex="0">{escape(toml)}</pre>'


def _without_none(value: Any) -> Any:
    """TOML has no null: an option that is not set is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value
