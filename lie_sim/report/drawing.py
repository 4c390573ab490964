"""What all PNG figures share: size, colours, axes, and the bytes of a finished one.

Drawn with matplotlib's object-oriented interface on an Agg canvas of their own: no pyplot, no backend switch, no global
state. Colours are those of Okabe and Ito, darkened where they would be faint on white.

Reference: Okabe and Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#00845f", "#a83e8f", "#946800", "#2f9bd8", "#7a3b12", "#555b66")
INK, MUTED, FAINT = "#1c2127", "#5b6470", "#e3e6ea"
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")


def style_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Names, a faint grid, and no frame on the sides that measure nothing."""
    axes.set_xlabel(x_label, color=MUTED)
    axes.set_ylabel(y_label, color=MUTED)
    axes.tick_params(colors=MUTED, which="both", length=3)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)


def with_unit(quantity: str, unit: str) -> str:
    """The label of an axis.

    Example:
        >>> with_unit("time", "ps"), with_unit("step", "")
        ('time (ps)', 'step')
    """
    return f"{quantity} ({unit})" if unit else quantity


def png(figure: Figure) -> bytes:
    """The picture as a file holds it."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
