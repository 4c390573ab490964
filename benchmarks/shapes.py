"""Does a model trained on upright, centred shapes count shapes that were shifted and turned as well?

Runs the experiment ``shapes`` with its defaults, once per seed (of data and weights), and reports the accuracies on
the three tests of the LieTransformer paper: as in training, shifted, shifted and turned. The published accuracies stand
beside them.

    python benchmarks/shapes.py [--seeds 3] [--run-dir runs/shapes]

About five CPU minutes per seed on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from record import record

from lie_sim.experiments import ShapesConfig, ShapesExperiment, read_results
from lie_sim.experiments.shapes import PUBLISHED

ACCURACIES = ("accuracy", "accuracy_t2", "accuracy_se2")


def run_seed(seed: int, folder: Path) -> dict[str, float]:
    """Train, test and write the report of one seed; a run that is there is continued."""
    config = ShapesConfig(data_seed=seed)
    experiment = ShapesExperiment(replace(config, training=replace(config.training, seed=seed)))
    result = experiment.run(folder, progress=False)
    found = read_results(folder)
    return {"seed": seed, **found, "cpu_s": result.cpu_seconds}


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean over the seeds, and the worst seed: the smallest accuracy, the largest drop."""
    figures = {key: statistics.fmean(row[key] for row in rows) for key in rows[0] if key != "seed"}
    figures |= {f"{key}_worst": min(row[key] for row in rows) for key in ACCURACIES}
    figures["accuracy_drop_se2_worst"] = max(row["accuracy_drop_se2"] for row in rows)
    return figures | {"seeds": len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--run-dir", type=Path, help="keep the runs here, one folder per seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.seeds):
            rows.append(run_seed(seed, (options.run_dir or Path(scratch)) / f"seed_{seed}"))
            print({key: round(value, 4) for key, value in rows[-1].items()}, flush=True)
    figures = summary(rows)
    print(f"\n{'':34} {'as trained':>10} {'shifted':>8} {'and turned':>10}")
    print(f"{'this model, mean':34}", *(f"{figures[key]:9.1%}" for key in ACCURACIES))
    print(f"{'this model, worst seed':34}", *(f"{figures[f'{key}_worst']:9.1%}" for key in ACCURACIES))
    for name, values in PUBLISHED.items():
        print(f"{name:34}", *(f"{value:9.1%}" for value in values))
    print(record("shapes", figures, threads=1, details={"runs": rows}))


if __name__ == "__main__":
    main()
