"""What does attention through landmarks cost and give, beside all pairs and beside the pairs within a cutoff alone?

Boxes of softened gravity: N bodies of mass 0.5 to 1.5 at random places of a cube, 1,000 in a unit cube and as dense for
other N, softening 0.05, cutoff 0.2 (33 neighbours). One block of 16 channels and 4 heads, distances only, sources and
energies weighed by the masses; all contestants learn from the same boxes in the same order, as many steps, Adam at 1e-2
with a cosine, a box a step, none twice.

- exponent_time, exponent_memory: slope of log cost against log N, N = 1,000 … 16,000, of forces in float32: CPU seconds
  (median of five after a warm-up), and peak resident set above that before, each N in a process of its own that keeps
  freed memory, as the commands do. Of all pairs N = 500 … 2,000, since 16,000 would take over 100 GB; speedup_16k
  compares with its extrapolation by N², so it is an estimate.
- force_rmse_over_full, gain_over_cutoff: root mean square errors of the forces on boxes never seen, means over the
  seeds of weights and boxes, ratios.
- error_k1 …: the same mean in parts of the spread of the forces, by the number of landmarks; error_k1_std …: the
  standard deviation over the seeds. error_clumps_k1 …: of boxes where 70 % of the bodies are in five clumps.
- rollout_16k_gb: peak resident set of the whole process during leapfrog steps of 16,000 bodies.

    python benchmarks/low_rank.py --keep DIR                     # parts in DIR are not done again
    python benchmarks/low_rank.py --keep DIR --only 'cost-*'     # some parts
    python benchmarks/low_rank.py --keep DIR --record            # writes what is there
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from parts import measured, parser_of_parts
from record import record
from torch import Tensor
from tqdm import tqdm

from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import odeint
from lie_sim.memory import keep_freed_memory
from lie_sim.models import LieTransformer
from lie_sim.state import Particles
from lie_sim.systems.nbody import inverse_square_force

SOFTENING, CUTOFF, BODIES = 0.05, 0.2, 1000
SIZES = {"full": (500, 1000, 2000), "local": (1000, 4000, 16000), "induced": (1000, 2000, 4000, 8000, 16000)}
LANDMARKS = (1, 4, 16)
CLUMPS, CLUMP_SIZE, CLUMPED = 5, 0.1, 0.7
SEEDS, TESTS, REPEATS, ROLLOUT_STEPS = 3, 8, 5, 5
BOXES = 10**5
"""Seeds between the boxes of two seeds."""


def parts() -> Iterator[str]:
    """Names of all parts, what the figures need most first."""
    for kind, sizes in SIZES.items():
        yield from (f"cost-{kind}-{size}" for size in sizes)
    yield "rollout-induced-16000"
    for seed in range(SEEDS):
        for what in ("learn", "clumps"):
            yield f"{what}-local-0-{seed}"
            yield from (f"{what}-induced-{k}-{seed}" for k in LANDMARKS)
    yield from (f"learn-full-0-{seed}" for seed in range(SEEDS))


def build(
    attention: str, landmarks: int = LANDMARKS[-1], *, count: int = BODIES, seed: int = 0
) -> LieTransformer:
    """The model of one contestant, the same weights where the parameters are the same."""
    torch.manual_seed(seed)
    near = BODIES * 4 / 3 * math.pi * CUTOFF**3
    choice: dict[str, Any] = {"attention": attention, "cutoff": CUTOFF, "mean_neighbours": near}
    if attention == "full":
        choice = {"mean_neighbours": float(count)}
    if attention == "induced":
        choice["num_landmarks"] = landmarks
    return LieTransformer.default(
        dim=3,
        width=16,
        num_heads=4,
        num_layers=1,
        kernel_hidden=16,
        num_frames=0,
        radial="coulomb",
        softening=SOFTENING,
        length_scale=CUTOFF,
        energy_scale=CUTOFF,
        mass_mean=1.0,
        mass_std=0.29,
        source_weight="masses",
        readout_weight="masses",
        **choice,
    )


def box(seed: int, *, count: int = BODIES, clumps: bool = False) -> tuple[Tensor, Particles]:
    """Positions (1, N, 3) and masses of one box."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.rand(1, count, 3, generator=generator)
    if clumps:
        centres = torch.rand(CLUMPS, 3, generator=generator)
        member = torch.randint(CLUMPS, (count,), generator=generator)
        inside = centres[member] + CLUMP_SIZE * torch.randn(count, 3, generator=generator)
        q = torch.where(torch.rand(count, 1, generator=generator) < CLUMPED, inside, q)
    masses = 0.5 + torch.rand(1, count, generator=generator)
    return q * (count / BODIES) ** (1 / 3), Particles(masses=masses)


def truth(q: Tensor, particles: Particles) -> Tensor:
    """Forces, G = 1/N, in float64 and rounded."""
    return -inverse_square_force(q.double(), particles.masses.double(), SOFTENING).float() / q.shape[1]


def forces(model: LieTransformer, q: Tensor, particles: Particles, *, create_graph: bool = False) -> Tensor:
    """−∂E/∂q."""
    q = q.clone().requires_grad_()
    energy = model.energy(q, particles).sum()
    return -torch.autograd.grad(energy, q, create_graph=create_graph)[0]


def learn(
    attention: str, landmarks: int, seed: int, options: argparse.Namespace, *, clumps: bool
) -> dict[str, float]:
    """Error of the forces on new boxes, in parts of their spread, after learning."""
    model = build(attention, landmarks, seed=seed)
    test = [box(10**6 + number, clumps=clumps) for number in range(TESTS)]
    true = torch.cat([truth(*one) for one in test])
    spread = float(true.std())
    optimiser = torch.optim.Adam(model.parameters(), lr=options.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.steps)
    start = time.process_time()
    for step in tqdm(range(options.steps), desc=f"{attention} {landmarks}", leave=False):
        q, particles = box(BOXES * seed + step, clumps=clumps)
        optimiser.zero_grad()
        found = forces(model, q, particles, create_graph=True)
        ((found - truth(q, particles)) / spread).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    cpu = time.process_time() - start
    found = torch.cat([forces(model, *one) for one in test])
    return {
        "error": float((found - true).square().mean().sqrt()) / spread,
        "cpu_s": cpu,
        "steps": options.steps,
    }


def memory_gib(quantity: str) -> float:
    """VmHWM or VmRSS of this process."""
    found = re.search(rf"{quantity}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 2**20


def cost(attention: str, count: int) -> dict[str, float]:
    """CPU seconds and GiB of the forces of one box."""
    model, known = build(attention, count=count), box(0, count=count)
    forces(model, *box(0, count=100))  # libraries are loaded
    before = memory_gib("VmRSS")
    forces(model, *known)
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        forces(model, *known)
        seconds.append(time.process_time() - start)
    return {"cpu_s": statistics.median(seconds), "gib": memory_gib("VmHWM") - before}


def rollout(attention: str, count: int) -> dict[str, float]:
    """Peak memory of the process and CPU seconds a step of a leapfrog rollout."""
    q, particles = box(0, count=count)
    hamiltonian = Hamiltonian(build(attention, count=count)).bind(particles)
    times = torch.arange(ROLLOUT_STEPS + 1) * 1e-3
    start = time.process_time()
    with torch.no_grad():
        path = odeint(hamiltonian.vector_field, (q, torch.zeros_like(q)), times, method="leapfrog")
    seconds = (time.process_time() - start) / ROLLOUT_STEPS
    assert bool(path[0].isfinite().all())
    return {"peak_gib": memory_gib("VmHWM"), "cpu_s_per_step": seconds}


def run(name: str, options: argparse.Namespace) -> dict[str, float]:
    """One part."""
    what, attention, *numbers = name.split("-")
    number = int(numbers[0])
    if what == "cost":
        return cost(attention, number)
    if what == "rollout":
        return rollout(attention, number)
    return learn(attention, number, int(numbers[1]), options, clumps=what == "clumps")


def exponent(kept: dict[str, dict[str, float]], attention: str, quantity: str) -> float | None:
    """Slope of log cost against log N; None where a part is missing."""
    names = [f"cost-{attention}-{size}" for size in SIZES[attention]]
    if not all(name in kept for name in names):
        return None
    costs = [kept[name][quantity] for name in names]
    return float(np.polyfit(np.log(SIZES[attention]), np.log(costs), 1)[0])


def learned(kept: dict[str, dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean errors over the seeds that are done, and their standard deviations, by the names without the seed."""
    errors: dict[str, list[float]] = {}
    for name, part in kept.items():
        if "error" in part:
            errors.setdefault(name.rpartition("-")[0], []).append(part["error"])
    means = {name: statistics.fmean(values) for name, values in errors.items()}
    return means, {name: statistics.stdev(values) for name, values in errors.items() if len(values) > 1}


def figures(kept: dict[str, dict[str, float]]) -> dict[str, float]:
    """What can be said of the parts that are done."""
    found: dict[str, float | None] = {}
    for prefix, attention in (("", "induced"), ("full_", "full"), ("local_", "local")):
        found[f"{prefix}exponent_time"] = exponent(kept, attention, "cpu_s")
        found[f"{prefix}exponent_memory"] = exponent(kept, attention, "gib")
    largest = SIZES["full"][-1]
    full, induced = kept.get(f"cost-full-{largest}"), kept.get("cost-induced-16000")
    if full and induced:
        found["speedup_16k"] = full["cpu_s"] * (16000 / largest) ** 2 / induced["cpu_s"]
    if full and (small := kept.get(f"cost-induced-{largest}")):
        found[f"speedup_{largest}"] = full["cpu_s"] / small["cpu_s"]
    errors, spreads = learned(kept)
    for key, over, under in (
        ("force_rmse_over_full", f"learn-induced-{LANDMARKS[-1]}", "learn-full-0"),
        ("gain_over_cutoff", "learn-local-0", f"learn-induced-{LANDMARKS[-1]}"),
        ("gain_over_cutoff_clumps", "clumps-local-0", f"clumps-induced-{LANDMARKS[-1]}"),
    ):
        found[key] = errors[over] / errors[under] if over in errors and under in errors else None
    for k in LANDMARKS:
        for key, name in (
            (f"error_k{k}", f"learn-induced-{k}"),
            (f"error_clumps_k{k}", f"clumps-induced-{k}"),
        ):
            found[key], found[f"{key}_std"] = errors.get(name), spreads.get(name)
    found["error_full"], found["error_cutoff"] = errors.get("learn-full-0"), errors.get("learn-local-0")
    found["rollout_16k_gb"] = kept.get("rollout-induced-16000", {}).get("peak_gib")
    return {name: value for name, value in found.items() if value is not None}


def main(arguments: list[str] | None = None) -> None:
    """Do what is missing, each part in a process of its own; record if asked to."""
    parser = parser_of_parts(__doc__)
    parser.add_argument("--steps", type=int, default=100, help="of learning")
    parser.add_argument("--rate", type=float, default=1e-2, help="learning rate")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.part:
        keep_freed_memory()
    kept = measured(__file__, parts(), run, options, asked=["steps", "rate"])
    if kept is None:
        return
    print(json.dumps({"figures": figures(kept), "parts": kept}, indent=1))
    if options.record:
        print(record("low_rank", figures(kept), threads=1, details=kept, parts=kept.values()))


if __name__ == "__main__":
    main()
