"""The numbers that travel inside the page: thinned out, rounded, and safe to embed.

Long series keep evenly spaced samples, first and last included; numbers keep 5 significant digits.
A curve on a logarithmic axis gets limits around its median, so that one diverged model does not
flatten all others; what leaves the axis is said in words. Plots of numbers that are all far from 0 keep more digits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lie_sim.report.data import LEARNING_KEYS, ReportData, plain
from lie_sim.report.parity import Parity
from lie_sim.report.parts import Curve, Plot
from lie_sim.report.trajectory_view import TrajectoryView

MAX_FRAMES = 400
MAX_POINTS = 1000
DIGITS = 5
MAX_DIGITS = 17
DECADES_ABOVE_MEDIAN = 6
DECADES_BELOW_MEDIAN = 14


def sample_indices(length: int, limit: int) -> Int[np.ndarray, " samples"]:
    """At most ``limit`` indices into ``length`` samples, by a constant stride, and the last one.

    A constant stride matters for motion: unequal steps would show as a stutter.

    Example:
        >>> sample_indices(7, 4).tolist()
        [0, 2, 4, 6]
    """
    stride = max(1, math.ceil((length - 1) / (limit - 1)))
    return np.union1d(np.arange(0, length, stride), [length - 1])


def log_limits(values: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    """Limits of a logarithmic axis for ``values``; None when no value is positive and finite.

    Example:
        >>> low, high = log_limits(np.array([1e-3, 1e-2, 1e-1, np.inf]))
        >>> low < 1e-3 and 1e-1 < high < 1
        True
    """
    usable = values[np.isfinite(values) & (values > 0)]
    if usable.size == 0:
        return None
    exponents = np.log10(usable)
    middle = float(np.median(exponents))
    low = max(float(exponents.min()), middle - DECADES_BELOW_MEDIAN)
    high = min(float(exponents.max()), middle + DECADES_ABOVE_MEDIAN)
    padding = max(0.04 * (high - low), 0.1)
    return 10.0 ** max(low - padding, -300.0), 10.0 ** min(high + padding, 300.0)


def round_significant(values: np.ndarray, *, digits: int = DIGITS) -> list[float | int | None]:
    """Flat list of the numbers, rounded to significant digits; None where not finite.

    Example:
        >>> round_significant(np.array([1.2345678, np.nan, 3.0]))
        [1.2346, None, 3]
    """
    return [_short(value, digits) for value in np.asarray(values, dtype=float).ravel().tolist()]


def _short(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded


def learning_columns(data: ReportData) -> dict[str, Float[np.ndarray, " rows"]]:
    """The learning curve by column; missing values are NaN, a missing step is the number of the row."""
    columns = {
        key: np.array([_or_nan(row.get(key)) for row in data.learning_curve], dtype=float)
        for key in (*LEARNING_KEYS, *data.metrics)
    }
    rows = np.arange(len(data.learning_curve), dtype=float)
    columns["step"] = np.where(np.isnan(columns["step"]), rows, columns["step"])
    return columns


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _learning(data: ReportData) -> dict[str, Any] | None:
    if not data.learning_curve:
        return None
    columns = learning_columns(data)
    losses = np.concatenate([columns["train_loss"], columns["validation_loss"]])
    limits = {"loss": log_limits(losses)}
    limits |= {key: log_limits(columns[key]) for key in ("learning_rate", *data.metrics)}
    # Every row is kept up to MAX_POINTS; beyond, rows with a validation loss are kept before others.
    kept = _keep_rows(columns["validation_loss"])
    rounded = {key: round_significant(column[kept], digits=7) for key, column in columns.items()}
    broken = [
        key
        for key in ("learning_rate", *data.metrics)
        if any(row.get(key) is not None and not math.isfinite(row[key]) for row in data.learning_curve)
    ]
    return {"columns": rounded, "limits": limits, "metrics": data.metrics, "broken": broken}


def _keep_rows(validation: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " kept"]:
    rare = np.flatnonzero(np.isfinite(validation))
    rare = rare[sample_indices(rare.size, MAX_POINTS)] if rare.size else rare
    return np.union1d(sample_indices(validation.size, MAX_POINTS), rare)


def _trajectory(view: TrajectoryView) -> dict[str, Any]:
    kept = sample_indices(view.times.size, MAX_FRAMES)
    finite = view.true[np.isfinite(view.true)]
    extent = float(np.ptp(finite)) if finite.size else 1.0
    # What is far below a pixel is noise: rounding it away first keeps 1.2345e-17 out of the page.
    decimals = DIGITS - math.floor(math.log10(extent)) if extent > 0 else DIGITS
    return {
        "label": view.label,
        "times": round_significant(view.times[kept], digits=7),
        "true": round_significant(_drop_noise(view.true[kept], decimals)),
        "predicted": None
        if view.predicted is None
        else round_significant(_drop_noise(view.predicted[kept], decimals)),
        "sizes": round_significant(view.sizes),
        "names": view.names,
        "colours": view.colours,
        "bonds": view.bonds,
        "dimension": view.true.shape[2],
        "horizon": view.train_horizon,
        "timeUnit": view.time_unit,
        "lengthUnit": view.length_unit,
        "totalFrames": int(view.times.size),
    }


def _drop_noise(values: Float[np.ndarray, "T N d"], decimals: int) -> Float[np.ndarray, "T N d"]:
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged prediction may overflow: it becomes a gap
        return np.round(values, decimals)


def _curves(curves: dict[str, Curve], data: ReportData) -> dict[str, Any] | None:
    if not curves:
        return None
    magnitudes = {name: (times, np.abs(values)) for name, (times, values) in curves.items()}
    series = []
    for name, (times, values) in magnitudes.items():
        kept = sample_indices(times.size, MAX_POINTS) if times.size else np.empty(0, dtype=int)
        x, y = round_significant(times[kept], digits=7), round_significant(values[kept])
        series.append({"name": name, "x": x, "y": y})
    limits = log_limits(np.concatenate([values for _, values in magnitudes.values()]))
    return {
        "series": series,
        "limits": limits,
        "horizon": data.train_horizon,
        "timeUnit": data.time_unit,
    }


def _plot(plot: Plot) -> dict[str, Any]:
    """A plot; curves keep all their points up to ``MAX_POINTS``."""
    beside = [*plot.marks.values(), *(spans.ravel() for spans in plot.shaded.values())]
    x_digits = _digits([x for x, _ in plot.curves.values()] + beside, 7)
    edges = {
        name: [plot.curves[name][1] + sign * width for sign in (-1, 1)] for name, width in plot.bands.items()
    }
    heights = [y for _, y in plot.curves.values()] + [edge for pair in edges.values() for edge in pair]
    y_digits = _digits(heights, DIGITS)
    series = []
    for name, (x, y) in plot.curves.items():
        kept = sample_indices(x.size, MAX_POINTS) if x.size else np.empty(0, dtype=int)
        one: dict[str, Any] = {"name": name, "x": round_significant(x[kept], digits=x_digits)}
        one["y"] = round_significant(y[kept], digits=y_digits)
        if name in edges:
            one["low"], one["high"] = (round_significant(edge[kept], digits=y_digits) for edge in edges[name])
        series.append(one)
    shaded = [
        {"name": name, "spans": [round_significant(span, digits=x_digits) for span in spans]}
        for name, spans in plot.shaded.items()
    ]
    marks = [
        {"name": name, "x": round_significant(places, digits=x_digits)} for name, places in plot.marks.items()
    ]
    names = {"xName": plot.x_name, "xUnit": plot.x_unit, "yName": plot.y_name, "yUnit": plot.y_unit}
    values = np.concatenate(heights) if heights else np.empty(0)
    limits = log_limits(values) if plot.logarithmic else linear_limits(_without_wide_bands(plot, values))
    drawn = {"series": series, "limits": limits, "marks": marks, "shaded": shaded}
    return {**names, **drawn, "linear": not plot.logarithmic}


def _without_wide_bands(plot: Plot, values: np.ndarray) -> np.ndarray:
    """Values and edges of bands, these as far as the curves reach on either side: a wide band hides no curve."""
    curves = np.concatenate([y for _, y in plot.curves.values()]) if plot.curves else np.empty(0)
    curves = curves[np.isfinite(curves)]
    if not curves.size:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        extent = np.ptp(curves)
        clipped: np.ndarray = np.clip(
            values[np.isfinite(values)], curves.min() - extent, curves.max() + extent
        )
    return clipped


def _digits(parts: Sequence[np.ndarray], digits: int) -> int:
    """More where all numbers are far from 0, so that their differences keep ``digits``.

    Example:
        >>> _digits([np.array([0.0, 3.0])], 5), _digits([np.array([1.7e9, 1.7e9 + 100])], 5)
        (5, 13)
    """
    values = np.concatenate(parts) if parts else np.empty(0)
    usable = np.abs(values[np.isfinite(values)])
    with np.errstate(over="ignore"):  # of a curve that diverged
        extent = float(np.ptp(values[np.isfinite(values)])) if usable.size else 0.0
    if not 0 < extent < math.inf:
        return digits
    return min(digits + max(0, math.ceil(math.log10(float(usable.max()) / extent))), MAX_DIGITS)


def linear_limits(values: Float[np.ndarray, " n"]) -> tuple[float, float] | None:
    """Limits of a linear axis for ``values``, with a margin; None when no value is finite.

    Example:
        >>> linear_limits(np.array([0.0, 1.0, np.nan]))
        (-0.05, 1.05)
    """
    usable = values[np.isfinite(values)]
    if usable.size == 0:
        return None
    low, high = float(usable.min()), float(usable.max())
    margin = 0.05 * (high - low) or max(abs(low), 1.0) * 0.1
    return low - margin, high + margin


def _parity(parity: Parity) -> dict[str, Any]:
    return {
        "label": parity.label,
        "unit": parity.unit,
        "errorUnit": parity.error_unit,
        "errorScale": parity.error_scale,
        "note": parity.note,
        "figures": parity.figures,
        "true": round_significant(parity.true),
        "predicted": round_significant(parity.predicted),
        "standsFor": round_significant(parity.stands_for),
        "edges": round_significant(parity.edges),
        "counts": round_significant(parity.counts, digits=9),
    }


def page_payload(data: ReportData) -> dict[str, Any]:
    """Everything that the page's script draws; a part that was not recorded is None or empty."""
    return {
        "learning": _learning(data),
        "firstTrajectory": data.first_trajectory,
        "trajectories": [_trajectory(view) for view in data.trajectories],
        "error": _curves(data.error_curves, data),
        "energy": _curves(data.energy_curves, data),
        "parity": [_parity(each) for each in data.parity],
        "molecules": [each.payload() for each in data.molecules],
        "plots": [_plot(each) for each in data.plots],
    }


def embed_json(value: Any) -> str:
    r"""JSON text that may stand inside a ``<script>`` element: no character of it can end the element.

    Example:
        >>> embed_json({"name": "</script>"})
        '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
