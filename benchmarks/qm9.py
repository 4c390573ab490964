"""How well do properties of QM9 come out of so many molecules and CPU seconds, beside SchNetPack's PaiNN?

Both learn mu, alpha, gap, homo and U0 jointly, with one network of each, from 1,000, 5,000 and 20,000 molecules of the
usual split, in the same CPU time on one core: a mean absolute error in units of the spread of each target, less the
same baseline for alpha and U0 (least squares on the composition), a cosine to 0 at the end of the budget, averaged
weights. Ours is trained by the recipe of ``lie-sim train qm9``; PaiNN at the better of its learning rates, chosen on
the validation molecules. The errors are those of the 13,083 test molecules, in D, bohr³ and meV.

    python benchmarks/qm9.py --peer-python PATH --keep DIR          # parts that are in DIR are not done again
    python benchmarks/qm9.py --peer-python PATH --keep DIR --only painn-1000-0.001      # one part
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record

from lie_sim.experiments import Qm9Config, Qm9Experiment
from lie_sim.experiments.qm9 import QM9_HEADS, reported
from lie_sim.training import train
from lie_sim.training.targets import design, explain

TARGETS = ("mu", "alpha", "gap", "homo", "U0")
SIZES = (1_000, 5_000, 20_000)
RATES = (5e-4, 2e-3)
"""Of PaiNN: SchNetPack's for QM9, and four times it, for short budgets."""
NUM_VALIDATION = 2_000


def experiment(size: int, options: argparse.Namespace) -> Qm9Experiment:
    """Ours, with the budget of the benchmark and a validation at the end only."""
    config = Qm9Config(
        targets=TARGETS, num_train=size, num_validation=NUM_VALIDATION, num_test=options.num_test
    )
    training = replace(config.training, max_cpu_seconds=options.budget, validate_every=0)
    return Qm9Experiment(replace(config, training=training, cache=options.cache))


def ours(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and test our model."""
    made = experiment(size, options)
    module = made.build()
    found = train(module, made.task(), made.training, progress=False)
    results = made.evaluate(found.module).results
    count = sum(p.numel() for p in found.module.parameters())
    return {"steps": found.steps, "cpu_s": found.cpu_seconds, "parameters": count} | results


def painn(size: int, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Train PaiNN in its own environment and judge its predictions."""
    made = experiment(size, options)
    data, out = (options.keep / f"{name}-{size}-{rate:g}.npz" for name in ("data", "predictions"))
    baselines = write_data(made, data)
    command = [options.peer_python, str(Path(__file__).with_name("qm9_painn.py")), str(data), str(out)]
    command += ["--budget", f"{options.budget:g}", "--rate", f"{rate:g}", "--features", str(options.features)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_one_thread())
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    with np.load(out, allow_pickle=False) as told:
        relative = 0.0
        for column, name in enumerate(TARGETS):
            for part in ("validation", "test"):
                base, scale = baselines[name]
                target = QM9_HEADS[name]
                predicted = told[part][:, column] * scale + base[part]
                mae = float(np.abs(predicted - target.values(made.splits[part])).mean())
                if part == "validation":
                    relative += mae / scale / len(TARGETS)
                else:
                    facts[f"mae_{name}"] = mae / abs(target.factor) * reported(name)[1]
    data.unlink()
    out.unlink()
    return facts | {"validation": relative}


def write_data(made: Qm9Experiment, path: Path) -> dict[str, tuple[dict[str, np.ndarray], float]]:
    """Molecules and scaled targets for the peer; returns baseline and scale of each target."""
    splits, arrays, baselines = made.splits, {}, {}
    for name in TARGETS:
        target = QM9_HEADS[name]
        known = explain(splits["train"], target)
        constants = np.array(known.constants)
        base = {
            part: design(data, target.kind, splits["train"].elements) @ constants
            if len(constants)
            else np.zeros(len(data))
            for part, data in splits.items()
        }
        baselines[name] = (base, known.scale)
    for part, data in splits.items():
        arrays |= {
            f"{part}_offsets": data.offsets,
            f"{part}_numbers": data.numbers,
            f"{part}_positions": data.positions,
        }
        columns = [
            (QM9_HEADS[name].values(data) - baselines[name][0][part]) / baselines[name][1] for name in TARGETS
        ]
        arrays[f"{part}_targets"] = np.stack(columns, 1)
    np.savez(path, names=np.array(TARGETS), **arrays)
    return baselines


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def parts(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """All runs by name; a size is finished before the next one begins."""
    for size in SIZES:
        yield f"ours-{size}", lambda size=size: ours(size, options)
        for rate in RATES:
            yield f"painn-{size}-{rate:g}", lambda size=size, rate=rate: painn(size, rate, options)


def figures(kept: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Errors of all sizes that are complete."""
    found: dict[str, float] = {}
    for size in SIZES:
        runs = [kept.get(f"painn-{size}-{rate:g}") for rate in RATES]
        mine = kept.get(f"ours-{size}")
        known = [run for run in runs if run is not None]
        for name in TARGETS:
            if mine is not None:
                found[f"mae_{name}_{size}"] = mine[f"mae_{name}"]
                found[f"baseline_mae_{name}"] = mine[f"baseline_mae_{name}"]
            if known:
                best = min(known, key=lambda run: float(run["validation"]))
                found[f"painn_mae_{name}_{size}"] = best[f"mae_{name}"]
    return found


def main() -> None:
    """Do what is missing, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", default=sys.executable, help="Python that has schnetpack")
    parser.add_argument("--keep", type=Path, required=True, help="folder of the parts")
    parser.add_argument("--only", default="", help="name of the one part to do")
    parser.add_argument("--budget", type=float, default=300.0, help="CPU seconds of a run")
    parser.add_argument("--features", type=int, default=64, help="of PaiNN; 64 beats 128 in minutes")
    parser.add_argument("--num-test", type=int, default=13_083)
    parser.add_argument("--cache", default="", help="folder of the parsed data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    for name, run in parts(options):
        path = options.keep / f"{name}.json"
        if not path.exists() and options.only in ("", name):
            path.write_text(json.dumps(run() | {"budget": options.budget}, indent=1) + "\n", encoding="utf-8")
            print(name, path.read_text(encoding="utf-8"), flush=True)
    kept = {
        name: json.loads((options.keep / f"{name}.json").read_text(encoding="utf-8"))
        for name, _ in parts(options)
        if (options.keep / f"{name}.json").exists()
    }
    found = figures(kept)
    print(json.dumps(found, indent=1))
    print(record("qm9", found, threads=1, details=kept))


if __name__ == "__main__":
    main()
