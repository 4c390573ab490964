"""The report of a training run: one self-contained HTML page and the same plots as PNG files.

The page is made from a :class:`ReportData`, which knows nothing of how its numbers were produced, so
that any script can fill one and :func:`write_report` can show it. :func:`write_figures` draws the plots
alone.
"""

from lie_sim.report.data import EquivarianceRow, ReportData
from lie_sim.report.figures import write_figures
from lie_sim.report.molecule_view import MoleculeView
from lie_sim.report.page import write_report
from lie_sim.report.parity import Parity
from lie_sim.report.parts import Plot, Table
from lie_sim.report.trajectory_view import TrajectoryView

__all__ = [
    "EquivarianceRow",
    "MoleculeView",
    "Parity",
    "Plot",
    "ReportData",
    "Table",
    "TrajectoryView",
    "write_figures",
    "write_report",
]
