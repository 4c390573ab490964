"""Every plot is drawn, shows something, and leaves matplotlib as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from lie_sim.report import ReportData, TrajectoryView, write_figures
from lie_sim.report.figures import marker_scale, project

MIN_INK = 0.005  # share of pixels that are not white in the emptiest good plot


def test_every_plot_is_written_and_not_blank(sample_report: ReportData, tmp_path: Path) -> None:
    written = write_figures(sample_report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    assert {path.stem for path in written} == {
        "learning_curve",
        "error_curves",
        "energy_curves",
        "trajectory_1",
        "trajectory_2",
        "trajectory_3",
        "parity_1",
        "parity_2",
        "breakdown",
        "plot_1",
        "plot_2",
    }
    for path in written:
        image = matplotlib.image.imread(path)
        ink = float((image[..., :3].min(-1) < 0.97).mean())
        assert min(image.shape[:2]) > 400
        assert ink > MIN_INK, f"{path.name}: {ink:.4f} of the pixels are drawn, expected more than {MIN_INK}"


def test_figures_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    for name in ("trajectory_7", "parity_3", "plot_2", "breakdown"):
        (tmp_path / f"{name}.png").write_bytes(b"old")
    (tmp_path / "mine.png").write_bytes(b"not ours")
    write_figures(ReportData(title="x", learning_curve=[{"step": 1, "train_loss": 1.0}]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learning_curve.png", "mine.png"]


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_curves_without_finite_values_are_drawn_as_such(value: float, tmp_path: Path) -> None:
    times = np.arange(3.0)
    view = TrajectoryView("x", times, np.ones((3, 1, 3)), np.full((3, 1, 3), np.nan), np.ones(1))
    data = ReportData(
        title="x",
        learning_curve=[{"step": 1, "train_loss": value}],
        error_curves={"diverged": (times, np.full(3, value)), "empty": (times[:0], times[:0])},
        trajectories=[view],
        train_horizon=1.0,
    )
    assert len(write_figures(data, tmp_path)) == 3


def test_projection_turns_but_does_not_stretch() -> None:
    axes = project(np.eye(3))
    # A parallel projection shows the unit axes as the columns of a 2×3 matrix with orthonormal rows.
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)


def test_marker_scale_orders_by_size() -> None:
    assert marker_scale(np.array([3.0, 3.0])).tolist() == [1.0, 1.0]
    scale = marker_scale(np.array([1.0, 1e-7, 9.5e-4]))
    assert scale[0] > scale[2] > scale[1] > 0.5


def test_drawing_leaves_matplotlib_alone(tmp_path: Path) -> None:
    code = """
import sys
import matplotlib
settings = lambda: sorted(map(repr, dict.items(matplotlib.rcParams)))  # plain reading would choose a backend
before = settings()
from lie_sim.report import ReportData, write_figures
assert write_figures(ReportData(title="x", learning_curve=[{"step": 1, "train_loss": 1.0}]), sys.argv[1])
assert settings() == before, "rcParams changed"
assert "matplotlib.pyplot" not in sys.modules, "pyplot was imported"
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
