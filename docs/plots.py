"""Draw the diagrams of ``results.md`` from the measured figures: ``python docs/plots.py``.

``images/work_precision.png`` shows ``benchmarks/results/integrators.json``, block ``work_precision``;
``images/backbones.png`` shows ``benchmarks/results/backbones.json``; ``images/forecast.png``
``benchmarks/results/forecast.json``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
STYLES: dict[str, tuple[str, str, str]] = {
    "symplectic_euler": ("#999999", "-", "."),
    "position_verlet": ("#999999", "--", "."),
    "leapfrog": ("#000000", "-", "o"),
    "yoshida4": ("#E69F00", "-", "v"),
    "pefrl": ("#009E73", "-", "s"),
    "blanes_moan4": ("#0072B2", "-", "D"),
    "yoshida6": ("#E69F00", "--", "^"),
    "kahan_li6": ("#CC79A7", "--", "P"),
    "blanes_moan6": ("#0072B2", "--", "X"),
    "kahan_li8": ("#CC79A7", ":", "*"),
    "rk4 (torchdiffeq)": ("#D55E00", "-", "1"),
    "dopri5 (torchdiffeq)": ("#D55E00", "--", "2"),
    "DOP853 (SciPy)": ("#56B4E9", "-", "x"),
}
"""Colour (Okabe and Ito, "Color Universal Design", 2008), line by order, marker."""


def work_precision(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One panel a system: error of the positions against force evaluations, a line per method.

    Args:
        rows: system, method, forces, error; an error of None is not drawn.
        path: the picture to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    systems = list(dict.fromkeys(row["system"] for row in rows))
    with plt.rc_context({"font.size": 11, "legend.fontsize": 10}):
        figure, axes = plt.subplots(2, -(-len(systems) // 2), figsize=(10.5, 9), squeeze=False)
        for system, axis in zip(systems, axes.flat, strict=False):
            for method, (colour, line, marker) in STYLES.items():
                of = [row for row in rows if (row["system"], row["method"]) == (system, method)]
                points = [(row["forces"], row["error"]) for row in of if row["error"]]
                if points:
                    axis.plot(*zip(*points, strict=True), line, color=colour, marker=marker, ms=5.5, lw=1.4)
            axis.set(xscale="log", yscale="log", title=system, ylim=(1e-15, 10))
            axis.set(xlabel="force evaluations", ylabel="position error")
            axis.grid(alpha=0.3)
        for axis in axes.flat[len(systems) :]:
            axis.remove()
        lines = [
            plt.Line2D([], [], color=colour, ls=line, marker=marker, ms=6)
            for colour, line, marker in STYLES.values()
        ]
        figure.legend(lines, list(STYLES), ncols=5, loc="lower center", frameon=False, handlelength=3)
        figure.tight_layout(rect=(0, 0.1, 1, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)


BACKBONES: dict[str, tuple[str, str, str]] = {
    "lie": ("#0072B2", "o", "LieTransformer"),
    "se3": ("#D55E00", "s", "SE3Transformer"),
}


def backbones(figures: dict[str, float], path: Path) -> None:
    """One panel a system: error of the forces against the time of a force, a point per width.

    Args:
        figures: ``PROBLEM-BACKBONE-WIDTH_error`` and ``…_ms``.
        path: the picture to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    parts = [name.removesuffix("_error").split("-") for name in figures if name.endswith("_error")]
    problems = list(dict.fromkeys(problem for problem, *_ in parts))
    with plt.rc_context({"font.size": 11}):
        figure, axes = plt.subplots(1, len(problems), figsize=(4 * len(problems), 4), squeeze=False)
        for problem, axis in zip(problems, axes.flat, strict=True):
            for backbone, (colour, marker, label) in BACKBONES.items():
                widths = [width for *of, width in parts if of == [problem, backbone]]
                keys = [f"{problem}-{backbone}-{width}" for width in widths]
                ms, errors = ([figures[f"{key}_{what}"] for key in keys] for what in ("ms", "error"))
                axis.plot(ms, errors, color=colour, marker=marker, label=label)
                for k, place in enumerate(zip(ms, errors, strict=True)):
                    aside = (6, -12) if k % 2 else (6, 5)  # widths of similar cost do not hide each other
                    axis.annotate(widths[k], place, textcoords="offset points", xytext=aside, fontsize=9)
            axis.set(xscale="log", yscale="log", title=problem, xlabel="ms CPU per force of a system")
            for scale in (axis.xaxis, axis.yaxis):
                scale.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
                scale.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
                scale.set_minor_formatter(ticker.NullFormatter())
            axis.margins(0.15)
            axis.grid(alpha=0.3)
        axes[0, 0].set_ylabel("RMS error of the forces / their spread")
        axes[0, 0].legend(frameon=False, loc="center right")
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)


FORECASTS = {
    "persistence": ("#999999", ":", "as it was last"),
    "straight": ("#E69F00", "--", "straight on"),
    "ridge": ("#56B4E9", "--", "ridge regression"),
    "cdsa": ("#009E73", "-", "CDSA, its end hidden (ours)"),
    "hamiltonian": ("#0072B2", "-", "Hamiltonian (ours)"),
}


def forecast(curves: dict[str, list[float]], path: Path) -> None:
    """Errors of positions against the time since they were last seen.

    Args:
        curves: ``time`` and the ways, mean absolute errors in parts of the spread.
        path: the picture to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 11}):
        figure, axis = plt.subplots(figsize=(7, 4.2))
        for name, (colour, line, label) in FORECASTS.items():
            axis.plot(curves["time"], curves[name], line, color=colour, label=label, lw=1.8)
        axis.set(xlabel="time since the last observation", ylabel="mean error of positions / their spread")
        axis.set(xlim=(0, curves["time"][-1]), ylim=(0, 1.5))
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    found = json.loads((RESULTS / "integrators.json").read_text(encoding="utf-8"))
    work_precision(found["details"]["work_precision"], DOCS / "images" / "work_precision.png")
    measured = json.loads((RESULTS / "backbones.json").read_text(encoding="utf-8"))
    backbones(measured["figures"], DOCS / "images" / "backbones.png")
    springs = json.loads((RESULTS / "forecast.json").read_text(encoding="utf-8"))["details"]["springs"]
    forecast(springs, DOCS / "images" / "forecast.png")
