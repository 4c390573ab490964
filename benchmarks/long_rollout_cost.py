"""What a training step through a long rollout costs, by adjoint: memory and CPU time. Part of long_rollouts.py.

Memory: peak resident set (VmHWM) during one training step of forty systems minus the resident set before, after a
warm-up of a step through two, in a process of its own for each adjoint and length. Time: CPU time of a training step
through 100 leapfrog steps, per step of the integrator, as it is and compiled in turn, median of five.

    python benchmarks/long_rollout_cost.py
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lie_sim.experiments import SpringsConfig, SpringsExperiment
from lie_sim.training import RolloutTask

STEPS, BATCH = (10, 100, 1000), 40
ADJOINTS = {"autograd": 100, "checkpoint": 1000, "reversible": 1000, "compiled": 1000}
"""And the most steps that are tried with it."""
TIME_BATCHES, TIME_STEPS, TIME_REPEATS = (8, 40), 100, 5


def memory_kib(quantity: str) -> int:
    """VmHWM or VmRSS of this process."""
    found = re.search(rf"{quantity}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def training_step(adjoint: str, batch_size: int) -> Callable[[int], None]:
    """A function that computes the gradient of a rollout through so many leapfrog steps."""
    torch.set_num_threads(1)
    work = SpringsExperiment(SpringsConfig(num_train=BATCH, train_points=101))
    data, module = work.train_chunks.to(dtype=torch.float32), work.build()
    compiled = adjoint == "compiled"

    def gradient(count: int) -> None:
        points = min(count, 100) + 1
        task = RolloutTask(
            data,
            data,
            method="leapfrog",
            substeps=count // (points - 1),
            points=points,
            adjoint="reversible" if compiled else adjoint,
            compile=compiled,
        )
        batch = task.batch(torch.arange(batch_size), torch.Generator().manual_seed(0))
        task.loss(module, batch).backward()

    gradient(2)
    return gradient


def memory_mib(adjoint: str, steps: int) -> float:
    """MiB that one training step through so many leapfrog steps needs, after a warm-up of two steps."""
    gradient = training_step(adjoint, BATCH)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from the present resident set
    before = memory_kib("VmRSS")
    gradient(steps)
    return (memory_kib("VmHWM") - before) / 1024


def step_times() -> dict[str, float]:
    """CPU milliseconds of a step there and back, plain and compiled, interleaved."""
    figures = {}
    for batch_size in TIME_BATCHES:
        times: dict[str, list[float]] = {"reversible": [], "compiled": []}
        gradients = {adjoint: training_step(adjoint, batch_size) for adjoint in times}
        for _ in range(TIME_REPEATS):
            for adjoint, gradient in gradients.items():
                begin = time.process_time()
                gradient(TIME_STEPS)
                times[adjoint].append((time.process_time() - begin) / TIME_STEPS * 1e3)
        for adjoint, found in times.items():
            figures[f"ms_{adjoint}_{batch_size}"] = statistics.median(found)
        ratios = [a / b for a, b in zip(times["reversible"], times["compiled"], strict=True)]
        figures[f"compiled_speedup_{batch_size}"] = statistics.median(ratios)
    return figures


def memory_rows(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """One process per adjoint and number of steps."""
    rows = []
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    for adjoint, longest in ADJOINTS.items():
        for steps in counts:
            if steps > longest:
                continue
            command = [sys.executable, __file__, adjoint, str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            rows.append({"adjoint": adjoint, "steps": steps, "mib": json.loads(done.stdout)})
            print(f"{adjoint:10} {steps:5d} steps {rows[-1]['mib']:9.1f} MiB", flush=True)
    return rows


def main() -> None:
    if len(sys.argv) > 1:
        print(memory_mib(sys.argv[1], int(sys.argv[2])))
        return
    memory_rows(STEPS)
    print(json.dumps(step_times(), indent=2))


if __name__ == "__main__":
    main()
