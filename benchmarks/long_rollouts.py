"""Does training through rollouts of a thousand steps predict better than training through four, and what does it cost?

Springs of the LieTransformer paper, forty training trajectories of 500 points, without and with noise (an error of 0.03
on every coordinate and momentum, whose standard deviations are 0.5 and 2.7; the tests have none). Everyone begins with
the same ordinary training: rollouts over four steps from random points of the trajectories. Then the same weights are
trained on, for the same CPU time, in two ways:

    four steps       the same as before, at a third of the first learning rate
    long rollouts    half of the time through 100 leapfrog steps over 51 points, the other half through 1,000 steps over
                     101 points, with the reversible adjoint

Judged by rollouts of 100 steps of unseen systems: mean squared error of positions and momenta, PEFRL, as in
springs_accuracy.py. Three seeds, each with its own data and weights. Lengths and learning rates were chosen by
validation systems of seed 0, among two or three values each.

Memory: peak resident set (VmHWM) during one training step minus the resident set before, after a warm-up of a step
through two, in a process of its own for each adjoint and length.

    python benchmarks/long_rollouts.py [--workers 2] [--seeds 3] [--keep DIR] [--only NOISE SEED] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from record import record

from lie_sim import save_model
from lie_sim.experiments import SpringsConfig, SpringsExperiment
from lie_sim.experiments.dynamics import score_rollout
from lie_sim.files import write_atomically
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.training import RolloutTask, TrainingConfig, train

NUM_TRAIN, NUM_TEST, POINTS = 40, 200, 500
NOISES = (0.0, 0.03)
START, LONGER = 60.0, 60.0
"""CPU seconds of the common start and of what follows."""
FOUR = {"rollout_method": "yoshida4", "rollout_points": 5}
MEMORY_STEPS, MEMORY_BATCH = (10, 100, 1000), 40
MEMORY_LIMIT = {"autograd": 100, "checkpoint": 1000, "reversible": 1000}


def through(points: int, substeps: int) -> dict[str, Any]:
    """Options of rollouts over so many points, stepped back."""
    return {
        "rollout_method": "leapfrog",
        "rollout_points": points,
        "rollout_substeps": substeps,
        "rollout_adjoint": "reversible",
        "warmup_steps": 0,
        "min_learning_rate_ratio": 0.1,
        "weight_decay": 0.0,
        "ema_decay": 0.8,  # few and expensive steps
    }


Stage = tuple[float, dict[str, Any]]
"""CPU seconds and training options."""


def begin(noise: float, seconds: float) -> Stage:
    return seconds, {**FOUR, "learning_rate": 3e-3 if noise else 1e-2}


def continuations(noise: float, seconds: float) -> dict[str, list[Stage]]:
    """What follows the common start, by name."""
    hundred, thousand = (3e-4, 1e-4) if noise else (1e-4, 1e-5)
    return {
        "four": [(seconds, {**FOUR, "learning_rate": 1e-3 if noise else 3e-3})],
        "long": [
            (0.5 * seconds, {**through(51, 2), "learning_rate": hundred}),
            (0.5 * seconds, {**through(101, 10), "learning_rate": thousand}),
        ],
    }


def job(noise: float, seed: int, stage: Stage, start_from: Path | None) -> SpringsExperiment:
    seconds, options = stage
    training = TrainingConfig(
        loss="rollout",
        batch_size=NUM_TRAIN,
        max_steps=0,
        max_cpu_seconds=seconds,
        validate_every=0,
        validation_systems=1,  # one validation, of no consequence: the last weights are taken
        seed=seed,
        **options,
    )
    config = SpringsConfig(
        num_train=NUM_TRAIN,
        num_validation=10,
        num_test=NUM_TEST,
        train_points=POINTS,
        noise=noise,
        data_seed=seed,
    )
    return SpringsExperiment(replace(config, start_from=str(start_from or ""), training=training))


def follow(
    noise: float, seed: int, name: str, stages: list[Stage], start_from: Path | None, folder: Path
) -> list[dict[str, Any]]:
    """Train stage after stage; steps, CPU time and test errors after each."""
    rows = []
    for number, stage in enumerate(stages):
        work = job(noise, seed, stage, start_from)
        result = train(work.build(), work.task(), work.training, progress=False)
        assert isinstance(result.module, Hamiltonian)
        start_from = folder / f"{name}_{noise}_{seed}_{number}"
        save_model(result.module, start_from)
        scores = score_rollout(result.module, work.chunks("test", 101))
        rows.append(
            {
                "noise": noise,
                "seed": seed,
                "way": name,
                "stage": number,
                "updates": result.steps,
                "cpu_s": result.cpu_seconds,
                "mse100": scores.mean,
                "mse100_median": scores.median,
                "diverged_share": scores.diverged_share,
                "model": str(start_from),
            }
        )
        print(
            f"noise {noise}, seed {seed}, {name}, stage {number}: {result.steps} updates in {result.cpu_seconds:.0f} "
            f"CPU s, mse100 {scores.mean:.3g}, median {scores.median:.3g}",
            flush=True,
        )
    return rows


def compare(noise: float, seed: int, seconds: tuple[float, float], keep: Path) -> list[dict[str, Any]]:
    """The common start and both continuations of one seed; read from ``keep`` if they are there."""
    kept = keep / f"noise_{noise}_seed_{seed}.json"
    if kept.exists():
        found: list[dict[str, Any]] = json.loads(kept.read_text())
        return found
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        rows = follow(noise, seed, "start", [begin(noise, seconds[0])], None, Path(scratch))
        start = Path(rows[0]["model"])
        for name, stages in continuations(noise, seconds[1]).items():
            rows += follow(noise, seed, name, stages, start, Path(scratch))
    rows = [{key: value for key, value in row.items() if key != "model"} for row in rows]
    write_atomically(kept, json.dumps(rows).encode())
    return rows


def memory_kib(quantity: str) -> int:
    """VmHWM or VmRSS of this process."""
    found = re.search(rf"{quantity}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def measure(adjoint: str, steps: int) -> float:
    """MiB that one training step through so many leapfrog steps needs, after a warm-up of two steps."""
    torch.set_num_threads(1)
    work = job(0.0, 0, begin(0.0, 1.0), None)
    data, module = work.train_chunks.to(dtype=torch.float32), work.build()

    def gradient(count: int) -> None:
        points = min(count, 100) + 1
        task = RolloutTask(
            data, data, method="leapfrog", substeps=count // (points - 1), points=points, adjoint=adjoint
        )
        batch = task.batch(torch.arange(MEMORY_BATCH), torch.Generator().manual_seed(0))
        task.loss(module, batch).backward()

    gradient(2)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from the present resident set
    before = memory_kib("VmRSS")
    gradient(steps)
    return (memory_kib("VmHWM") - before) / 1024


def memory_rows(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """One process per adjoint and number of steps."""
    rows = []
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    for adjoint, longest in MEMORY_LIMIT.items():
        for steps in counts:
            if steps > longest:
                continue
            command = [sys.executable, __file__, "--measure", adjoint, str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            rows.append({"adjoint": adjoint, "steps": steps, "mib": json.loads(done.stdout)})
            print(f"{adjoint:10} {steps:5d} steps {rows[-1]['mib']:9.1f} MiB", flush=True)
    return rows


def summary(runs: list[dict[str, Any]], memory: list[dict[str, Any]]) -> dict[str, float]:
    figures = {f"mib_{row['adjoint']}_{row['steps']}": row["mib"] for row in memory}
    for noise in dict.fromkeys(row["noise"] for row in runs):
        label = "noisy" if noise else "clean"
        last = {}
        for way in ("start", "four", "long"):
            of = [row for row in runs if (row["noise"], row["way"]) == (noise, way)]
            last[way] = {row["seed"]: row["mse100"] for row in of}  # the last stage of each seed
            figures[f"mse100_{label}_{way}"] = statistics.fmean(last[way].values())
        ratios = [last["four"][seed] / last["long"][seed] for seed in last["four"]]
        figures[f"gain_{label}"] = statistics.geometric_mean(ratios)
        figures[f"gain_{label}_worst_seed"] = min(ratios)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="directory of finished parts, which are not done again")
    parser.add_argument(
        "--only",
        type=float,
        nargs=2,
        metavar=("NOISE", "SEED"),
        help="do one part, for --keep; nothing is recorded",
    )
    parser.add_argument("--quick", action="store_true", help="tiny settings; nothing is recorded")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure[0], int(options.measure[1])))
        return
    seconds, seeds = ((1.0, 2.0), 1) if options.quick else ((START, LONGER), options.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        if options.only:
            compare(options.only[0], int(options.only[1]), seconds, keep)
            return
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            cells = [(noise, seed) for noise in NOISES for seed in range(seeds)]
            waiting = [pool.submit(compare, *cell, seconds, keep) for cell in cells]
            runs = [row for future in waiting for row in future.result()]
    memory = memory_rows(MEMORY_STEPS[:2] if options.quick else MEMORY_STEPS)
    figures = summary(runs, memory)
    for name, value in figures.items():
        print(f"{name:32s} {value:.3g}")
    if not options.quick:
        details = {
            "runs": runs,
            "memory": memory,
            "num_train": NUM_TRAIN,
            "noises": NOISES,
            "seconds": seconds,
        }
        print(record("long_rollouts", figures, threads=1, details=details))


if __name__ == "__main__":
    main()
