"""What is a Hamiltonian worth that was fitted to observations of which a third is missing?

Three particles of unit mass in two dimensions, joined by stiffening springs of a rest length (no harmonic motion);
``TRACKS`` tracks of ``FRAMES`` times, positions only, with noise of 3 % of their spread. Particles are out of sight for
``BLOCK`` times again and again, and single positions are missing, until ``MISSING`` of all are gone. The same shooting,
from the same random weights, is given

    complete    everything that was observed before the gaps were made
    masked      what is observed; gaps do not count, and starts come from cubic estimates
    spline      gaps filled by cubic splines, which count as observations
    cdsa        gaps filled by attention, which count by the error that it expects
    starts      gaps filled by attention for the starts of segments only; they do not count, as in masked

    rollout_NAME    mean square error of positions, in parts of their variance, over rollouts of ``LONG`` units of time
                    (more than a period) from exact states of ``TEST`` systems that were not observed
    imputed_NAME    root mean square error of what was filled in, in parts of the spread
    gap_closed      (masked − cdsa) / (masked − complete); gap_closed_by_starts likewise

    python benchmarks/gappy_fit.py [--steps 300] [--seeds 3] [--dry-run]

About half an hour on one thread.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import torch
from record import show_and_record
from scipy.interpolate import CubicSpline
from torch import Tensor

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.fitting import Shooting, ShootingTask, Track
from lie_sim.fitting.gaps import Filled, fill, fitted_imputer
from lie_sim.fitting.segments import Segments
from lie_sim.imputation import NAMES, Observations, estimates
from lie_sim.integrators import odeint
from lie_sim.state import Particles, PhaseState
from lie_sim.systems.propagate import solve
from lie_sim.training import TrainingConfig, train

PARTICLES, DIM, REST, STIFFNESS = 3, 2, 1.2, 2.0
TRACKS, FRAMES, SPACING, TEST, LONG = 24, 101, 0.1, 64, 3.0
NOISE, MISSING, BLOCK, SEGMENT = 0.03, 0.35, 12, 3


def force(q: Tensor, particles: Particles) -> Tensor:
    """Of springs between all pairs, k (r² − r₀²)² / (8 r₀²) each: smooth where particles meet."""
    apart = q[:, :, None] - q[:, None]
    stretched = apart.square().sum(-1, keepdim=True) - REST**2
    pull: Tensor = (-STIFFNESS * stretched / (2 * REST**2) * apart).sum(2)
    return pull


def states(count: int, seed: int) -> tuple[PhaseState, Particles]:
    draw = torch.Generator().manual_seed(seed)
    q, p = (torch.randn(count, PARTICLES, DIM, generator=draw, dtype=torch.float64) for _ in range(2))
    q, p = (x - x.mean(1, keepdim=True) for x in (q, 0.7 * p))
    return PhaseState(q=q, p=p), Particles(masses=torch.ones(count, PARTICLES, dtype=torch.float64))


def motion(state: PhaseState, particles: Particles, times: Tensor) -> Tensor:
    return solve(force, state, particles, times, tolerance=1e-9)[0]


def gaps(rng: np.random.Generator) -> np.ndarray:
    """Which positions are missing, (T, N): single ones, and blocks of one particle, never at the first two times."""
    missing = rng.random((FRAMES, PARTICLES)) < 0.1
    while missing.mean() < MISSING:
        begin, which = rng.integers(2, FRAMES - BLOCK - 2), rng.integers(PARTICLES)
        missing[begin : begin + BLOCK, which] = True
    missing[[0, 1, -2, -1]] = False
    return missing


def by_splines(tracks: list[Track]) -> list[Filled]:
    found = []
    for track in tracks:
        values = track.values.copy()
        for k, m in np.ndindex(PARTICLES, DIM):
            there = np.isfinite(values[:, k, m])
            spline = CubicSpline(track.times[there], values[there, k, m])
            values[~there, k, m] = spline(track.times[~there])
        found.append(Filled(values, np.zeros_like(values)))
    return found


def by_cubics(tracks: list[Track]) -> list[Filled]:
    """Estimates that do not overshoot, for starts only."""
    found = []
    for track in tracks:
        seen = Observations.of(torch.from_numpy(track.values)[None], torch.from_numpy(track.times)[None])
        guess = estimates(seen)[0, ..., NAMES.index("cubic")].numpy()
        values = np.where(np.isfinite(track.values), track.values, guess)
        found.append(Filled(values, np.zeros_like(values)))
    return found


def fitted(
    tracks: list[Track],
    filled: list[Filled],
    noise: float,
    options: argparse.Namespace,
    seed: int,
    trusted: bool,
) -> Hamiltonian:
    particles = Particles(masses=torch.ones(1, PARTICLES, dtype=torch.float64))
    segments = Segments(tracks, DIM, particles, SEGMENT)
    torch.manual_seed(seed)
    hamiltonian = Hamiltonian(LieTransformer.default(dim=DIM, width=16)).double()
    shooting = Shooting(hamiltonian, *segments.starts(filled))
    data = segments.tensors(filled, noise, trusted=trusted)
    task = ShootingTask(data, joint=2 * noise, step_size=segments.step_size)
    training = TrainingConfig(
        max_steps=options.steps,
        batch_size=128,
        learning_rate=1e-2,
        weight_decay=0.0,
        warmup_steps=20,
        validate_every=0,
        ema_decay=0.98,
        seed=seed,
        dtype="float64",
    )
    train(shooting, task, training, progress=False)
    return hamiltonian.requires_grad_(False)


@torch.no_grad()
def rollout_error(hamiltonian: Hamiltonian, seed: int, length: float, pace: float) -> float:
    """Of positions, over their variance."""
    state, particles = states(TEST, 1000 + seed)
    times = torch.linspace(0, LONG, 31, dtype=torch.float64)
    truth = motion(state, particles, times)
    y0 = (state.q / length, state.p * pace / length)
    q, _ = odeint(
        hamiltonian.bind(particles), y0, times / pace, method="yoshida4", options={"step_size": 0.05}
    )
    off = q.transpose(0, 1) * length - truth
    return float(off.square().mean() / truth.square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="of each fit")
    parser.add_argument("--imputer-steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        state, particles = states(TRACKS, seed)
        times = SPACING * torch.arange(FRAMES, dtype=torch.float64)
        clean = motion(state, particles, times)
        length, pace = (
            float(clean.square().mean().sqrt()),
            float(clean.square().mean().sqrt() / state.p.square().mean().sqrt()),
        )
        rng = np.random.default_rng(seed)
        true = clean.numpy() / length
        noisy = true + NOISE * rng.standard_normal(true.shape)
        missing = np.stack([gaps(rng) for _ in range(TRACKS)])
        t = times.numpy() / pace
        complete = [Track(str(k), t, x) for k, x in enumerate(noisy)]
        tracks = [
            Track(str(k), t, np.where(m[..., None], np.nan, x))
            for k, (x, m) in enumerate(zip(noisy, missing, strict=True))
        ]
        chosen = TrainingConfig(
            max_steps=options.imputer_steps,
            batch_size=16,
            learning_rate=1e-2,
            validate_every=100,
            ema_decay=0.98,
            seed=seed,
        )
        imputer, _ = fitted_imputer(tracks, DIM, window=64, training=chosen)
        by_attention = fill(imputer, tracks, window=64)
        ways = {
            "complete": (complete, [Filled(x, np.zeros_like(x)) for x in noisy], False),
            "masked": (tracks, by_cubics(tracks), False),
            "spline": (tracks, by_splines(tracks), True),
            "cdsa": (tracks, by_attention, True),
            "starts": (tracks, by_attention, False),
        }
        for name, (observed, filled, trusted) in ways.items():
            off = np.stack([each.values for each in filled]) - true
            figures.setdefault(f"imputed_{name}", []).append(float(np.sqrt((off[missing] ** 2).mean())))
            found = fitted(observed, filled, NOISE, options, seed, trusted)
            figures.setdefault(f"rollout_{name}", []).append(rollout_error(found, seed, length, pace))
            print(
                seed,
                name,
                {each: round(x[-1], 5) for each, x in figures.items() if each.endswith(name)},
                flush=True,
            )
    means = {name: statistics.fmean(found) for name, found in figures.items()}
    gap = means["rollout_masked"] - means["rollout_complete"]
    for name, way in (("gap_closed", "cdsa"), ("gap_closed_by_starts", "starts")):
        means[name] = (means["rollout_masked"] - means[f"rollout_{way}"]) / gap
    show_and_record("gappy_fit", means, figures, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
