"""What does a force of the SE(3)-Transformer cost beside the LieTransformer, and what do its parts?

One thread, float32, energy and forces of one molecule through AtomicPotential, as a calculator asks for them, and a
training step of sixteen, whose loss holds the forces. Contestants take turns in one process; figures are medians over
the rounds of medians over calls.

    lie       the LieTransformer of lie-sim train molecules, cutoff 6 Å
    se3       the SE(3)-Transformer of lie-sim train molecules --model se3_transformer, cutoff 5 Å
    se3 l=1   the same with lmax = 1
    se3 dense the same with the paper's kernel, a matrix of channels for every pair
    product   its Clebsch-Gordan products alone (second block, lmax = 2), with all first derivatives
    e3nn      the same products by e3nn's generated code

    python benchmarks/se3_cost.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from ase import Atoms
from ase.build import molecule
from record import record

from lie_sim.attention.steerable import SteerableProduct
from lie_sim.calculators import structures
from lie_sim.lifting import HarmonicLift, representations
from lie_sim.lifting.irreps import dimension, irreps
from lie_sim.models import AtomicPotential, evaluate
from lie_sim.state import Particles

WARMUP, REPEATS, BATCH = 3, 7, 16
SE3: dict[str, Any] = {"architecture": "se3_transformer"}
NETWORKS: dict[str, dict[str, Any]] = {
    "lie": {},
    "se3": SE3,
    "se3 l=1": SE3 | {"network": {"lmax": 1}},
    "se3 dense": SE3 | {"network": {"kernel": "dense"}},
}
MOLECULES = {"ethanol": "CH3CH2OH", "benzene": "C6H6"}
PARTICLES, WIDTH = 20, 32


def rattled(name: str, count: int) -> list[Atoms]:
    systems = [molecule(name) for _ in range(count)]
    for seed, atoms in enumerate(systems):
        atoms.rattle(0.05, seed=seed)
    return systems


def force(options: dict[str, Any], name: str) -> Callable[[], object]:
    potential = AtomicPotential.default(elements=(1, 6, 8), **options).requires_grad_(False)
    batch = structures(rattled(name, 1), potential, dtype=torch.float32)
    return lambda: evaluate(potential, batch.q, batch.particles, batch.neighbours)


def step(options: dict[str, Any], name: str) -> Callable[[], object]:
    potential = AtomicPotential.default(elements=(1, 6, 8), **options)
    batch = structures(rattled(name, BATCH), potential, dtype=torch.float32)

    def run() -> None:
        found = evaluate(potential, batch.q, batch.particles, batch.neighbours, create_graph=True)
        (found.energy.square().mean() + found.forces.square().mean()).backward()

    return run


def products() -> dict[str, Callable[[], object]]:
    """Ours and e3nn's, of all pairs of twenty particles."""
    o3, names = irreps(), representations(2, "natural")
    product = SteerableProduct(names, names, names, width=WIDTH, kernel="depthwise")
    q = torch.randn(1, PARTICLES, 3)
    pairs = HarmonicLift(3, lmax=2, cutoff=6.0)(
        q, Particles(masses=torch.ones(q.shape[:2])), None, q[..., :1]
    )
    f = {name: torch.randn(1, PARTICLES, dimension(name), WIDTH, requires_grad=True) for name in names}
    weights = torch.randn(1, PARTICLES, PARTICLES, product.num_weights, requires_grad=True)
    assert pairs.directions is not None
    directions = pairs.directions.detach().requires_grad_(True)
    pairs = replace(pairs, directions=directions)
    outputs, paths = [], []
    for a, source in enumerate(names):
        for s, harmonic in enumerate(names):
            for c in o3.Irrep(source) * o3.Irrep(harmonic):
                if str(c) in names:
                    paths.append((a, s, len(outputs), "uvu", True))
                    outputs.append((WIDTH, c))
    inputs = [o3.Irreps([(size, name) for name in names]) for size in (WIDTH, 1)]
    theirs = o3.TensorProduct(
        *inputs, o3.Irreps(outputs), paths, internal_weights=False, shared_weights=False
    )
    flat = torch.cat([x.detach().mT.flatten(-2) for x in f.values()], -1).requires_grad_(True)

    def by_e3nn() -> None:
        sources = flat[:, None].expand(-1, PARTICLES, -1, -1)
        theirs(sources, directions, weights).square().sum().backward()

    def by_ours() -> None:
        product(f, pairs, weights).square().sum().backward()

    return {"product": by_ours, "e3nn": by_e3nn}


def median_ms(run: Callable[[], object]) -> float:
    costs = []
    for _ in range(WARMUP + REPEATS):
        begin = time.process_time()
        run()
        costs.append(1000 * (time.process_time() - begin))
    return statistics.median(costs[WARMUP:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    contestants: dict[str, Callable[[], object]] = {}
    for name, network in NETWORKS.items():
        for label, formula in MOLECULES.items():
            contestants[f"{name}, {label}"] = force(network, formula)
        contestants[f"{name}, step"] = step(network, "CH3CH2OH")
    contestants |= products()
    rounds = [{name: median_ms(run) for name, run in contestants.items()} for _ in range(options.rounds)]
    figures = {name: statistics.median(each[name] for each in rounds) for name in contestants}
    for name, value in figures.items():
        print(f"{name:22s} {value:8.2f} ms")
    ratios = {
        f"{name} over lie, {what}": statistics.median(
            each[f"{name}, {what}"] / each[f"lie, {what}"] for each in rounds
        )
        for name in NETWORKS
        if name != "lie"
        for what in (*MOLECULES, "step")
    }
    ratios["e3nn over product"] = statistics.median(each["e3nn"] / each["product"] for each in rounds)
    for name, value in ratios.items():
        print(f"{name:28s} {value:8.2f}")
    print(record("se3_cost", figures | ratios, threads=1, details={"rounds": rounds}))


if __name__ == "__main__":
    main()
