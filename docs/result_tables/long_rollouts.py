"""Tables of training through long rollouts."""

from __future__ import annotations

from typing import Any

from result_tables.cells import NONE, Blocks, Result, number, source, table

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
        + "\nError after 1,000 steps over that after more of the four: with noise "
        + f"{number(1 / figures['gain_noisy_thousand'])} (geometric mean; worst seed "
        + f"{number(1 / figures['gain_noisy_thousand_worst_seed'])}), without noise "
        + f"{number(1 / figures['gain_clean_thousand'])}.\n"
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


BLOCKS: Blocks = {"long_rollouts": ("long_rollouts", long_rollouts)}
