"""Predictions against references, bars of tables, and plots as PNG figures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lie_sim.report.data import ReportData
from lie_sim.report.drawing import DASHES, INK, MUTED, PALETTE, new_figure, style_axes, with_unit
from lie_sim.report.formatting import format_number
from lie_sim.report.parity import Parity
from lie_sim.report.parts import Plot, Table
from lie_sim.report.payload import log_limits
from lie_sim.report.tables import bar_shares


def part_figures(data: ReportData) -> dict[str, Figure]:
    """Figures by the name of their file, without its ending."""
    figures = {f"parity_{k}": _parity_figure(each) for k, each in enumerate(data.parity, start=1)}
    figures |= {f"plot_{k}": _plot_figure(each) for k, each in enumerate(data.plots, start=1)}
    barred = [table for table in data.breakdown if table.bar and table.rows]
    if barred:
        figures["breakdown"] = _bars_figure(barred)
    return figures


def _parity_figure(parity: Parity) -> Figure:
    figure = new_figure(4.6, 6.0)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1))
    style_axes(upper, with_unit("reference", parity.unit), with_unit("predicted", parity.unit))
    shade = np.log(np.maximum(parity.stands_for, 1.0))
    order = np.argsort(shade, kind="stable")
    dots = {"c": shade[order], "s": 7, "cmap": "viridis_r", "linewidths": 0}
    upper.scatter(parity.true[order], parity.predicted[order], **dots)
    if parity.true.size:
        ends = [
            min(parity.true.min(), parity.predicted.min()),
            max(parity.true.max(), parity.predicted.max()),
        ]
        upper.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle="--")
    upper.set_aspect("equal", adjustable="datalim")
    mae, rmse = (
        f"{format_number(parity.figures[key], digits=3)} {parity.error_unit}" for key in ("mae", "rmse")
    )
    upper.set_title(f"{parity.label}\nMAE {mae}, RMSE {rmse}", color=INK, fontsize="medium")
    style_axes(lower, with_unit("predicted − reference", parity.error_unit), "")
    lower.stairs(parity.counts, parity.edges, fill=True, color=PALETTE[0], alpha=0.6)
    lower.set_yticks([])
    return figure


def _alone(y: np.ndarray) -> np.ndarray:
    """Values between two that are missing, which no line shows.

    Example:
        >>> _alone(np.array([1.0, np.nan, 2.0, np.nan, 3.0, 4.0])).tolist()
        [True, False, True, False, False, False]
    """
    there = np.concatenate([[False], np.isfinite(y), [False]])
    alone: np.ndarray = there[1:-1] & ~there[:-2] & ~there[2:]
    return alone


def _plot_figure(plot: Plot) -> Figure:
    figure = new_figure(7.0, 4.0)
    axes = figure.add_subplot()
    style_axes(axes, with_unit(plot.x_name, plot.x_unit), with_unit(plot.y_name, plot.y_unit))
    for index, (name, (x, y)) in enumerate(plot.curves.items()):
        style = {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index % len(DASHES)]}
        axes.plot(x, y, label=name, linewidth=1.4, **style)
        alone = _alone(y)
        axes.plot(x[alone], y[alone], ".", color=style["color"], markersize=3)
        if name in plot.bands:
            width = plot.bands[name]
            axes.fill_between(x, y - width, y + width, color=style["color"], alpha=0.25, linewidth=0)
    for name, spans in plot.shaded.items():
        for k, (begin, end) in enumerate(spans.tolist()):
            axes.axvspan(begin, end, color=INK, alpha=0.1, linewidth=0, label=None if k else name)
    for index, (name, places) in enumerate(plot.marks.items(), start=len(plot.curves)):
        colour = PALETTE[index % len(PALETTE)]
        for k, place in enumerate(places.tolist()):
            axes.axvline(place, color=colour, linewidth=0.8, alpha=0.6, zorder=0, label=None if k else name)
    if plot.logarithmic and (limits := log_limits(np.concatenate([y for _, y in plot.curves.values()]))):
        axes.set_yscale("log")
        axes.set_ylim(*limits)
    axes.set_title(plot.title, color=INK, fontsize="medium")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small", labelcolor=INK)
    return figure


def _bars_figure(tables: list[Table]) -> Figure:
    height = 0.9 + 0.34 * max(len(table.rows) for table in tables)
    figure = new_figure(4.4 * len(tables), max(height, 2.8))
    for axes, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        _draw_bars(axes, table)
    return figure


def _draw_bars(axes: Axes, table: Table) -> None:
    """The bars of a table, from above to below as its rows are."""
    cells = [row[table.columns.index(table.bar)] for row in table.rows]
    finite = [float(cell) for cell in cells if isinstance(cell, int | float) and np.isfinite(cell)]
    lengths = [share * max(finite, default=1.0) for share in bar_shares(cells)]
    places = np.arange(len(cells))
    axes.barh(places, lengths, color=PALETTE[0], alpha=0.75)
    style_axes(axes, table.bar, "")
    axes.set_yticks(places, [str(row[0]) for row in table.rows])
    axes.invert_yaxis()
    axes.set_title(table.title, color=INK, fontsize="medium")
