"""What must a Hamiltonian know of time to go on beyond its data? A Duffing oscillator that two waves push.

Forces at 5,800 irregular times in [0, 40], with noise of 5 % of their spread, from 16 trajectories; tested on forces
and rollouts over 10 units of time, in the window and in [40, 80]. The waves are in the ratio √5. Three seeds (of data
and weights), the same network, steps and rate for all:

    none        no time: V(q)
    raw_t       V(q, t), time as an input of the network
    grid        V₀ + Σ φ_a(t) V_a, eight frequencies on a grid of logarithms, learned
    fixed_grid  the same, not learned
    mercer      two periods of four harmonics, the periods on a grid, learned
    spectrum    two frequencies, found in what ``none`` leaves unexplained, then learned: the library's way

    force_NAME, force_later_NAME       mean square error of forces over their variance, in the window and beyond
    rollout_NAME, rollout_later_NAME   mean square error of positions over rollouts
    extrapolated_over_raw_t, _none     rollout_later of spectrum over that of the others
    frequency_error                    largest relative error of the two frequencies after training
    irregular_over_regular             rollout_later of spectrum over that with regular times, as many samples

    python benchmarks/driven.py [--steps 3000] [--dry-run]

About twenty minutes on one thread. Means over the seeds, of ratios the ratio of means.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import numpy as np
import torch
from record import record
from torch import Tensor, nn
from tqdm import tqdm

from lie_sim import DrivenHamiltonian, Hamiltonian
from lie_sim.models import FullyConnected, FullyConnectedConfig
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.rollout import rollout
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenDuffing
from lie_sim.time_encoding import BochnerTime, MercerTime, TimeMap, spectral_frequencies
from lie_sim.training import ForceTask, TrainingConfig, train
from lie_sim.training.tasks import Batch

SYSTEM, WINDOW, NOISE = DrivenDuffing(), 40.0, 0.05
TRAJECTORIES, SAMPLES, SEEDS = 16, 5800, (0, 1, 2)
TESTS, LENGTH, STEP = 200, 10.0, 0.02
NETWORK = FullyConnectedConfig(num_particles=1, dim=1, width=64, num_layers=2, centred=False)
SHORTEST = 0.5
"""Period of the fastest wave of a grid."""


class RawTime(DrivenHamiltonian):
    """V(q, t) by one network, time divided by the window."""

    def __init__(self) -> None:
        Hamiltonian.__init__(self, FullyConnected(replace(NETWORK, num_attributes=1)))

    def potential_energy(
        self,
        q: Tensor,
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
        *,
        t: Tensor | None = None,
    ) -> Tensor:
        """V of each system, shape (B,)."""
        assert t is not None
        known = self._which(particles)
        attributes = (t / WINDOW).to(q).expand(len(q))[:, None, None].expand(*q.shape[:2], 1)
        return self.potential.energy(q, replace(known, attributes=attributes), None)


def driven(time: TimeMap) -> DrivenHamiltonian:
    return DrivenHamiltonian(
        FullyConnected(NETWORK), [FullyConnected(NETWORK) for _ in range(time.num_features)], time
    )


def grid(count: int) -> list[float]:
    return np.geomspace(2 * np.pi / WINDOW, 2 * np.pi / SHORTEST, count).tolist()


def build(name: str, residual: tuple[np.ndarray, np.ndarray]) -> Hamiltonian:
    """An untrained model; times and what ``none`` leaves unexplained there are for ``spectrum``."""
    if name == "none":
        return Hamiltonian(FullyConnected(NETWORK))
    if name == "raw_t":
        return RawTime()
    if name == "grid":
        return driven(BochnerTime(grid(8)))
    if name == "fixed_grid":
        return driven(BochnerTime(grid(8), rate=0.0))
    if name == "mercer":
        return driven(MercerTime(grid(2), degree=4))
    return driven(BochnerTime(spectral_frequencies(*residual, 2).frequencies))


MODELS = ("none", "raw_t", "grid", "fixed_grid", "mercer", "spectrum")


def samples(seed: int, *, regular: bool) -> Batch:
    """Forces with noise along trajectories."""
    draw = torch.Generator().manual_seed(seed)
    state, particles = SYSTEM.sample(TRAJECTORIES, generator=draw)
    motion = rollout(SYSTEM, state, particles, step_size=STEP, num_steps=round(WINDOW / STEP))
    each = SAMPLES // TRAJECTORIES
    if regular:
        chosen = torch.linspace(0, motion.q.shape[1] - 1, each).round().long().expand(TRAJECTORIES, -1)
    else:
        chosen = torch.rand(TRAJECTORIES, motion.q.shape[1], generator=draw).argsort(1)[:, :each]
    q = motion.q.gather(1, chosen[..., None, None]).reshape(-1, 1, 1)
    t = motion.times[chosen].flatten()
    force = SYSTEM.force(q, Particles(masses=torch.ones(len(q), 1).double()), t)
    force = force + NOISE * force.std() * torch.randn(force.shape, generator=draw, dtype=torch.float64)
    return {"q": q, "t": t, "force": force, "particles.masses": torch.ones(len(q), 1).double()}


def tested(model: Hamiltonian, begun: float, seed: int) -> tuple[float, float]:
    """Relative error of forces and mean square error of positions over rollouts that begin in a window."""
    draw = torch.Generator().manual_seed(1000 + seed)
    state, particles = SYSTEM.sample(TESTS, generator=draw)
    t = begun + (WINDOW - LENGTH) * torch.rand(TESTS, generator=draw, dtype=torch.float64)
    state = PhaseState(state.q, state.p, t)
    steps = {"step_size": STEP, "num_steps": round(LENGTH / STEP), "save_every": 5}
    truth = rollout(SYSTEM, state, particles, method="kahan_li8", **steps)
    q, now = truth.q.reshape(-1, 1, 1), (t[:, None] + truth.times).flatten()
    ones = Particles(masses=torch.ones(len(q), 1).double())
    exact = SYSTEM.force(q, ones, now)
    with torch.no_grad():
        when = {"t": now} if isinstance(model, DrivenHamiltonian) else {}
        error = float((model.force(q, ones, **when) - exact).square().mean() / exact.var())
        found = rollout(model, state, particles, method="leapfrog", **steps)
    off = (found.q - truth.q).square().nan_to_num(nan=100.0).clamp(max=100.0)  # of one that flies away
    return error, float(off.mean())


def trained(
    name: str, data: Batch, seed: int, steps: int, residual: tuple[np.ndarray, np.ndarray]
) -> Hamiltonian:
    """In float64, the last tenth of the samples choosing the weights."""
    torch.manual_seed(seed)
    model = build(name, residual)
    order = torch.randperm(len(data["q"]), generator=torch.Generator().manual_seed(seed))
    cut = len(order) // 10
    parts = [{key: x[rows] for key, x in data.items()} for rows in (order[cut:], order[:cut])]
    training = TrainingConfig(max_steps=steps, batch_size=200, learning_rate=3e-3, seed=seed, dtype="float64")
    found: nn.Module = train(model, ForceTask(*parts), training, progress=False).module
    assert isinstance(found, Hamiltonian)
    return found.requires_grad_(False)


def unexplained(model: Hamiltonian, data: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Times and forces that a model without time does not explain."""
    with torch.no_grad():
        left = data["force"] - model.force(data["q"], Particles(masses=data["particles.masses"]))
    return data["t"].numpy(), left.flatten(1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, list[float]] = {}

    def keep(name: str, value: float) -> None:
        kept.setdefault(name, []).append(value)

    true = np.sort(SYSTEM.frequencies)
    with tqdm(total=len(SEEDS) * (len(MODELS) + 2), unit="model") as bar:
        for seed in SEEDS:
            for regular in (False, True):
                data, residual = samples(seed, regular=regular), (np.empty(0), np.empty(0))
                for name in ("none", "spectrum") if regular else MODELS:
                    bar.set_postfix_str(f"seed {seed}, {name}")
                    model = trained(name, data, seed, options.steps, residual)
                    if name == "none":
                        residual = unexplained(model, data)
                    if not regular:
                        for begun, where in ((0.0, ""), (WINDOW, "later_")):
                            force, moved = tested(model, begun, seed)
                            keep(f"force_{where}{name}", force)
                            keep(f"rollout_{where}{name}", moved)
                    if name == "spectrum":
                        assert isinstance(model, DrivenHamiltonian)
                        found = np.sort(model.time.frequencies.numpy())
                        keep(
                            "regular_error" if regular else "frequency_error",
                            float(np.abs(found / true - 1).max()),
                        )
                        if regular:
                            keep("regular_later", tested(model, WINDOW, seed)[1])
                    bar.update()
    figures = {name: statistics.fmean(values) for name, values in kept.items()}
    figures["frequency_error"] = max(kept["frequency_error"])
    later = figures["rollout_later_spectrum"]
    figures["extrapolated_over_raw_t"] = later / figures["rollout_later_raw_t"]
    figures["extrapolated_over_none"] = later / figures["rollout_later_none"]
    figures["irregular_over_regular"] = later / figures["regular_later"]
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}")
    if not options.dry_run:
        print(record("driven", figures, threads=1, details=kept))


if __name__ == "__main__":
    main()
