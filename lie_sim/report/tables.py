"""What stands on the page as plain HTML, to be read without a script: facts, tables, configuration. Text is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import tomli_w

from lie_sim.report.data import EquivarianceRow, plain
from lie_sim.report.formatting import format_cell, format_number
from lie_sim.report.parts import Table


def summary_html(summary: Mapping[str, str]) -> str:
    """The headline facts."""
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


def table_html(table: Table | None, *, label: str = "Comparison of models") -> str:
    """A table, with bars in the column ``table.bar``; nothing if it has no rows.

    Example:
        >>> 'style="--share: 0.5"' in table_html(Table(["atoms", "MAE"], [["H", 2.0], ["O", 4.0]], bar="MAE"))
        True
    """
    if table is None or not table.rows:
        return ""
    numeric = [any(isinstance(row[i], int | float) for row in table.rows) for i in range(len(table.columns))]
    rows = [[escape(format_cell(cell)) for cell in row] for row in table.rows]
    if table.bar:
        place = table.columns.index(table.bar)
        shares = bar_shares([row[place] for row in table.rows])
        for row, share in zip(rows, shares, strict=True):
            row[place] += f'<span class="bar" style="--share: {share:.3g}" aria-hidden="true"></span>'
    return _table(table.title or label, table.columns, rows, numeric)


def bar_shares(cells: list[str | int | float | None]) -> list[float]:
    """Lengths of bars from 0 to 1; 0 for what is not a finite positive number.

    Example:
        >>> bar_shares([2.0, 4, "–", float("nan")])
        [0.5, 1.0, 0.0, 0.0]
    """
    numbers = [
        float(cell) if isinstance(cell, int | float) and math.isfinite(cell) else 0.0 for cell in cells
    ]
    largest = max((number for number in numbers if number > 0), default=1.0)
    return [max(number, 0.0) / largest for number in numbers]


def breakdown_html(tables: list[Table]) -> str:
    """Several tables with their titles and notes, beside each other where there is room."""
    parts = [
        f'<div class="breakdown"><h3>{escape(table.title)}</h3>{table_html(table, label="Errors")}'
        f'<p class="note">{escape(table.note)}</p></div>'
        for table in tables
        if table.rows
    ]
    return f'<div class="breakdowns">{"".join(parts)}</div>' if parts else ""


def equivariance_html(measured: list[EquivarianceRow]) -> str:
    """The measured symmetry errors; nothing if there are none."""
    if not measured:
        return ""
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


def configuration_html(configuration: Mapping[str, Any]) -> str:
    """The options as TOML, folded by section; nothing if there are none."""
    values = without_none(plain(configuration))
    if not values:
        return ""
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


def without_none(value: Any) -> Any:
    """TOML has no null: an option that is not set is left out."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value if item is not None]
    return value
