"""A synthetic but realistic report: coupled oscillators in the plane and a small solar system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lie_sim.report import (
    EquivarianceRow,
    MoleculeView,
    Parity,
    Plot,
    ReportData,
    Table,
    TrajectoryView,
)
from lie_sim.report.page import render_html

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def make_springs(*, frames: int = 500, particles: int = 6) -> TrajectoryView:
    """Normal modes of random springs; the prediction has each frequency a little wrong."""
    generator = np.random.default_rng(3)
    times = np.linspace(0.0, 25.0, frames)
    modes = generator.normal(size=(5, particles, 2)) * 0.5
    frequencies = generator.uniform(0.5, 2.4, 5)
    phases = generator.uniform(0.0, 6.0, 5)
    rest = np.stack([np.cos(np.arange(particles)), np.sin(np.arange(particles))], -1)

    def motion(factor: float) -> np.ndarray:
        return rest + np.einsum("tm,mnd->tnd", np.cos(np.outer(times, frequencies * factor) + phases), modes)

    sizes = generator.uniform(0.5, 3.0, particles)
    return TrajectoryView(
        "Springs, test system 1", times, motion(1.0), motion(1.012), sizes, train_horizon=5.0
    )


def make_solar(*, frames: int = 900) -> TrajectoryView:
    """Inclined ellipses around a sun; the prediction lags and then stops being finite for one planet."""
    names = ["Sun", "Mercury", "Venus", "Earth", "Mars", "Jupiter"]
    axes = np.array([0.0, 0.387, 0.723, 1.0, 1.524, 5.2])
    eccentricity = np.array([0.0, 0.2, 0.007, 0.017, 0.093, 0.048])
    masses = np.array([1.0, 1.7e-7, 2.4e-6, 3.0e-6, 3.2e-7, 9.5e-4])
    times = np.linspace(0.0, 4.0, frames)

    def motion(factor: float) -> np.ndarray:
        rates = np.where(axes > 0, 2 * np.pi / np.maximum(axes, 0.1) ** 1.5, 0.0) * factor
        mean = np.outer(times, rates) + np.arange(6)
        anomaly = mean + eccentricity * np.sin(mean)
        x = axes * (np.cos(anomaly) - eccentricity)
        y = axes * np.sqrt(1 - eccentricity**2) * np.sin(anomaly)
        tilt = np.deg2rad(23.4 + np.array([0.0, 7.0, 3.4, 0.0, 1.9, 1.3]))
        return np.stack([x, y * np.cos(tilt), y * np.sin(tilt)], -1)

    predicted = motion(1.01)
    predicted[frames - frames // 20 :, 1] = np.nan
    return TrajectoryView(
        "Solar system, 2000–2004", times, motion(1.0), predicted, masses, names, 1.5, "year", "AU"
    )


def make_alone() -> TrajectoryView:
    """A motion with nothing to compare it with."""
    view = make_springs(frames=50)
    return TrajectoryView("One motion", view.times, view.true, None, view.sizes)


def make_water(label: str, group: str, *, forces: bool = True) -> MoleculeView:
    """Water with an error of the force on its oxygen."""
    return MoleculeView(
        label,
        group,
        ["O", "H", "H"],
        np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
        np.array([[0, 1], [0, 2]]),
        force_error=np.array([[0.0, 0.03, 0.04], [0.0, -0.01, 0.0], [0.0, 0.0, 0.0]]) if forces else None,
        facts={"energy error": "1.2 meV/atom"},
        colours={"O": "#ff0d0d", "H": "#ffffff"},
        radii={"O": 0.66, "H": 0.31},
    )


def make_parity(count: int = 20_000) -> Parity:
    """Forces of a good model, with a few predictions far off and two that are not finite."""
    generator = np.random.default_rng(5)
    true = generator.normal(size=count)
    predicted = true + 0.02 * generator.normal(size=count)
    predicted[:3], predicted[3:5] = [2.5, -2.5, 90.0], np.nan
    return Parity.measure(
        "force component", true, predicted, unit="eV/Å", error_unit="meV/Å", error_scale=1e3
    )


def make_report() -> ReportData:
    """All parts filled, with what goes wrong in practice: gaps, a diverged model, a failed check."""
    generator = np.random.default_rng(0)
    steps = np.arange(1, 1501, 5)
    curve = []
    for step in steps.tolist():
        loss = 0.4 * np.exp(-step / 160) + 0.012 / (1 + step / 300) ** 2
        row = {
            "step": step,
            "cpu_seconds": step * 0.14 + 2e-5 * step**2,
            "train_loss": loss * np.exp(generator.normal() * 0.18),
            "learning_rate": 1e-3 * min(1.0, step / 100) * 0.5 * (1 + np.cos(np.pi * step / 1500)) + 1e-6,
        }
        if step % 50 == 1:
            row["validation_loss"] = loss * 1.15
            row["force_mae"] = 0.1 * loss**0.5
        curve.append(row)
    times = np.linspace(0.0, 25.0, 251)
    diverged = 1e-4 * np.exp(times * 0.9)
    diverged[180:] = np.inf
    errors = {
        "ours": (times, 2e-6 * times**2 * (1 + 0.3 * np.sin(3 * times)) + 1e-9 * (times > 0)),
        "paper preset": (times, 4e-5 * times**2.2 * (1 + 0.2 * np.sin(2 * times))),
        "fully connected HNN": (times, diverged),
        "free motion": (times, np.minimum(0.05 * times**2, 9.0 + np.sin(times))),
    }
    energies = {
        "learned H along its own trajectory": (times, 3e-7 * np.sin(5 * times) + 1e-10 * times),
        "true energy along the learned trajectory": (times, 2e-3 * np.sin(1.3 * times) * times / (times + 4)),
        "true H integrated": (times, 1e-8 * np.sin(5 * times)),
    }
    rows = [
        ("translation", "float32", "before training", 2.1e-6, 1e-4),
        ("translation", "float64", "after training", 4.4e-15, 1e-12),
        ("rotation", "float32", "after training", 3.8e-6, 1e-4),
        ("rotation", "float64", "after training", 7.9e-15, 1e-12),
        ("permutation", "float32", "after training", 2.3e-4, 1e-4),
    ]
    return ReportData(
        title="Springs and planets",
        subtitle="LieTransformer with soft frames, SE(2) and SE(3), trained on one laptop core",
        summary={
            "Training time": "212 CPU s",
            "Parameters": "41 218",
            "Test error, 100 steps": "3.1×10⁻⁴",
            "Energy drift": "3×10⁻⁷",
            "Seed": "0",
        },
        learning_curve=curve,
        metrics={"force_mae": "force MAE (eV/Å)"},
        parity=[make_parity(), Parity.measure("dipole moment", times, times + 0.1, unit="D")],
        breakdown=[
            Table(
                ["element", "MAE"],
                [["H", 5.0], ["O", 10.0], ["C", float("nan")]],
                title="By element",
                bar="MAE",
            ),
            Table(["structure", "energy"], [["12: H2O", -1.4]], title="Worst structures", note="Of 20."),
        ],
        molecules=[
            make_water("worst 1: H2O", "largest errors"),
            make_water("best 1: H2O", "smallest errors"),
        ],
        plots=[
            Plot(
                "Energy along molecular dynamics",
                {"total energy": (times, np.sin(times) - 3.0), "fitted line": (times, 0 * times - 3.0)},
                x_name="time",
                x_unit="ps",
                y_name="energy",
                y_unit="meV",
                marks={"harmonic": np.array([5.0, 11.0])},
                bands={"fitted line": np.where(times > np.median(times), np.nan, 0.5)},
                shaded={"heating": np.array([[0.0, 1.0], [2.0, 3.0]])},
                note="Drift 0.",
            ),
            Plot("Drift", {"largest": (times, 1e-6 * times)}, x_name="time", logarithmic=True),
        ],
        tables=[
            Table(["node", "rate"], [["a", 3.0], ["b", float("nan")]], title="Nodes", bar="rate", note="Two.")
        ],
        trajectories=[make_springs(), make_solar(), make_alone()],
        error_curves=errors,
        energy_curves=energies,
        equivariance=[EquivarianceRow(*row, passed=row[3] <= row[4]) for row in rows],
        comparison=Table(
            columns=["model", "parameters", "training CPU s", "5-step MSE", "100-step MSE", "diverged"],
            rows=[
                ["ours", 41218, 212.0, 1.2e-6, 3.1e-4, "0 %"],
                ["paper preset", 842313, 815.3, 2.3e-5, 6.0e-3, "0 %"],
                ["fully connected HNN", 132609, 96.0, 8.1e-3, float("nan"), "28 %"],
                ["free motion", 0, None, 4.9e-2, 8.7, "0 %"],
            ],
        ),
        configuration={
            "seed": 0,
            "model": {"name": "lie_transformer", "channels": [64, 64], "num_heads": 4, "cutoff": None},
            "training": {
                "steps": 1500,
                "batch_size": 100,
                "optimizer": {"name": "adam", "learning_rate": 1e-3},
            },
            "data": {"system": "springs", "path": "<b>not bold</b>"},
        },
        train_horizon=5.0,
    )


@pytest.fixture
def sample_report() -> ReportData:
    return make_report()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield instance
        instance.close()


class Opened:
    """A page with what it complained about and what it asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def time(self) -> float:
        return float(self.page.get_attribute("#player", "data-time"))

    def wait_for_time_after(self, time: float) -> None:
        for _ in range(100):
            if self.time() > time:
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"the animation did not pass t = {time} within 5 s; it is at {self.time()}")

    def first_particle(self) -> np.ndarray:
        canvas = self.page.locator("#player [data-part=canvas]")
        return np.array([float(canvas.get_attribute(f"data-first-{axis}")) for axis in "xy"])

    def move_slider(self, frame: int) -> None:
        self.page.locator("#player [data-part=slider]").fill(str(frame))


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Any]:
    opened: list[Opened] = []

    def open_it(data: ReportData, **options: Any) -> Opened:
        path = tmp_path / "report.html"
        path.write_text(render_html(data), encoding="utf-8")
        opened.append(Opened(browser, path, **options))
        return opened[-1]

    yield open_it
    for item in opened:
        item.context.close()
