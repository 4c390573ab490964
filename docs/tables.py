"""Write the measured figures into ``results.md``: ``python docs/tables.py``.

Each block between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced by a table made from
``benchmarks/results/*.json``. A test compares the committed page with what this makes, so the page shows what
was measured and nothing else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
NONE = "–"

PUBLISHED_MSE5 = {  # n: LieTransformer-T(2), LieConv-T(2)
    10: (7.5e-4, 3.6e-3),
    25: (1.5e-4, 9.3e-4),
    50: (6e-5, 2.8e-4),
    100: (2.5e-5, 1.6e-4),
    400: (8.6e-6, 2.4e-5),
    1000: (5.8e-6, 3.4e-5),
    3000: (1.2e-6, 5e-6),
}
"""Read off the published data-efficiency figure, ±10 %."""

PUBLISHED_SHAPES = {  # as trained, shifted, shifted and turned
    "SetTransformer, published": (0.58, 0.44, 0.44),
    "LieTransformer-T(2), published": (0.75, 0.75, 0.63),
    "LieTransformer-SE(2), published": (0.71, 0.71, 0.69),
}

Result = dict[str, Any]


def number(value: float | None) -> str:
    """Two significant digits, as 1.2e-07 is written by hand; a dash for what was not measured."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not reached"
    if value == 0 or 0.01 <= abs(value) < 100:
        return f"{float(f'{value:.2g}'):g}"  # twice, for 99.6 is 100
    if 100 <= abs(value) < 1e6:
        return f"{round(value, 1 - math.floor(math.log10(abs(value)))):,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(value: float | None) -> str:
    """A share, to a tenth of a percent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def source(result: Result) -> str:
    """Where the numbers come from."""
    command = re.sub(r"(?<=\s)/\S+", "PATH", result["command"])
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    threads = f"{result['threads']} thread{'s' if result['threads'] != 1 else ''}"
    return f"\n`{command}`, {result['date']}; {result['machine']}, {threads}; {versions}.\n"


def listed(labels: dict[str, str], *, share: tuple[str, ...] = ()) -> Callable[[Result], str]:
    """A table of single figures: label and value."""

    def block(result: Result) -> str:
        figures = result["figures"]
        rows = [
            [label, (percent if key in share else number)(figures[key])]
            for key, label in labels.items()
            if key in figures
        ]
        return table(["quantity", "value"], rows) + source(result)

    return block


def springs_accuracy(result: Result) -> str:
    """Errors by number of training trajectories, beside the published ones."""
    figures, runs = result["figures"], result.get("details", {}).get("runs", [])
    rows = []
    for size in sorted(int(key.removeprefix("mse5_n")) for key in figures if re.fullmatch(r"mse5_n\d+", key)):
        of = [run for run in runs if run["num_train"] == size]
        last = sum(run["mse100_last"] for run in of) / len(of) if of else None
        diverged = max(run["diverged_share"] for run in of) if of else None
        ours = [figures[f"{key}_n{size}"] for key in ("mse5", "mse100", "cpu_s")]
        rows.append(
            [
                f"{size:,}",
                *(number(value) for value in PUBLISHED_MSE5.get(size, (None, None))),
                f"**{number(ours[0])}**",
                number(figures.get(f"mse5_n{size}_worst_seed")),
                number(ours[1]),
                number(last),
                percent(diverged),
                number(ours[2]),
            ]
        )
    header = [
        "n",
        "LieTransformer-T(2), published",
        "LieConv-T(2), published",
        "ours, 5 steps",
        "worst seed",
        "ours, 100 steps",
        "at step 100",
        "diverged",
        "CPU s",
    ]
    seeds = len({run["seed"] for run in runs})
    target = number(figures.get("cpu_s_to_8p6e6"))
    return (
        table(header, rows)
        + f"\nMeans over {seeds} seeds, each with its own data and weights. “Diverged” is the share of the test\n"
        + "systems that left every bound within 100 steps, in the worst seed; they are not in the means. CPU s\n"
        + "trains one model.\n"
        + f"\nCPU seconds of the shortest schedule that brings n = 400 to the published 8.6e-6, median: **{target}**.\n"
        + source(result)
    )


def springs_step(result: Result) -> str:
    """Cost of a training step, by contestant."""
    figures = result["figures"]
    contestants = {
        "reference": ("published code, back-propagation through RK4", None, None),
        "paper_preset": (
            "the same architecture and loss in lie_sim",
            "paper_preset_speedup",
            "paper_preset_memory_ratio",
        ),
        "ours_rollout": (
            "our model, back-propagation through PEFRL",
            "time_ratio_reference_over_our_rollout",
            "memory_ratio_reference_over_our_rollout",
        ),
        "ours": (
            "our model, forces at all five points",
            "time_ratio_reference_over_ours",
            "memory_ratio_reference_over_ours",
        ),
    }
    rows = [
        [
            name,
            number(figures.get(f"cpu_s_step_{key}")),
            number(figures.get(f"peak_mb_{key}")),
            f"{number(figures[time])} ×" if time in figures else "1" if time is None else NONE,
            f"{number(figures[memory])} ×" if memory in figures else "1" if memory is None else NONE,
        ]
        for key, (name, time, memory) in contestants.items()
    ]
    return table(["", "CPU s per step", "peak MB", "faster", "less memory"], rows) + source(result)


def shapes(result: Result) -> str:
    """Accuracy on three test sets, beside the published ones."""
    figures = result["figures"]
    keys = ("accuracy", "accuracy_t2", "accuracy_se2")
    rows = [["**soft frames, ours**", *(percent(figures[key]) for key in keys)]]
    if figures.get("seeds", 1) > 1:
        rows.append(
            [
                f"worst of {figures['seeds']:.0f} seeds",
                *(percent(figures.get(f"{key}_worst")) for key in keys),
            ]
        )
    rows += [
        [name, *(f"{100 * value:.0f} %" for value in values)] for name, values in PUBLISHED_SHAPES.items()
    ]
    header = ["trained without augmentation", "as trained", "shifted", "shifted and turned"]
    cost = f"\nTraining took {number(figures['cpu_s'])} CPU s.\n" if "cpu_s" in figures else ""
    return table(header, rows) + cost + source(result)


def kill_and_resume(result: Result) -> str:
    """How often a run was killed, and what became of it."""
    runs = result["details"]["runs"]
    kills = [kill for run in runs for kill in run["kills"]]
    rows = [
        ["processes killed (SIGKILL, at a random moment)", str(len(kills))],
        ["runs that they belonged to", str(len(runs))],
        ["kills in the middle of writing a checkpoint", str(sum(kill["half_written"] > 0 for kill in kills))],
        [
            "runs with step, checkpoint, weights and metrics equal to the undisturbed run, bit for bit",
            str(sum(all(run["equal"].values()) for run in runs)),
        ],
    ]
    return table(["", "number"], rows) + source(result)


def cost_cell(row: Result | None) -> str:
    """Microseconds of a step, and how many of them are overhead."""
    return NONE if row is None else f"{number(row['us'])} ({number(row['overhead_us'])})"


def ratio_cell(row: Result | None) -> str:
    """Milliseconds of a step, and their ratio to its bare forces: overhead drowns in the noise of a long force."""
    if row is None:
        return NONE
    return f"{number(row['us'] / 1000)} ({number(row['us'] / (row['forces'] * row['force_us']))})"


CONTESTANTS = {
    "own": "**ours**",
    "own_compiled": "**ours**",
    "torchdiffeq": "torchdiffeq",
    "torchode": "torchode",
    "diffrax": "diffrax (compiled)",
    "jax_md": "jax-md (compiled)",
}


def integrator_steps(result: Result) -> str:
    """Cost of a step by contestant, on springs and with a learned force."""
    rows = result["details"]["steps"]
    found = {(row["contestant"], row["method"], row["problem"], row["batch"]): row for row in rows}
    batches = sorted({row["batch"] for row in rows})
    labels = dict.fromkeys(
        (row["contestant"], row["method"])
        for row in rows
        if (row["contestant"], row["method"]) != ("own_compiled", "leapfrog")
    )

    def lines(problem: str, cell: Callable[[Result | None], str], *, null: bool) -> list[list[str]]:
        out = []
        for contestant, method in labels:
            cells = [found.get((contestant, method, problem, batch)) for batch in batches]
            if any(cells):
                forces = next(row["forces"] for row in cells if row)
                first = [f"{CONTESTANTS[contestant]}: {method}", number(forces)]
                nothing = found.get((contestant, method, "null", 1))
                first += [number(nothing["us"] if nothing else None)] if null else []
                out.append([*first, *map(cell, cells)])
        return out

    columns = [f"batch {batch:,}" for batch in batches]
    versions = ", ".join(f"{name} {version}" for name, version in result["details"]["rivals"].items())
    return (
        "Springs, force in closed form; µs per step, overhead in brackets:\n\n"
        + table(["", "forces", "empty right-hand side", *columns], lines("springs", cost_cell, null=True))
        + "\nForces of a LieTransformer; ms per step, in brackets over the time of its bare forces:\n\n"
        + table(["", "forces", *columns], lines("lietransformer", ratio_cell, null=False))
        + f"\nMedians of {result['details']['rounds']} rounds.{f' Rivals: {versions}.' if versions else ''}\n"
        + source(result)
    )


def forces_for(rows: list[Result], error: float) -> float | None:
    """Forces of the cheapest measured run that is at least so accurate."""
    enough = [row["forces"] for row in rows if row["error"] is not None and row["error"] <= error]
    return min(enough, default=None)


def integrator_work(result: Result) -> str:
    """Forces that buy six and ten digits, by method and system; the fewest in bold."""
    rows = result["details"]["work_precision"]
    systems, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ("system", "method"))
    columns = []
    for error in (1e-6, 1e-10):
        for system in systems:
            cells = [
                forces_for([row for row in rows if (row["system"], row["method"]) == (system, method)], error)
                for method in methods
            ]
            least = min((cell for cell in cells if cell is not None), default=None)
            columns.append([f"**{number(cell)}**" if cell == least else number(cell) for cell in cells])
    header = ["", *(f"{system}, {error}" for error in ("1e-6", "1e-10") for system in systems)]
    lines = [[method, *cells] for method, *cells in zip(methods, *columns, strict=True)]
    return table(header, lines) + source(result)


def integrator_energy(result: Result) -> str:
    """Energy errors on springs, over a million steps, and the defect of rotations."""
    details = result["details"]
    energy = [
        [row["method"], *(number(row[key]) for key in ("h", "max_error_first_tenth", "max_error", "trend"))]
        for row in details["energies"]
    ]
    long = [
        [
            row["method"],
            f"{row['steps']:,}",
            *(number(row[key]) for key in ("h", "max_error_first_tenth", "max_error", "slope_over_run")),
            f"± {number(row['slope_half_width_95'])}",
        ]
        for row in details["long_energy"]
    ]
    rigid = [
        [row["method"], f"{row['steps']:,}", number(row["defect"]), number(row["energy_error"])]
        for row in details["group_defects"]
    ]
    largest = ["first tenth of the run", "whole run"]
    return (
        "Relative energy error on springs, t = 2,000, about 10⁵ forces each:\n\n"
        + table(["method", "h", *largest, "second half − first half"], energy)
        + "\nThe same over a million steps; change of a fitted line over the run, 95 % interval:\n\n"
        + table(["method", "steps", "h", *largest, "trend", "interval"], long)
        + "\nRotation matrices of free rigid bodies, h = 0.02:\n\n"
        + table(["method", "steps", "largest entry of \\|RᵀR − 1\\|", "relative energy error"], rigid)
        + source(result)
    )


def reversible(result: Result) -> str:
    """Memory, time and gradient error by adjoint."""
    figures, runs = result["figures"], result["details"]["runs"]
    counts = sorted({run["steps"] for run in runs})
    names = {
        "autograd": "autograd",
        "checkpoint": "checkpoint",
        "reversible": "**reversible**",
        "fixed_point": "**reversible, fixed point**",
        "odeint_adjoint": "torchdiffeq `odeint_adjoint`, rk4",
    }
    rows = []
    for adjoint, name in names.items():
        extra = {run["steps"]: run["extra_mib"] for run in runs if run["adjoint"] == adjoint}
        part = "" if adjoint == "reversible" else f"_{adjoint}"
        ratio = 1.0 if adjoint == "autograd" else figures.get(f"time_ratio{part}")
        errors = [figures.get(f"grad_error{part}_{steps}") for steps in ("100", "1e4")]
        memory = [number(extra.get(steps)) for steps in counts]
        rows.append([name, *memory, number(ratio), *map(number, errors)])
    header = ["", *(f"MiB, {steps:,}" for steps in counts), "time, 100", "error, 100", "error, 10,000"]
    return table(header, rows) + source(result)


def kill_rollout(result: Result) -> str:
    """How often a rollout was killed, and whether its frames are the same."""
    figures, kills = result["figures"], result["details"]["kills"]
    rows = [
        ["steps", f"{figures['steps']:,}"],
        ["processes killed (SIGKILL, at a random moment)", str(figures["kills"])],
        ["kills before the first new block was stored", str(figures["kills_without_progress"])],
        ["kills in the middle of writing a block", str(sum(kill["half_written"] > 0 for kill in kills))],
        [
            "blocks of frames equal to those of the undisturbed run, bit for bit",
            f"{figures['blocks_equal']} of {figures['blocks']}",
        ],
    ]
    return table(["", "number"], rows) + source(result)


LONG_ROLLOUTS = {
    "start": "4 steps: the common start",
    "four": "more of it: **4 steps**",
    "hundred": "or: 100 steps",
    "thousand": "or: **1,000 steps**",
    "four+four": "more of it, and again: 4 steps",
    "four+thousand": "more of it, then 1,000 steps",
}


def long_rollouts(result: Result) -> str:
    """Errors after each way of training, and what a training step costs."""
    figures, details = result["figures"], result["details"]
    noises = details["noises"]
    rows = [
        [label, *(cell for noise in noises for cell in _long_rollout_cells(details["runs"], noise, way))]
        for way, label in LONG_ROLLOUTS.items()
    ]
    columns = [
        f"{'no noise' if not noise else f'noise {noise:g}'}{what}"
        for noise in noises
        for what in (": error", ", worst seed", ", updates (CPU s)")
    ]
    counts = sorted({row["steps"] for row in details["memory"]})
    names = {
        "autograd": "autograd",
        "checkpoint": "checkpoint",
        "reversible": "**reversible**",
        "compiled": "**reversible, compiled**",
    }
    cost = [
        [
            name,
            *(number(figures.get(f"mib_{adjoint}_{steps}")) for steps in counts),
            *(number(figures.get(f"ms_{adjoint}_{batch}")) for batch in (8, 40)),
        ]
        for adjoint, name in names.items()
    ]
    return (
        "Mean squared error of rollouts over 100 steps of unseen systems; means over the seeds (how many):\n\n"
        + table(["trained through", *columns], rows)
        + f"\nWith noise the error after 1,000 steps is {number(figures['gain_noisy_thousand'])} times smaller than "
        + f"after more of the four (worst seed {number(figures['gain_noisy_thousand_worst_seed'])}), without noise "
        + f"{number(figures['gain_clean_thousand'])} times.\n"
        + "\nMiB that a training step of 40 systems needs beyond what the process holds already, and CPU milliseconds "
        + "of an integrator step, there and back:\n\n"
        + table(["", *(f"{steps:,} steps: MiB" for steps in counts), "ms, 8 systems", "ms, 40 systems"], cost)
        + source(result)
    )


def _long_rollout_cells(runs: list[dict[str, Any]], noise: float, way: str) -> list[str]:
    """Error, worst seed, updates and CPU seconds of the learning rate that was chosen."""
    of = [run for run in runs if run["noise"] == noise and run["way"] == way and run["chosen"]]
    if not of:
        return [NONE, NONE, NONE]
    mean = {key: sum(run[key] for run in of) / len(of) for key in ("mse100", "updates", "cpu_s")}
    worst = max(run["mse100"] for run in of)
    return [
        f"{number(mean['mse100'])} ({len(of)})",
        number(worst),
        f"{number(mean['updates'])} ({number(mean['cpu_s'])})",
    ]


BLOCKS: dict[str, tuple[str, Callable[[Result], str]]] = {
    "springs_accuracy": ("springs_accuracy", springs_accuracy),
    "springs_step": ("springs_step", springs_step),
    "energy": (
        "springs_accuracy",
        listed(
            {
                "energy_oscillation_learned": "oscillation of the learned energy, peak to peak, in units of \\|H\\|",
                "energy_oscillation_true": "the same for the true Hamiltonian",
                **{
                    f"energy_oscillation_over_kinetic_{key}": f"energy change / mean kinetic energy, peak to peak, {h}"
                    for key, h in (("learned", "learned Hamiltonian"), ("true", "true Hamiltonian"))
                },
                "energy_error_over_true_h": "ratio of the two",
                "energy_trend_over_oscillation": "change from the first half to the second, per oscillation",
                "true_energy_along_learned_rms": "error of the true energy along the learned trajectories, rms, "
                "in units of \\|H\\|",
                "true_energy_along_learned_over_kinetic_rms": "energy change / mean kinetic energy, rms, of the true "
                "Hamiltonian along the learned trajectories",
                "energy_diverged_share": "systems that diverged",
            },
            share=("energy_diverged_share",),
        ),
    ),
    "symmetry": (
        "symmetry",
        listed(
            {
                "invariance_f64_max": "largest invariance error, float64",
                "invariance_f32_max": "largest invariance error, float32",
                "finite_force_share": "batches whose forces are all finite, in the worst lifting",
                "log_roundtrip_f32_max": "largest error of log(exp x), float32, angles up to π − 10⁻⁴",
                "haar_error_slope": "slope of log error against log L, L random lifts (−½ is expected)",
            },
            share=("finite_force_share",),
        ),
    ),
    "shapes": ("shapes", shapes),
    "solar": (
        "solar",
        listed(
            {
                "rms_error_au": "learned potential, rms position error, AU",
                "newton_rms_error_au": "Newton's law, same integrator and step, AU",
                "error_over_newton": "ratio of the two",
                "error_over_newton_worst_body": "ratio for the worst body",
                "circular_rms_error_au": "circular orbits, AU",
                "constant_velocity_rms_error_au": "straight lines, AU",
            }
        ),
    ),
    "kill_and_resume": ("kill_and_resume", kill_and_resume),
    "kill_rollout": ("kill_rollout", kill_rollout),
    "integrator_steps": ("integrators", integrator_steps),
    "integrator_work": ("integrators", integrator_work),
    "integrator_energy": ("integrators", integrator_energy),
    "reversible": ("reversible", reversible),
    "long_rollouts": ("long_rollouts", long_rollouts),
}
"""Name of a block to the result file that it shows and the function that does it."""


def content(name: str, results: Path = RESULTS) -> str:
    """What belongs between the markers of a block."""
    stem, make = BLOCKS[name]
    path = results / f"{stem}.json"
    if not path.exists():
        return f"Not measured yet: `python benchmarks/{stem}.py`.\n"
    return make(json.loads(path.read_text(encoding="utf-8")))


def render(page: str, results: Path = RESULTS) -> str:
    """The page with every block rewritten."""
    return BLOCK.sub(lambda found: f"{found[1]}{content(found[2], results)}{found[3]}", page)


if __name__ == "__main__":
    path = DOCS / "results.md"
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
