"""Springs, shapes and planets: what was learned, beside published figures."""

from __future__ import annotations

import re

from result_tables.cells import NONE, Blocks, Result, listed, number, percent, source, table

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


BLOCKS: Blocks = {
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
}
