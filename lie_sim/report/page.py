"""Put the page together: templates, styles, script and data become one HTML file without a link outside.

Tables, summary and configuration are plain HTML, so that they can be read without a script; the curves, the dots, the
animation and the molecules are drawn by the page's own script from the embedded numbers.
All text is escaped; a content security policy forbids the page any request.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from lie_sim.files import write_atomically
from lie_sim.report.data import ReportData
from lie_sim.report.figures import write_figures
from lie_sim.report.payload import embed_json, page_payload
from lie_sim.report.sections import sections_html, template
from lie_sim.report.tables import summary_html

_SCRIPTS = (
    "report_chart.js",
    "report_timeline.js",
    "report_player.js",
    "report_parity.js",
    "report_rotation.js",
    "report_molecule.js",
    "report.js",
)


def write_report(data: ReportData, directory: str | Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into ``directory``, each file atomically.

    Args:
        data: what the report shows; parts that are empty are left out.
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
    values = {
        "title": escape(data.title),
        "subtitle": escape(data.subtitle),
        "css": template("report.css"),
        "summary": summary_html(data.summary),
        "sections": sections_html(data),
        "data": embed_json(page_payload(data)),
        "script": "\n".join(template(name) for name in _SCRIPTS),
    }
    # One pass: text that happens to contain a placeholder is not filled in again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template("report.html"))
