"""The plots of the report as PNG files, for slides and papers.

Each curve has its own dash pattern beside its colour, so that colour is never the only difference.

Shape letters: T time steps, N particles, d space dimension.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lie_sim.files import write_atomically
from lie_sim.report.data import ReportData
from lie_sim.report.drawing import DASHES, FAINT, INK, MUTED, PALETTE, new_figure, png, style_axes, with_unit
from lie_sim.report.part_figures import part_figures
from lie_sim.report.parts import Curve
from lie_sim.report.payload import learning_columns, log_limits
from lie_sim.report.trajectory_view import TrajectoryView

_YAW, _PITCH = 0.6, 0.7  # the page opens three-dimensional systems under the same angles
_SNAPSHOTS = 4
_TRAIL_SHARE = 0.12
_OURS = (
    *(f"{name}.png" for name in ("learning_curve", "error_curves", "energy_curves", "breakdown")),
    *(f"{name}_[0-9]*.png" for name in ("trajectory", "parity", "plot")),
)
"""Files of an earlier report; others in the folder are left alone."""


def write_figures(data: ReportData, directory: str | Path) -> list[Path]:
    """Write a PNG for every plot that ``data`` has numbers for, and remove those of an earlier report.

    Args:
        data: what to draw.
        directory: where the files go; it is made if need be.

    Returns:
        The files written, such as ``learning_curve.png`` and ``trajectory_1.png``.

    Example:
        >>> import tempfile
        >>> data = ReportData(title="t", learning_curve=[{"step": s, "train_loss": 1 / s} for s in (1, 2, 3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in write_figures(data, folder)]
        ['learning_curve.png']
    """
    directory = Path(directory)
    figures = {f"{name}.png": figure for name, figure in _figures(data).items()}
    written = [write_atomically(directory / name, png(figure)) for name, figure in figures.items()]
    for path in (path for pattern in _OURS for path in directory.glob(pattern)):
        if path.name not in figures:
            path.unlink(missing_ok=True)
    return written


def _figures(data: ReportData) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    if data.learning_curve:
        figures["learning_curve"] = _learning_figure(data)
    if data.error_curves:
        figures["error_curves"] = _curves_figure(data, data.error_curves, "mean squared error")
    if data.energy_curves:
        figures["energy_curves"] = _curves_figure(
            data, data.energy_curves, "energy change / mean kinetic energy"
        )
    for number, view in enumerate(data.trajectories, start=1):
        figures[f"trajectory_{number}"] = _trajectory_figure(view)
    return figures | part_figures(data)


def _draw_log_curves(axes: Axes, curves: dict[str, Curve]) -> None:
    """Curves on a logarithmic axis; zeros and non-finite values are gaps."""
    limits = log_limits(np.concatenate([values for _, values in curves.values()]))
    for index, (name, (x, y)) in enumerate(curves.items()):
        usable = np.isfinite(y) & (y > 0)
        label = name if usable.any() else f"{name} (not finite)"
        style = {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index % len(DASHES)]}
        if usable.sum() == 1:
            style["marker"] = "o"  # a line of one point is not seen
        axes.plot(x, np.where(usable, y, np.nan), label=label, linewidth=1.6, **style)
    if limits is None:
        axes.text(0.5, 0.5, "no finite positive values", ha="center", transform=axes.transAxes, color=MUTED)
    else:
        axes.set_yscale("log")
        axes.set_ylim(*limits)
    # Below the axes, where no curve can run through it.
    columns = len(curves) if sum(len(name) + 8 for name in curves) < 88 else 2
    axes.figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize="small",
        labelcolor=INK,
        handlelength=2.8,
    )


def _learning_figure(data: ReportData) -> Figure:
    columns = learning_columns(data)
    curves: dict[str, Curve] = {}
    for name, key in (("training loss", "train_loss"), ("validation loss", "validation_loss")):
        measured = np.isfinite(columns[key])
        if measured.any() or key == "train_loss":
            kept = measured if key == "validation_loss" else np.ones_like(measured)
            curves[name] = (columns["step"][kept], columns[key][kept])
    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    style_axes(axes, "step", "loss")
    _draw_log_curves(axes, curves)
    return figure


def _curves_figure(data: ReportData, curves: dict[str, Curve], y_label: str) -> Figure:
    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot()
    style_axes(axes, with_unit("time", data.time_unit), y_label)
    _draw_log_curves(axes, {name: (times, np.abs(values)) for name, (times, values) in curves.items()})
    if data.train_horizon is not None:
        left = min((float(times.min()) for times, _ in curves.values() if times.size), default=0.0)
        axes.axvspan(left, data.train_horizon, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
        axes.axvline(data.train_horizon, color=MUTED, linewidth=0.9)
        axes.annotate(
            " training data ends",
            (data.train_horizon, 1.0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            ha="center",
            fontsize="small",
            color=MUTED,
        )
    return figure


def project(q: Float[np.ndarray, "*T N d"]) -> Float[np.ndarray, "*T N 2"]:
    """Positions on the paper: unchanged in two dimensions, an oblique parallel projection in three.

    Example:
        >>> project(np.zeros((5, 4, 3))).shape
        (5, 4, 2)
    """
    if q.shape[-1] == 2:
        return q
    x, y, z = np.moveaxis(q, -1, 0)
    across = math.cos(_YAW) * x - math.sin(_YAW) * y
    away = math.sin(_YAW) * x + math.cos(_YAW) * y
    return np.stack([across, math.sin(_PITCH) * away + math.cos(_PITCH) * z], axis=-1)


def marker_scale(sizes: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Relative radius of each particle, 0.6 for the smallest to 1.4 for the largest, logarithmic between.

    Example:
        >>> marker_scale(np.array([1.0, 10.0, 100.0])).tolist()
        [0.6, 1.0, 1.4]
    """
    logarithms = np.log(np.where(sizes > 0, sizes, np.nan))
    spread = np.nanmax(logarithms) - np.nanmin(logarithms) if np.isfinite(logarithms).any() else 0.0
    if spread < 1e-6:
        return np.ones_like(sizes)
    # Kinds that differ little should look so: the full range is used from a ratio of 20 on.
    share = np.nan_to_num((logarithms - np.nanmin(logarithms)) / spread)
    radii: np.ndarray = 1.0 + (share - 0.5) * 0.8 * min(1.0, float(spread) / math.log(20.0))
    return radii


def _snapshot_frames(view: TrajectoryView) -> Int[np.ndarray, " snapshots"]:
    """Frames to show: the last within the training data, if there is one, and evenly on to the end."""
    last = view.times.size - 1
    horizon = view.train_horizon
    if horizon is None or not view.times[0] < horizon < view.times[-1]:
        return np.unique(np.linspace(last / _SNAPSHOTS, last, _SNAPSHOTS).round().astype(int))
    first = int(np.searchsorted(view.times, horizon, side="right")) - 1
    return np.unique(np.linspace(first, last, _SNAPSHOTS).round().astype(int))


def _trajectory_figure(view: TrajectoryView) -> Figure:
    frames = _snapshot_frames(view)
    true = project(view.true)
    predicted = None if view.predicted is None else project(view.predicted)
    figure = new_figure(3.0 * len(frames), 3.6)
    panels = figure.subplots(1, len(frames), squeeze=False)[0]
    low, high = np.nanmin(true, axis=(0, 1)), np.nanmax(true, axis=(0, 1))
    centre, half = (low + high) / 2, max(float((high - low).max()) * 0.56, 1e-9)
    for axes, frame in zip(panels, frames.tolist(), strict=True):
        _draw_snapshot(axes, view, true, predicted, frame)
        axes.set_xlim(centre[0] - half, centre[0] + half)
        axes.set_ylim(centre[1] - half, centre[1] + half)
        axes.set_title(_snapshot_title(view, frame), fontsize="medium", color=INK)
    figure.suptitle(view.label, color=INK)
    if predicted is not None:
        handles = [
            Line2D([], [], marker="o", color=INK, markerfacecolor="white", linewidth=0.8, label="true"),
            Line2D([], [], marker="o", color=INK, linewidth=1.6, label="predicted"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return figure


def _snapshot_title(view: TrajectoryView, frame: int) -> str:
    time = view.times[frame]
    title = f"t = {time:.4g} {view.time_unit}".strip()
    if view.train_horizon is None:
        return title
    return f"{title}\n{'within' if time <= view.train_horizon else 'beyond'} the training data"


def _draw_snapshot(
    axes: Axes,
    view: TrajectoryView,
    true: Float[np.ndarray, "T N 2"],
    predicted: Float[np.ndarray, "T N 2"] | None,
    frame: int,
) -> None:
    """One instant with the recent paths: ring and thin line are true, disc and bold line predicted or alone."""
    start = max(0, frame - max(8, int(_TRAIL_SHARE * view.times.size)))
    radii = 5.0 * marker_scale(view.sizes)
    for index in range(true.shape[1]):
        colour = PALETTE[index % len(PALETTE)]
        disc = {"color": colour, "markersize": radii[index], "marker": "o", "linestyle": "none"}
        discs = true if predicted is None else predicted
        axes.plot(*discs[start : frame + 1, index].T, color=colour, linewidth=1.8, alpha=0.45)
        axes.plot(*discs[frame, index][:, None], **disc)
        if predicted is not None:
            axes.plot(*true[start : frame + 1, index].T, color=colour, linewidth=0.8, alpha=0.9)
            ring = {**disc, "markersize": radii[index] + 4, "markerfacecolor": "none"}
            axes.plot(*true[frame, index][:, None], **ring)
    if predicted is not None and not np.isfinite(predicted[frame]).all():
        axes.text(0.5, 0.02, "prediction not finite", ha="center", transform=axes.transAxes, color=MUTED)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)
