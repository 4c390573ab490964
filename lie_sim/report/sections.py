"""The sections of the page in their order; one that has nothing to show is not there."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib import resources

from lie_sim.report.data import ReportData
from lie_sim.report.tables import breakdown_html, configuration_html, equivariance_html, table_html

LEADS = {
    "trajectories": "The learned Hamiltonian is integrated from the same starting point as the reference. "
    "Rings show the true motion, discs the predicted one.",
    "error": "Mean squared error over the test systems.",
    "energy": "Change of the energy along a trajectory, as a magnitude, divided by the mean kinetic energy of that "
    "trajectory (the zero of an energy is arbitrary). An exact zero has no place on a logarithmic axis and appears as "
    "a gap.",
    "parity": "Every dot is a cell of a fine grid; its shade says how many test values fall into it. On the line a "
    "prediction is exact. The bars show how the errors are distributed.",
    "molecules": "Structures of the test set, in three dimensions.",
    "equivariance": "How much the output changes when the input is moved by a symmetry of the system, held against "
    "the tolerance of the number type.",
}
"""What a section says before its note."""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        name: of the part, a key of notes.
        heading: of the section.
        body: HTML; empty where there is nothing to show.
        lead: text below the heading.
    """

    name: str
    heading: str
    body: str
    lead: str = ""

    def html(self) -> str:
        """The section, or nothing."""
        if not self.body:
            return ""
        lead = f'<p class="lead">{escape(self.lead)}</p>' if self.lead else ""
        return (
            f'<section aria-labelledby="heading-{self.name}"><h2 id="heading-{self.name}">{escape(self.heading)}</h2>'
            f"{lead}{self.body}</section>\n"
        )


def sections_html(data: ReportData) -> str:
    """All sections that have something to show, or a note that there are none.

    Example:
        >>> sections_html(ReportData(title="x"))
        '<p class="missing">Nothing was recorded for this run.</p>'
    """
    viewer = template("report_molecule.html") if data.molecules else ""
    found = [
        _trajectories(data),
        _part(data, "error", "Error against time", _charts("error", len(data.error_curves) > 0)),
        _part(data, "energy", "Energy error", _charts("energy", len(data.energy_curves) > 0)),
        _part(data, "parity", "Predicted against reference", _charts("parity", len(data.parity))),
        _part(data, "breakdown", "Where the errors are", breakdown_html(data.breakdown)),
        _part(data, "molecules", "Best and worst structures", viewer),
        *(
            Section(f"plot-{place}", plot.title, f'<div data-chart="plot-{place}"></div>', plot.note)
            for place, plot in enumerate(data.plots)
        ),
        *(
            Section(f"table-{place}", table.title, table_html(table), table.note)
            for place, table in enumerate(data.tables)
        ),
        _part(data, "comparison", "Comparison", table_html(data.comparison)),
        _part(data, "learning", "Learning curve", _charts("learning", len(data.learning_curve) > 0)),
        _part(data, "equivariance", "Equivariance", equivariance_html(data.equivariance)),
        _part(data, "configuration", "Configuration", configuration_html(data.configuration)),
    ]
    text = "".join(section.html() for section in found)
    return text or '<p class="missing">Nothing was recorded for this run.</p>'


def _trajectories(data: ReportData) -> Section:
    """The player; nothing is said of predictions where there are none."""
    player = template("report_player.html") if data.trajectories else ""
    if any(view.predicted is not None for view in data.trajectories):
        return _part(data, "trajectories", "Trajectories", player)
    return Section("trajectories", "Trajectories", player, data.notes.get("trajectories", ""))


def _part(data: ReportData, name: str, heading: str, body: str) -> Section:
    lead = " ".join(text for text in (LEADS.get(name, ""), data.notes.get(name, "")) if text)
    return Section(name, heading, body, lead)


def _charts(name: str, count: int) -> str:
    """Where the script draws: one place, which holds as many charts as there are."""
    return f'<div data-chart="{name}"></div>' if count else ""


def template(name: str) -> str:
    """A file of this folder."""
    return (resources.files("lie_sim.report") / name).read_text(encoding="utf-8")
