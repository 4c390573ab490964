"""How accurate is our model on the springs of the LieTransformer paper, with how many training trajectories?

The paper's protocol: every training system contributes one random chunk of five points (dt = 5/499, horizon 0.04);
the tests are chunks of five points of 2,000 unseen systems (mean squared error over the five points and 24
coordinates, the first point is given) and rollouts of 100 steps. Three seeds, each with its own data and weights.
Beside that: the CPU time in which 400 trajectories reach the paper's own 8.6e-6, and the energy over 10^4 leapfrog
steps, against the true Hamiltonian with the same integrator, step and systems.

    python benchmarks/springs_accuracy.py [--workers 2] [--only 400] [--seeds 3]

Published 5-step errors (LieTransformer-T(2), read off figure 5 of arXiv:2012.10885, ±10 %): see ``PUBLISHED``.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import torch
from record import record

from lie_sim.experiments import SpringsConfig, SpringsExperiment
from lie_sim.experiments.dynamics import energy_change_along, score_rollout
from lie_sim.experiments.springs import POINTS
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.rollout import energy_change, rollout
from lie_sim.systems import Springs
from lie_sim.training import train

PUBLISHED = {40: None, 100: 2.5e-5, 400: 8.6e-6, 3000: 1.2e-6}
TARGET = 8.6e-6
STEPS = {40: 2000, 100: 3000, 400: 4000, 3000: 6000}
SHORT_SCHEDULES = (300, 400, 500, 600, 800)
ENERGY_SYSTEMS, ENERGY_STEPS, ENERGY_EVERY = 100, 10_000, 20


def experiment(num_train: int, seed: int, steps: int) -> SpringsExperiment:
    config = SpringsConfig(num_train=num_train, num_test=2000, data_seed=seed)
    training = replace(config.training, max_steps=steps, seed=seed, validate_every=500)
    return SpringsExperiment(replace(config, training=training))


def fit(job: SpringsExperiment) -> tuple[Hamiltonian, float]:
    """The trained Hamiltonian and the CPU seconds of its training, validations included."""
    result = train(job.build(), job.task(), job.training, progress=False)
    assert isinstance(result.module, Hamiltonian)
    return result.module, result.cpu_seconds


def accuracy(num_train: int, seed: int) -> dict[str, Any]:
    """One training run and its tests."""
    torch.set_num_threads(1)
    job = experiment(num_train, seed, STEPS[num_train])
    hamiltonian, cpu_seconds = fit(job)
    short = score_rollout(hamiltonian, job.chunks("test", POINTS))
    long = score_rollout(hamiltonian, job.chunks("test", 101))
    found: dict[str, Any] = {
        "num_train": num_train,
        "seed": seed,
        "cpu_s": cpu_seconds,
        "mse5": short.mean,
        "mse5_median": short.median,
        "mse100": long.mean,
        "mse100_last": long.last,
        "diverged_share": long.diverged_share,
    }
    if num_train == 3000 and seed == 0:
        found |= energy_conservation(hamiltonian, job)
    return found


def time_to_target(seed: int) -> dict[str, Any]:
    """CPU time of the shortest schedule in which 400 trajectories reach the published error."""
    torch.set_num_threads(1)
    spent: list[dict[str, float]] = []
    for steps in SHORT_SCHEDULES:
        job = experiment(400, seed, steps)
        job = SpringsExperiment(replace(job.config, training=replace(job.training, validate_every=0)))
        hamiltonian, cpu_seconds = fit(job)
        error = score_rollout(hamiltonian, job.chunks("test", POINTS)).mean
        spent.append({"steps": steps, "cpu_s": cpu_seconds, "mse5": error})
        if error <= TARGET:
            break
    return {
        "seed": seed,
        "schedules": spent,
        "reached": spent[-1]["mse5"] <= TARGET,
        "cpu_s": spent[-1]["cpu_s"],
    }


def energy_conservation(hamiltonian: Hamiltonian, job: SpringsExperiment) -> dict[str, float]:
    """Energy changes over 10^4 leapfrog steps, in units of the mean kinetic energy of each trajectory."""
    truth = job.chunks("test", POINTS)[:ENERGY_SYSTEMS]
    system, step = Springs(), truth.dt
    hamiltonian = hamiltonian.double()
    options = {"step_size": step, "num_steps": ENERGY_STEPS, "method": "leapfrog", "save_every": ENERGY_EVERY}
    learned = rollout(hamiltonian, truth.state(0), truth.particles, **options)  # type: ignore[arg-type]
    exact = rollout(system, truth.state(0), truth.particles, **options)  # type: ignore[arg-type]
    ours, theirs = energy_change(learned, truth.particles), energy_change(exact, truth.particles)
    half = ours.shape[1] // 2
    trend = ours[:, half:].mean(1) - ours[:, :half].mean(1)
    along = energy_change_along(system, learned, truth).abs()
    amplitude = {
        name: float(x.amax(1).sub(x.amin(1)).mean()) for name, x in (("ours", ours), ("true", theirs))
    }
    return {
        "energy_oscillation_over_kinetic_learned": amplitude["ours"],
        "energy_oscillation_over_kinetic_true": amplitude["true"],
        "energy_error_over_true_h": amplitude["ours"] / amplitude["true"],
        "energy_trend_over_oscillation": float(trend.abs().mean()) / amplitude["ours"],
        "true_energy_along_learned_over_kinetic_rms": float(along.square().mean().sqrt()),
        "energy_diverged_share": float(learned.diverged.double().mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--only", type=int, choices=sorted(STEPS), help="one training-set size; nothing is recorded"
    )
    options = parser.parse_args()
    sizes = [options.only] if options.only else sorted(STEPS, reverse=True)
    seeds = range(options.seeds)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        fits = [pool.submit(accuracy, size, seed) for size in sizes for seed in seeds]
        times = [] if options.only else [pool.submit(time_to_target, seed) for seed in seeds]
        rows = []
        for future in fits:
            rows.append(future.result())
            print(
                {key: value if isinstance(value, int) else f"{value:.3g}" for key, value in rows[-1].items()},
                flush=True,
            )
        targets = [future.result() for future in times]
    print(
        f"\n{'trajectories':>12} {'published':>10} {'5 steps':>10} {'100 steps':>10} {'diverged':>9} {'CPU s':>7}"
    )
    for size in sizes:
        of = [row for row in rows if row["num_train"] == size]
        mean = {
            key: statistics.fmean(row[key] for row in of)
            for key in ("mse5", "mse100", "diverged_share", "cpu_s")
        }
        published = PUBLISHED[size]
        print(
            f"{size:12d} {f'{published:.1e}' if published else '–':>10} {mean['mse5']:10.1e} "
            f"{mean['mse100']:10.1e} {mean['diverged_share']:9.4f} {mean['cpu_s']:7.0f}"
        )
    if options.only:
        return
    figures = {f"mse5_n{size}": _mean(rows, size, "mse5") for size in sizes}
    figures |= {
        f"mse5_n{size}_worst_seed": max(r["mse5"] for r in rows if r["num_train"] == size) for size in sizes
    }
    figures |= {f"mse100_n{size}": _mean(rows, size, "mse100") for size in sizes}
    figures |= {f"cpu_s_n{size}": _mean(rows, size, "cpu_s") for size in sizes}
    figures["diverged_share"] = max(row["diverged_share"] for row in rows)
    figures["diverged_share_n3000"] = max(r["diverged_share"] for r in rows if r["num_train"] == 3000)
    figures["cpu_s_to_8p6e6"] = statistics.median(
        t["cpu_s"] if t["reached"] else float("inf") for t in targets
    )
    figures |= {key: value for row in rows for key, value in row.items() if "energy" in key}
    for key, value in figures.items():
        print(f"{key:34s} {value:.4g}")
    print(record("springs_accuracy", figures, threads=1, details={"runs": rows, "time_to_target": targets}))


def _mean(rows: list[dict[str, Any]], size: int, key: str) -> float:
    return statistics.fmean(row[key] for row in rows if row["num_train"] == size)


if __name__ == "__main__":
    main()
