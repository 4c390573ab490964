"""Parts of a report that any experiment may fill: tables, with bars if wanted, and plots.

Shape letters: T points of a curve, K marks on an axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Shapes of what callers bring are checked by hand, with messages for them; hence plain arrays here.
Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Table:
    """A table of any columns; the first column names the row.

    Args:
        columns: headings.
        rows: one list per row, each as long as ``columns``; a cell is text, a number or None.
        title: heading above it, where there are several.
        bar: name of the column that is drawn as bars as well; empty for none.
        note: a sentence that says what the numbers are.

    Raises:
        ValueError: a row is longer or shorter than ``columns``, or there is no column of the name ``bar``.

    Example:
        >>> Table(columns=["model", "parameters"], rows=[["ours", 1200]]).rows[0][0]
        'ours'
    """

    columns: list[str]
    rows: list[list[str | int | float | None]]
    title: str = ""
    bar: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"expected {len(self.columns)} cells, one per column; got {len(row)} in {row!r}"
                )
        if self.bar and self.bar not in self.columns:
            raise ValueError(f"bar must be one of the columns {self.columns}, got {self.bar!r}")


@dataclass(frozen=True, eq=False)
class Plot:
    """Curves over a linear axis.

    Args:
        title: heading.
        curves: name to (x, y), each of shape (T,), x ascending; NaN in y is a gap.
        x_name: what the horizontal axis is.
        x_unit: its unit; empty for none.
        y_name: what the vertical axis is.
        y_unit: its unit; empty for none.
        marks: name to places on the horizontal axis that are marked by a short line, shape (K,).
        note: what the curves are, in a sentence or two.
        logarithmic: whether the vertical axis is; zero and below are gaps then.
        bands: name of a curve to half the width of a band around it, shape (T,).
        shaded: what it is called, to stretches of the horizontal axis, shape (K, 2).

    Raises:
        ValueError: a curve has x and y of different lengths, a band is of no curve, of another length or negative, or
            what is shaded is no stretches.

    Example:
        >>> Plot("Energy", {"NVE": (np.arange(3.0), np.zeros(3))}, x_name="time", x_unit="ps").y_name
        ''
    """

    title: str
    curves: dict[str, Curve]
    x_name: str = ""
    x_unit: str = ""
    y_name: str = ""
    y_unit: str = ""
    marks: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""
    logarithmic: bool = False
    bands: dict[str, np.ndarray] = field(default_factory=dict)
    shaded: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        curves = {name: as_curve(f"curve {name!r}", curve) for name, curve in self.curves.items()}
        object.__setattr__(self, "curves", curves)
        bands = {name: np.asarray(width, dtype=float) for name, width in self.bands.items()}
        for name, width in bands.items():
            if name not in curves or width.shape != curves[name][0].shape or bool((width < 0).any()):
                raise ValueError(
                    f"band {name!r} must be of a curve, as long and not negative; got the shape {width.shape}"
                )
        object.__setattr__(self, "bands", bands)
        shaded = {name: np.asarray(each, dtype=float) for name, each in self.shaded.items()}
        for name, spans in shaded.items():
            if spans.size and (spans.ndim != 2 or spans.shape[1] != 2):
                raise ValueError(f"shaded {name!r} must be stretches, shape (K, 2); got {spans.shape}")
        object.__setattr__(self, "shaded", {name: spans.reshape(-1, 2) for name, spans in shaded.items()})
        marks = {name: np.asarray(places, dtype=float).ravel() for name, places in self.marks.items()}
        object.__setattr__(self, "marks", marks)

    @classmethod
    def from_plain(cls, item: dict[str, Any]) -> Plot:
        """Undo what JSON did to it."""
        curves = {name: as_curve(name, curve) for name, curve in item["curves"].items()}
        marks = {name: np.asarray(places, dtype=float) for name, places in item["marks"].items()}
        beside = {
            name: {key: np.asarray(each, dtype=float) for key, each in item.get(name, {}).items()}
            for name in ("bands", "shaded")
        }
        return cls(**{**item, **beside, "curves": curves, "marks": marks})


def as_curve(name: str, curve: Any) -> Curve:
    """Two arrays of one length.

    Raises:
        ValueError: they are not.
    """
    x, y = (np.asarray(part, dtype=float) for part in curve)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"{name}: both parts must have the shape (T,); got {x.shape} and {y.shape}")
    return x, y
