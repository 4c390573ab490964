"""With few frames of another level of theory, is it better to go on from ``organic-gfn2`` or to begin anew?

The 1,000 B3LYP frames of ethanol that are in the repository: 100 to train, 50 to validate, the rest to test; one CPU
minute each, by the recipe of ``lie-sim train molecules``, once with ``--start-from organic-gfn2``. Either has the rate
of learning that was best on the validation frames of seed 0.

    force_mae_S    meV/Å on the test frames, mean over seeds; S is start or new
    ratio          force_mae_start over force_mae_new; less than 1 is a gain

    python benchmarks/fine_tuning.py [--seeds 5] [--seconds 60] [--record]

About a quarter of an hour of one core.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from record import record

from lie_sim.errors import NonFiniteError
from lie_sim.experiments import MoleculesConfig, MoleculesExperiment
from lie_sim.experiments.molecules import molecules_training, summary
from lie_sim.training import train
from lie_sim.training.molecules import errors

DATA = Path(__file__).parents[1] / "data" / "ethanol_b3lyp.extxyz"
STARTS = {"start": "organic-gfn2", "new": ""}
RATES = (0.01, 0.003, 0.001)


def run(start: str, rate: float, *, seed: int, seconds: float) -> dict[str, float]:
    """Train once: errors of forces in meV/Å on the validation and the test frames."""
    training = replace(molecules_training(), learning_rate=rate, max_cpu_seconds=seconds, seed=seed)
    config = MoleculesConfig(
        data=str(DATA), num_train=100, num_validation=50, data_seed=seed, start_from=start, training=training
    )
    experiment = MoleculesExperiment(config)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = train(experiment.build(), experiment.task(), experiment.training, folder, progress=False)
        except NonFiniteError:  # this rate is too large
            return {"validation": math.inf, "test": math.inf}
    test = experiment.splits["test"]
    found = errors(result.module, test, cutoff=experiment.cutoff, inputs=experiment.inputs)
    figures = {"validation": result.validation["force_mae"], "test": summary(found, test)["force_mae"]}
    return {name: 1000 * value for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--record", action="store_true", help="in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures, runs = {}, []
    for name, start in STARTS.items():
        tried = {rate: run(start, rate, seed=0, seconds=options.seconds) for rate in RATES}
        best = min(tried, key=lambda rate: tried[rate]["validation"])
        mine = [tried[best]]
        mine += [run(start, best, seed=seed, seconds=options.seconds) for seed in range(1, options.seeds)]
        runs += [{"start": start, "rate": rate, "seed": 0} | found for rate, found in tried.items()]
        runs += [
            {"start": start, "rate": best, "seed": seed} | mine[seed] for seed in range(1, options.seeds)
        ]
        figures |= {f"force_mae_{name}": statistics.mean(each["test"] for each in mine), f"rate_{name}": best}
        print(name, figures)
    figures["ratio"] = figures["force_mae_start"] / figures["force_mae_new"]
    print(figures)
    if options.record:
        print(record("fine_tuning", figures, threads=1, details={"runs": runs}))


if __name__ == "__main__":
    main()
