"""Predictions against references: figures of all points, and a bounded number of dots to draw.

    MAE = ⟨|ŷ − y|⟩,      RMSE = √⟨(ŷ − y)²⟩,      R² = 1 − Σ(ŷ − y)² / Σ(y − ⟨y⟩)²

The dots are one for each cell of a grid that holds any point, the one with the largest error, with the number of points
that it stands for: so the picture is bounded, dense places are known, and no outlier is lost.

Shape letters: M points measured, K dots kept, H bins of the histogram of errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

GRIDS = (320, 220, 150, 100, 50)
"""Cells along an axis; the finest grid is taken that has at most ``MAX_DOTS`` cells with points."""
MAX_DOTS = 2500
BINS = 40
SHOWN_ERRORS = 0.995
"""Share of the errors that the histogram holds, so that one outlier does not make it a single bar."""


@dataclass(frozen=True, eq=False)
class Parity:
    """One quantity, predicted against reference. :meth:`measure` makes it from all points.

    Args:
        label: the quantity, such as ``"force component"`` or ``"dipole moment"``.
        unit: of it; empty for none.
        true: reference values of the dots, shape (K,).
        predicted: predicted values of the dots, shape (K,).
        stands_for: how many points are in the cell of a dot, shape (K,).
        edges: of the histogram of errors, shape (H + 1,).
        counts: of the histogram, shape (H,).
        figures: name to number: ``count``, ``mae``, ``rmse``, ``r2``, and ``outside``, the number of points whose
            prediction is off the axes or not finite.
        error_unit: of ``edges``, ``mae`` and ``rmse``.
        error_scale: how many of them are one ``unit``.
        note: what the quantity is, in a sentence.

    Raises:
        ValueError: the shapes do not fit together.

    Example:
        >>> made = Parity.measure("energy", np.arange(4.0), np.arange(4.0) + 0.5, unit="eV")
        >>> made.figures["mae"], made.true.tolist()
        (0.5, [0.0, 1.0, 2.0, 3.0])
    """

    label: str
    unit: str
    true: np.ndarray
    predicted: np.ndarray
    stands_for: np.ndarray
    edges: np.ndarray
    counts: np.ndarray
    figures: dict[str, float]
    error_unit: str = ""
    error_scale: float = 1.0
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("true", "predicted", "stands_for", "edges", "counts"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        if not self.true.shape == self.predicted.shape == self.stands_for.shape:
            raise ValueError(
                f"parity {self.label!r}: true, predicted and stands_for must have one shape (K,); got "
                f"{self.true.shape}, {self.predicted.shape}, {self.stands_for.shape}"
            )
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"parity {self.label!r}: {len(self.counts)} bins need one more edge")

    @classmethod
    def measure(
        cls,
        label: str,
        true: np.ndarray,
        predicted: np.ndarray,
        *,
        unit: str = "",
        error_unit: str | None = None,
        error_scale: float = 1.0,
        note: str = "",
    ) -> Parity:
        """Figures, histogram and dots of M points.

        Args:
            label: the quantity.
            true: reference values, any shape of M numbers, finite.
            predicted: predicted values, same shape; they may be NaN.
            unit: of both.
            error_unit: in which errors are told, such as ``"meV"`` for energies in eV; None for ``unit``.
            error_scale: how many of them are one ``unit``, such as 1000.
            note: what the quantity is.

        Raises:
            ValueError: there are no points, the shapes differ, or a reference is not finite.
        """
        x, y = checked(label, true, predicted)
        low, high = parity_limits(x)
        inside = np.isfinite(y) & (y >= low) & (y <= high)
        places, stands_for = _dots(x[inside], y[inside], low, high)
        edges, counts = _histogram(error_scale * (y - x))
        return cls(
            label,
            unit,
            x[inside][places],
            y[inside][places],
            stands_for,
            edges,
            counts,
            figures=error_figures(x, y, scale=error_scale) | {"outside": int((~inside).sum())},
            error_unit=unit if error_unit is None else error_unit,
            error_scale=error_scale,
            note=note,
        )

    @classmethod
    def from_plain(cls, item: dict[str, Any]) -> Parity:
        """Undo what JSON did to it."""
        figures = {name: np.nan if value is None else value for name, value in item["figures"].items()}
        names = ("true", "predicted", "stands_for", "edges", "counts")
        arrays = {name: np.asarray(item[name], dtype=float) for name in names}
        return cls(**{**item, **arrays, "figures": figures})


def checked(label: str, true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as flat float64.

    Raises:
        ValueError: there are no points, the shapes differ, or a reference is not finite.
    """
    x, y = (np.asarray(values, dtype=float) for values in (true, predicted))
    if x.shape != y.shape or x.size == 0:
        raise ValueError(
            f"parity {label!r}: true and predicted must have one shape, not empty; got {x.shape}, {y.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError(
            f"parity {label!r}: reference values must be finite; leave structures without one out"
        )
    return x.ravel(), y.ravel()


def error_figures(true: np.ndarray, predicted: np.ndarray, *, scale: float = 1.0) -> dict[str, float]:
    """Number of points, mean absolute and root mean square error times ``scale``, and R².

    Example:
        >>> error_figures(np.array([0.0, 2.0]), np.array([1.0, 2.0]))
        {'count': 2, 'mae': 0.5, 'rmse': 0.7071067811865476, 'r2': 0.5}
    """
    error = predicted - true
    spread = float(np.square(true - true.mean()).sum())
    return {
        "count": int(error.size),
        "mae": scale * float(np.abs(error).mean()),
        "rmse": scale * float(np.sqrt(np.square(error).mean())),
        "r2": 1.0 - float(np.square(error).sum()) / spread if spread > 0 else float("nan"),
    }


def parity_limits(true: np.ndarray) -> tuple[float, float]:
    """Limits of both axes: the reference values and half their range on both sides."""
    low, high = float(true.min()), float(true.max())
    margin = (high - low) / 2 or max(abs(low), 1.0) * 0.1
    return low - margin, high + margin


def _dots(x: np.ndarray, y: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the points to draw, in the order of x, and how many points each stands for."""
    if x.size == 0:
        return np.empty(0, dtype=int), np.empty(0)
    worst_first = np.argsort(-np.abs(y - x), kind="stable")
    for cells in GRIDS:
        column, row = (np.minimum((v - low) / (high - low) * cells, cells - 1).astype(int) for v in (x, y))
        cell = column * cells + row
        _, first, counts = np.unique(cell[worst_first], return_index=True, return_counts=True)
        if first.size <= MAX_DOTS:
            break
    places = worst_first[first]
    order = np.argsort(x[places], kind="stable")
    return places[order], counts[order].astype(float)


def _histogram(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    finite = errors[np.isfinite(errors)]
    if finite.size == 0:
        return np.array([-1.0, 1.0]), np.zeros(1)
    reach = float(np.quantile(np.abs(finite), SHOWN_ERRORS)) or 1.0
    counts, edges = np.histogram(finite, bins=BINS, range=(-reach, reach))
    return edges, counts.astype(float)
