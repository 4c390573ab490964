"""The numbers that travel inside the page: thinned out, rounded, and safe to embed.

Long series keep evenly spaced samples, first and last included; numbers keep 5 significant digits.
A curve on a logarithmic axis gets limits around its median, so that one diverged model does not
flatten all others; what leaves the axis is said in words.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lie_sim.report.data import LEARNING_KEYS, Curve, ReportData, TrajectoryView, plain

MAX_FRAMES = 400
MAX_POINTS = 1000
DIGITS = 5
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
        for key in LEARNING_KEYS
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
    limits = {"loss": log_limits(losses), "learning_rate": log_limits(columns["learning_rate"])}
    # Every row is kept up to MAX_POINTS; beyond, rows with a validation loss are kept before others.
    kept = _keep_rows(columns["validation_loss"])
    rounded = {key: round_significant(column[kept], digits=7) for key, column in columns.items()}
    return {"columns": rounded, "limits": limits}


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
        "predicted": round_significant(_drop_noise(view.predicted[kept], decimals)),
        "sizes": round_significant(view.sizes),
        "names": view.names,
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


def page_payload(data: ReportData) -> dict[str, Any]:
    """Everything that the page's script draws; a part that was not recorded is None or empty."""
    return {
        "learning": _learning(data),
        "firstTrajectory": data.first_trajectory,
        "trajectories": [_trajectory(view) for view in data.trajectories],
        "error": _curves(data.error_curves, data),
        "energy": _curves(data.energy_curves, data),
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
