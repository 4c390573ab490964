"""What does one training step on springs cost, in CPU time and memory: ours, and the published implementation's?

The paper's own work: a batch of 100 systems, each with a chunk of five points. Three contestants, each in a process of
its own with one thread, in turn, several rounds:

    reference       the published code from a clone: 841,641 parameters, back-propagation through RK4 (16 forces)
    paper preset    the same architecture, loss, integrator and optimiser in lie_sim: identical arithmetic
    ours            our default model: forces at all five points of every chunk, no integration
    ours, rollout   our default model, back-propagated through a four-step PEFRL rollout of the chunk

    python benchmarks/springs_step.py --reference CLONE [--lieconv CLONE] [--rounds 3]

See benchmarks/README.md for the clone, and for the one character that has to be mended in it, which
reference_peer.py does as it loads. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
BATCH, WARMUP, REPEATS = 100, 3, 5
OURS = ("paper preset", "ours", "ours, rollout")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def paper_step() -> Callable[[], None]:
    """Loss of the paper through torchdiffeq's RK4, Adam at 1e-3."""
    from torchdiffeq import odeint

    from lie_sim import Hamiltonian, LieTransformer
    from lie_sim.data import make_trajectories
    from lie_sim.systems import Springs

    times = torch.linspace(0, 20 / 499, 5, dtype=torch.float64)
    data = make_trajectories(Springs(), BATCH, seed=0, times=times).to(dtype=torch.float32)
    hamiltonian = Hamiltonian(LieTransformer.paper("springs-T2"))
    bound = hamiltonian.bind(data.particles)
    optimiser = torch.optim.Adam(hamiltonian.parameters(), lr=1e-3)
    q, p = data.q.transpose(0, 1), data.p.transpose(0, 1)

    def step() -> None:
        predicted = odeint(bound.vector_field, (q[0], p[0]), data.times, method="rk4")
        loss = 0.5 * ((predicted[0] - q).square().mean() + (predicted[1] - p).square().mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def our_step(loss: str) -> Callable[[], None]:
    """Our default model and training loss; the optimiser is PyTorch's AdamW."""
    from lie_sim.experiments import SpringsConfig, SpringsExperiment
    from lie_sim.training import DerivativeTask, RolloutTask

    experiment = SpringsExperiment(SpringsConfig(num_train=BATCH, num_validation=2, num_test=2))
    chunks, held_out = experiment.train_chunks, experiment.chunks("val", 5)
    task: DerivativeTask | RolloutTask
    if loss == "rollout":
        task = RolloutTask(chunks, held_out, method="pefrl", substeps=1)
    else:
        task = DerivativeTask(chunks, held_out, points_per_chunk=0)
    task = task.to(dtype=torch.float32, device=torch.device("cpu"))
    hamiltonian = experiment.build()
    optimiser = torch.optim.AdamW(hamiltonian.parameters(), lr=1e-3)
    generator, everything = torch.Generator().manual_seed(0), torch.arange(BATCH)

    def step() -> None:
        value = task.loss(hamiltonian, task.batch(everything, generator))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step


def measure(name: str) -> dict[str, float]:
    """Median CPU seconds of a step and peak memory of this process."""
    torch.set_num_threads(1)
    step = (
        paper_step()
        if name == "paper preset"
        else our_step("rollout" if "rollout" in name else "derivatives")
    )
    costs = []
    for _ in range(WARMUP + REPEATS):
        begin = time.process_time()
        step()
        costs.append(time.process_time() - begin)
    return {"cpu_s": statistics.median(costs[WARMUP:]), "peak_mb": peak_mb()}


def in_own_process(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def reference(options: argparse.Namespace) -> dict[str, float]:
    clone = ["--lieconv", str(options.lieconv)] if options.lieconv else []
    peer = [str(HERE / "reference_peer.py"), "--reference", str(options.reference), *clone]
    found = in_own_process(
        [*peer, "step", "--batch", str(BATCH), "--warmup", str(WARMUP), "--repeats", str(REPEATS)]
    )
    return {"cpu_s": found["cpu_s_per_step"], "peak_mb": found["peak_rss_mb"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="clone of oxcsml/lie-transformer")
    parser.add_argument("--lieconv", type=Path, help="clone of its LieConv submodule, if it lies elsewhere")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=OURS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    rounds: list[dict[str, dict[str, float]]] = []
    print(f"{'round':>5}  {'contestant':16} {'CPU s/step':>10} {'peak MB':>8}")
    for number in range(options.rounds):
        found = {}
        for name in ("reference", *OURS) if options.reference else OURS:
            own = name != "reference"
            found[name] = in_own_process([__file__, "--measure", name]) if own else reference(options)
            print(
                f"{number:5d}  {name:16} {found[name]['cpu_s']:10.3f} {found[name]['peak_mb']:8.0f}",
                flush=True,
            )
        rounds.append(found)
    if options.reference:
        report(rounds)


def report(rounds: list[dict[str, dict[str, float]]]) -> None:
    from record import record

    def ratio(quantity: str, rival: str) -> float:
        return statistics.median(r["reference"][quantity] / r[rival][quantity] for r in rounds)

    figures = {
        "time_ratio_reference_over_ours": ratio("cpu_s", "ours"),
        "memory_ratio_reference_over_ours": ratio("peak_mb", "ours"),
        "paper_preset_speedup": ratio("cpu_s", "paper preset"),
        "paper_preset_memory_ratio": ratio("peak_mb", "paper preset"),
        "time_ratio_reference_over_our_rollout": ratio("cpu_s", "ours, rollout"),
        "memory_ratio_reference_over_our_rollout": ratio("peak_mb", "ours, rollout"),
    }
    for name in ("reference", *OURS):
        key = name.replace(", ", "_").replace(" ", "_")
        figures[f"cpu_s_step_{key}"] = statistics.median(r[name]["cpu_s"] for r in rounds)
        figures[f"peak_mb_{key}"] = statistics.median(r[name]["peak_mb"] for r in rounds)
    for key, value in figures.items():
        print(f"{key:42s} {value:.3g}")
    print(record("springs_step", figures, threads=1, details={"rounds": rounds}))


if __name__ == "__main__":
    main()
