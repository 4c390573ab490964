"""Does training through rollouts of a thousand steps predict better than training through four, and what does it cost?

Springs of the LieTransformer paper, forty training trajectories of 500 points, without and with noise (an error of 0.03
on every coordinate and momentum, whose standard deviations are 0.5 and 2.7; the tests have none). Everyone begins with
the same ordinary training: rollouts over four steps from random points of the trajectories. Then the same weights are
trained on for the same CPU time, as WAYS lists them: through four steps as before, through 100 leapfrog steps over 51
points, or through 1,000 leapfrog steps over 101 points; and, from where more of the four steps ended, through four
again or through 1,000. All by the reversible adjoint, compiled; compiling is not counted.

The learning rate of every way is the one among RATES with the smallest error on a hundred validation systems, for each
seed by itself; ways beside the question are tried with the first seed only. Judged by rollouts of 100 steps of unseen
systems: mean squared error of positions and momenta, PEFRL, as in springs_accuracy.py. Each seed has its own data and
weights.

Memory and time of a training step: long_rollout_cost.py.

    python benchmarks/long_rollouts.py [--keep DIR] [--only NOISE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from long_rollout_cost import STEPS, memory_rows, step_times
from record import record

from lie_sim import save_model
from lie_sim.experiments import SpringsConfig, SpringsExperiment
from lie_sim.experiments.dynamics import score_rollout
from lie_sim.files import write_atomically
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.training import RolloutTask, TrainingConfig, train

NUM_TRAIN, NUM_VALIDATION, NUM_TEST, POINTS = 40, 100, 200, 500
SECONDS = 60.0
"""CPU seconds of the common start, and of each way."""
FOUR = {"rollout_method": "yoshida4", "rollout_points": 5}


def through(points: int, substeps: int) -> dict[str, Any]:
    """Options of leapfrog rollouts over so many points."""
    return {
        "rollout_method": "leapfrog",
        "rollout_points": points,
        "rollout_substeps": substeps,
        "warmup_steps": 3,
        "min_learning_rate_ratio": 0.1,
        "weight_decay": 0.0,
        "ema_decay": 0.8,  # few and expensive steps
    }


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "start": ("", FOUR),
    "four": ("start", FOUR),
    "hundred": ("start", through(51, 2)),
    "thousand": ("start", through(101, 10)),
    "four+four": ("four", FOUR),
    "four+thousand": ("four", through(101, 10)),
}
"""Where a way begins, and its training options."""
RATES: dict[float, dict[str, tuple[float, ...]]] = {
    0.0: {
        "start": (1e-2,),
        "four": (3e-3,),
        "thousand": (1e-4, 1e-5),
        "four+four": (1e-3,),
        "four+thousand": (1e-5,),
    },
    0.03: {
        "start": (3e-3,),
        "four": (3e-4, 1e-3, 3e-3),
        "hundred": (3e-4,),
        "thousand": (1e-4, 3e-4, 1e-3),
    },
}
"""Learning rates that are tried, by noise and way."""
SEEDS = {0.0: 1, 0.03: 3}
FIRST_SEED_ONLY = ("hundred", "four+four", "four+thousand")
"""Ways beside the question."""


@dataclass(frozen=True)
class Part:
    """One training run and where it is kept."""

    noise: float
    seed: int
    way: str
    rate: float
    keep: Path

    @property
    def model(self) -> Path:
        """Folder of the trained weights."""
        return self.keep / f"{self.noise:g}_{self.seed}_{self.way}_{self.rate:g}"

    @property
    def row(self) -> Path:
        """File of its figures."""
        return self.model.with_name(self.model.name + ".json")


def experiment(
    noise: float, seed: int, options: dict[str, Any], start_from: Path | None
) -> SpringsExperiment:
    training = TrainingConfig(
        loss="rollout",
        rollout_adjoint="reversible",
        rollout_compile=True,
        batch_size=NUM_TRAIN,
        max_steps=0,
        validate_every=0,
        validation_systems=1,  # one validation, of no consequence: the last weights are taken
        seed=seed,
        **options,
    )
    config = SpringsConfig(
        num_train=NUM_TRAIN,
        num_validation=NUM_VALIDATION,
        num_test=NUM_TEST,
        train_points=POINTS,
        noise=noise,
        data_seed=seed,
    )
    return SpringsExperiment(replace(config, start_from=str(start_from or ""), training=training))


def compile_first(work: SpringsExperiment, module: Hamiltonian, task: RolloutTask) -> None:
    """A short rollout of a whole batch, so that the clock of the training finds everything compiled."""
    data = work.train_chunks.to(dtype=torch.float32)
    short = RolloutTask(data, data, method="leapfrog", points=2, adjoint="reversible", compile=task.compile)
    module.to(torch.float32)
    short.loss(module, short.batch(torch.arange(NUM_TRAIN), torch.Generator().manual_seed(0))).backward()
    module.zero_grad()


def run(part: Part, before: Path | None, seconds: float) -> dict[str, Any]:
    """Train one part, or read what is kept of it."""
    if part.row.exists():
        kept: dict[str, Any] = json.loads(part.row.read_text())
        return kept
    options = {**WAYS[part.way][1], "learning_rate": part.rate, "max_cpu_seconds": seconds}
    work = experiment(part.noise, part.seed, options, before)
    module, task = work.build(), work.task()
    assert isinstance(task, RolloutTask)
    compile_first(work, module, task)
    result = train(module, task, work.training, progress=False)
    assert isinstance(result.module, Hamiltonian)
    save_model(result.module, part.model)
    row = {"updates": result.steps, "cpu_s": result.cpu_seconds} | scored(part, work, result.module)
    write_atomically(part.row, json.dumps(row).encode())
    return row


def scored(part: Part, work: SpringsExperiment, module: Hamiltonian) -> dict[str, Any]:
    """Errors of 100-step rollouts, on validation and test systems."""
    test, validation = (score_rollout(module, work.chunks(split, 101)) for split in ("test", "val"))
    row = {
        "noise": part.noise,
        "seed": part.seed,
        "way": part.way,
        "learning_rate": part.rate,
        "validation_mse100": validation.mean,
        "mse100": test.mean,
        "mse100_median": test.median,
        "diverged_share": test.diverged_share,
    }
    print(json.dumps(row), flush=True)
    return row


def compare(noise: float, seeds: int, seconds: float, keep: Path) -> list[dict[str, Any]]:
    """Every way of every seed with every rate; the seed's validation systems choose the rate."""
    rows = []
    for seed in range(seeds):
        best: dict[str, Part] = {}
        for way, rates in RATES[noise].items():
            if seed and way in FIRST_SEED_ONLY:
                continue
            origin = WAYS[way][0]
            before = best[origin].model if origin else None
            tried = {rate: run(Part(noise, seed, way, rate, keep), before, seconds) for rate in rates}
            chosen = min(tried, key=lambda rate: float(tried[rate]["validation_mse100"]))
            best[way] = Part(noise, seed, way, chosen, keep)
            rows += [row | {"chosen": rate == chosen} for rate, row in tried.items()]
    return rows


def summary(runs: list[dict[str, Any]], memory: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the seeds, and ratios of errors of each seed: how many times smaller than that of four steps."""
    figures = {f"mib_{row['adjoint']}_{row['steps']}": row["mib"] for row in memory}
    for noise in dict.fromkeys(row["noise"] for row in runs):
        label = "noisy" if noise else "clean"
        errors: dict[str, dict[int, float]] = {}
        for row in runs:
            if row["noise"] == noise and row["chosen"]:
                errors.setdefault(row["way"], {})[row["seed"]] = row["mse100"]
        for way, of in errors.items():
            figures[f"mse100_{label}_{way}"] = statistics.fmean(of.values())
        for way in ("hundred", "thousand", "four+thousand"):
            rival = errors["four+four" if "+" in way else "four"] if way in errors else {}
            ratios = [rival[seed] / error for seed, error in errors.get(way, {}).items()]
            if ratios:
                figures[f"gain_{label}_{way}"] = statistics.geometric_mean(ratios)
                figures[f"gain_{label}_{way}_worst_seed"] = min(ratios)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="directory of finished parts, which are not done again")
    parser.add_argument(
        "--only", type=float, metavar="NOISE", help="one noise, for --keep; nothing is recorded"
    )
    parser.add_argument("--quick", action="store_true", help="tiny settings; nothing is recorded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds, most = (1.0, 1) if options.quick else (SECONDS, max(SEEDS.values()))
    noises = list(RATES) if options.only is None else [options.only]
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        runs = [row for noise in noises for row in compare(noise, min(most, SEEDS[noise]), seconds, keep)]
    if options.only is not None:
        return
    memory = memory_rows(STEPS[:2] if options.quick else STEPS)
    figures = summary(runs, memory) | step_times()
    for name, value in figures.items():
        print(f"{name:40s} {value:.3g}")
    if not options.quick:
        details = {
            "runs": runs,
            "memory": memory,
            "num_train": NUM_TRAIN,
            "noises": noises,
            "seconds": seconds,
        }
        print(record("long_rollouts", figures, threads=1, details=details))


if __name__ == "__main__":
    main()
