"""Does a training run that is killed at random moments end with the same weights as one that is not?

A child process trains a small model and writes a checkpoint every few steps. It is killed by SIGKILL after a
random time (a seeded part of the duration of an undisturbed run) and started again in the same run directory. A
run that gets to its end is compared with the undisturbed one, bit for bit: weights, averages, moments, best
weights, metrics. Then the next run begins, until the wanted number of kills is reached.

    python benchmarks/kill_and_resume.py --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from record import record

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.data import make_trajectories
from lie_sim.data.storage import load_tensors, tensors_digest
from lie_sim.systems import Springs
from lie_sim.training import TrainingConfig, dynamics_task, read_metrics, train
from lie_sim.training.run_state import checkpoints


def run_training(folder: Path, steps: int) -> None:
    times = torch.linspace(0, 0.04, 5, dtype=torch.float64)
    data = make_trajectories(Springs(num_particles=3), 24, seed=0, times=times)
    torch.manual_seed(0)
    model = LieTransformer.default(num_attributes=1, width=8, num_heads=2, num_layers=1, kernel_hidden=8)
    config = TrainingConfig(
        max_steps=steps, batch_size=7, warmup_steps=5, log_every=2, validate_every=9, checkpoint_every=4
    )
    train(Hamiltonian(model), dynamics_task(config, data[:16], data[16:]), config, folder, progress=False)


def run_child(work: Callable[[], object], delay: float | None) -> tuple[bool, float]:
    """Work in a forked process, killed after ``delay`` seconds; (whether it was killed, seconds it lived)."""
    sys.stdout.flush()
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and os.WEXITSTATUS(status):
        raise RuntimeError(f"the process failed with status {os.WEXITSTATUS(status)}")
    return killed, time.perf_counter() - begin


def fingerprint(folder: Path) -> dict[str, object]:
    """All that must agree: every tensor of the last checkpoint, the saved model, the metrics without CPU times."""
    tensors, facts = load_tensors(checkpoints(folder / "checkpoints")[-1], kind="training checkpoint")
    rows = [
        {k: v for k, v in row.items() if k != "cpu_seconds"} for row in read_metrics(folder / "metrics.jsonl")
    ]
    weights = json.loads((folder / "model" / "model.json").read_bytes())["weights"]["sha256"]
    return {"step": facts["step"], "checkpoint": tensors_digest(tensors), "model": weights, "metrics": rows}


def newest_step(folder: Path) -> int:
    found = checkpoints(folder / "checkpoints")
    return int(found[-1].stem.removeprefix("step_")) if found else -1


def kill_until_done(
    folder: Path, steps: int, delays: Iterator[float], budget: int
) -> list[dict[str, object]]:
    """Run to the end in one folder, killed at most ``budget`` times on the way; the kills."""
    kills: list[dict[str, object]] = []
    while len(kills) < budget:
        delay = next(delays)
        killed, _ = run_child(lambda: run_training(folder, steps), delay)
        if not killed:
            return kills
        half_written = len([*folder.rglob(".*.*")])
        kills.append({"after_seconds": delay, "newest": newest_step(folder), "half_written": half_written})
        print(f"{delay:11.3f} {kills[-1]['newest']:18d} {half_written:18d}")
    run_child(lambda: run_training(folder, steps), None)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    moments, runs = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as scratch:
        run_child(lambda: run_training(Path(scratch, "calm"), options.steps), None)
        expected = fingerprint(Path(scratch, "calm"))
        duration = run_child(lambda: run_training(Path(scratch, "again"), options.steps), None)[1]
        print(f"undisturbed: {options.steps} steps in {duration:.2f} s")
        print("  after [s]  newest checkpoint  half-written files")
        delays = iter(lambda: moments.uniform(0, duration / 2), None)
        while (missing := options.kills - sum(len(run["kills"]) for run in runs)) > 0:
            folder = Path(scratch, f"disturbed_{len(runs)}")
            kills = kill_until_done(folder, options.steps, delays, missing)
            found = fingerprint(folder)
            runs.append({"kills": kills, "equal": {name: found[name] == expected[name] for name in expected}})
            print(
                f"run {len(runs)}: killed {len(kills)} times; equal to the undisturbed run:",
                runs[-1]["equal"],
            )
    identical = all(all(run["equal"].values()) for run in runs)
    kills = sum(len(run["kills"]) for run in runs)
    print(f"{kills} kills in {len(runs)} runs, all identical: {identical}")
    figures = {
        "kills": kills,
        "identical": float(identical),
        "half_written_files": sum(kill["half_written"] for run in runs for kill in run["kills"]),
    }
    details = {
        "runs": runs,
        "undisturbed_seconds": duration,
        "steps": options.steps,
        "seed": options.seed,
    }
    if not options.dry_run:
        record("kill_and_resume", figures, threads=torch.get_num_threads(), details=details)
    return 0 if identical else 1


if __name__ == "__main__":
    raise SystemExit(main())
