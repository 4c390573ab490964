"""Where is a particle that is out of sight? Attention that turns with the data against splines.

Five particles of unit mass in two dimensions, joined by springs of random strengths; positions and velocities are
observed ``FRAMES`` times over about four periods, with noise of 5 % of their spread; 10 % of the vectors are missing,
and one particle is out of sight for a while. The systems of the test are others than those of the training.

    rmse_KIND_NAME    root mean square error of the hidden positions, in parts of the spread of positions
        long: out of sight for 0.5 to 1.5 periods, short: for 0.1 to 0.5
        linear, spline (cubic, through all positions of the particle), hermite (through positions and velocities),
        saits, saits_small, brits (PyPOTS, the same time, where it is installed); cdsa: ours; means over the seeds
    rmse_over_best_KIND    ours over the best of the others

    pip install --target DIR pypots
    PYTHONPATH=DIR python benchmarks/occlusion.py [--budget 120] [--seeds 3] [--dry-run]

About ten minutes on one thread, forty with the rivals.
"""

from __future__ import annotations

import argparse
import math
import statistics
from typing import Any

import numpy as np
import torch
from pypots_rivals import Rival, rivals
from record import show_and_record
from scipy.interpolate import CubicSpline
from torch import Tensor

from lie_sim.imputation import (
    NAMES,
    CDSAConfig,
    GeometricCDSA,
    ImputationTask,
    Observations,
    build_imputer,
    estimates,
    hermite,
)
from lie_sim.state import Particles
from lie_sim.systems import Springs
from lie_sim.training import TrainingConfig, train

PARTICLES, DIM, FRAMES, PERIODS = 5, 2, 64, 4.0
NOISE, MISSING = 0.05, 0.1
TRAIN, VALIDATION, TEST = 512, 64, 256
KINDS = {"long": (0.5, 1.5), "short": (0.1, 0.5)}


def motions(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Positions and velocities in units of their spread and of frames, (S, T, N, 2 d); period in frames, (S,)."""
    system, draw = Springs(num_particles=PARTICLES, dim=DIM), torch.Generator().manual_seed(seed)
    state, particles = system.sample(count, generator=draw)
    particles = Particles(masses=torch.ones_like(particles.masses), attributes=particles.attributes)
    centre = state.q - state.q.mean(1, keepdim=True)
    omega = (system.force(state.q, particles).square().sum((1, 2)) / centre.square().sum((1, 2))).pow(0.25)
    end = float(PERIODS * 2 * math.pi / omega.median())
    times = torch.linspace(0, end, FRAMES, dtype=torch.float64)
    q, p = system.trajectory(state, particles, times)
    spacing = end / (FRAMES - 1)
    spread = (q - q.mean((1, 2), keepdim=True)).square().mean().sqrt()
    return (torch.cat([q, p * spacing], dim=-1) / spread).float(), 2 * math.pi / omega / spacing


def noisy(values: Tensor, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    kinds = values.unflatten(-1, (2, DIM))
    spread = kinds.std((0, 1, 2, 4), keepdim=True)
    return (kinds + NOISE * spread * torch.randn(kinds.shape, generator=draw).to(kinds)).flatten(-2)


def observed(count: int, seed: int) -> Tensor:
    """Without single vectors."""
    there = torch.rand(count, FRAMES, PARTICLES, 2, generator=torch.Generator().manual_seed(seed)) >= MISSING
    return there.repeat_interleave(DIM, dim=-1)


def out_of_sight(period: Tensor, kind: str, seed: int) -> Tensor:
    """One particle of each system, between two observations, (S, T, N, 2 d)."""
    draw = torch.Generator().manual_seed(seed)
    low, high = KINDS[kind]
    share = low + (high - low) * torch.rand(len(period), generator=draw)
    length = (share * period).round().long().clamp(1, FRAMES - 8)
    begin = 4 + (torch.rand(len(period), generator=draw) * (FRAMES - 8 - length + 1)).long()
    which = torch.randint(PARTICLES, (len(period),), generator=draw)
    frame, particle = torch.arange(FRAMES), torch.arange(PARTICLES)
    when = (frame >= begin[:, None]) & (frame < (begin + length)[:, None])
    hidden = when[:, :, None] & (particle == which[:, None])[:, None]
    return hidden[..., None].expand(-1, -1, -1, 2 * DIM)


def splines(seen: Observations) -> Tensor:
    """Cubic splines through all observed positions of each particle."""
    found, times = seen.known[..., :DIM].clone(), seen.times.numpy()
    for s, k, m in np.ndindex(len(found), PARTICLES, DIM):
        there = seen.observed[s, :, k, m].numpy()
        spline = CubicSpline(times[s][there], seen.values[s, there, k, m].numpy())
        found[s, :, k, m] = torch.from_numpy(spline(times[s])).to(found)
    return found


def with_velocities(seen: Observations) -> Tensor:
    """Hermite polynomials."""
    parts = [
        Observations(x, y, seen.times)
        for x, y in zip(seen.values.split(DIM, -1), seen.observed.split(DIM, -1), strict=True)
    ]
    return hermite(parts[0], parts[1])[0]


def trained(known: Observations, held: Observations, seed: int, budget: float) -> GeometricCDSA:
    torch.manual_seed(seed)
    config = CDSAConfig(num_measurements=2, width=16, num_heads=4, num_layers=1, dim=DIM)
    task = ImputationTask(known, held, share=MISSING, longest=FRAMES // 2, components=DIM)
    training = TrainingConfig(
        max_steps=0,
        max_cpu_seconds=budget,
        batch_size=16,
        learning_rate=1e-2,
        validate_every=100,
        seed=seed,
    )
    module = train(build_imputer(config), task, training, progress=False).module
    assert isinstance(module, GeometricCDSA)
    return module.requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=120.0, help="CPU seconds of a training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--systems", type=int, default=TRAIN, help="of the training")
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        clean, period = motions(options.systems + VALIDATION + TEST, seed)
        there = observed(len(clean), seed)
        times = torch.arange(float(FRAMES)).expand(len(clean), -1)
        seen = Observations(noisy(clean, seed), there, times)

        def part(rows: slice, seen: Observations = seen) -> Observations:
            return Observations(seen.values[rows], seen.observed[rows], seen.times[rows])

        known = part(slice(0, options.systems))
        held = part(slice(options.systems, options.systems + VALIDATION))
        test, rest = part(slice(-TEST, None)), slice(-TEST, None)
        ways: dict[str, Any] = {
            "linear": lambda given: estimates(given)[..., :DIM, NAMES.index("linear")],
            "spline": splines,
            "hermite": with_velocities,
        }
        task = ImputationTask(held, held, share=MISSING, longest=FRAMES // 2, components=DIM)
        for name in rivals():
            ways[name] = Rival(
                name, known, held, task._validation["hidden"], seed=seed, budget=options.budget
            )
        model = trained(known, held, seed, options.budget)
        ways["cdsa"] = lambda given, model=model: model(given).estimated[..., :DIM]
        for kind in KINDS:
            hidden = out_of_sight(period[rest], kind, seed)
            for name, way in ways.items():
                off = (way(test.hiding(hidden))[..., :DIM] - clean[rest][..., :DIM])[hidden[..., :DIM]]
                figures.setdefault(f"rmse_{kind}_{name}", []).append(float(off.square().mean().sqrt()))
        print({name: round(found[-1], 4) for name, found in figures.items()}, flush=True)
    means = {name: statistics.fmean(found) for name, found in figures.items()}
    for kind in KINDS:
        others = [value for name, value in means.items() if f"_{kind}_" in name and not name.endswith("cdsa")]
        means[f"rmse_over_best_{kind}"] = means[f"rmse_{kind}_cdsa"] / min(others)
    show_and_record("occlusion", means, figures, dry_run=options.dry_run)


if __name__ == "__main__":
    main()
