"""What do workers of Ray cost a training run, and does a killed run end with the same bits?

    resume_bit_exact   1 if two workers, one of them killed by SIGKILL, end with the weights of two bare processes
    report_seconds     what a step takes longer when its metrics are reported to Ray: median over reports
    report_overhead    report_seconds / 60, the part of the time that goes to reports at one a minute, the default
    step_ratio         median step of two workers of Ray over that of two bare processes, without reports

    python benchmarks/ray_train.py [--steps 200]

A Hamiltonian of springs learns forces, so that every step has two backward passes. One thread a process; for times
two cores of their own are needed.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor, distributed, multiprocessing, nn

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.data import make_trajectories
from lie_sim.distributed import RayFit
from lie_sim.systems import Springs
from lie_sim.training import DerivativeTask, TrainingConfig, train
from lie_sim.training.world import ProcessGroup

LOG_EVERY = 20
MINUTE = 60.0


class Timed(DerivativeTask):
    """Notes when each step begins, and kills its process once if it is told to."""

    def __init__(self, folder: Path, kill_at: int = 0) -> None:
        data = make_trajectories(
            Springs(), 240, seed=0, times=torch.linspace(0, 0.04, 5, dtype=torch.float64)
        )
        super().__init__(data[:200], data[200:])
        self.folder, self.kill_at, self.begun = folder, kill_at, list[float]()

    def batch(self, indices: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.begun.append(time.perf_counter())
        if len(self.begun) == self.kill_at and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(indices, generator)

    def validate(self, module: nn.Module) -> dict[str, float]:
        lines = "\n".join(map(str, self.begun))
        (self.folder / "begun").write_text(lines)
        return super().validate(module)


def model() -> nn.Module:
    torch.manual_seed(0)
    return Hamiltonian(LieTransformer.default(num_attributes=1, width=32, num_layers=2))


def config(steps: int) -> TrainingConfig:
    return TrainingConfig(
        max_steps=steps, batch_size=64, log_every=LOG_EVERY, validate_every=0, checkpoint_every=50
    )


def member(rank: int, port: int, folder: Path, steps: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    train(model(), Timed(folder), config(steps), folder, progress=False, world=ProcessGroup())
    distributed.destroy_process_group()


def without_ray(folder: Path, steps: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(member, (port, folder, steps), nprocs=2, start_method="fork")


def with_ray(folder: Path, steps: int, *, report_every: float, kill_at: int = 0) -> None:
    task = Timed(folder, kill_at)
    RayFit(workers=2, report_every=report_every)(model(), task, config(steps), folder, progress=False)


def intervals(folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of the steps after which nothing was logged, and of the others; the first ones are left out."""
    begun = [float(line) for line in (folder / "begun").read_text().splitlines()]
    steps = [(number + 1, after - before) for number, (before, after) in enumerate(pairwise(begun))]
    late = [pair for pair in steps if pair[0] > LOG_EVERY // 2 and pair[0] % 50]
    logged = [seconds for number, seconds in late if number % LOG_EVERY == 0]
    return [seconds for number, seconds in late if number % LOG_EVERY], logged


def weights(folder: Path) -> bytes:
    (file,) = (folder / "model").glob("weights-*.safetensors")
    return file.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        bare, quiet, killed = (Path(name, each) for each in ("bare", "quiet", "killed"))
        for folder in (bare, quiet, killed):
            folder.mkdir()
        without_ray(bare, steps)
        with_ray(quiet, steps, report_every=0.0)
        with_ray(killed, steps, report_every=MINUTE, kill_at=steps // 2 + 7)
        plain, logged = intervals(bare)
        plain_on_ray, reported = intervals(quiet)
        logging = statistics.median(logged) - statistics.median(plain)
        report = statistics.median(reported) - statistics.median(plain_on_ray) - logging
        figures: dict[str, Any] = {
            "resume_bit_exact": float(weights(bare) == weights(killed) and (killed / "killed").exists()),
            "report_seconds": report,
            "report_overhead": report / MINUTE,
            "step_ratio": statistics.median(plain_on_ray) / statistics.median(plain),
            "step_seconds": statistics.median(plain),
        }
    for figure, value in figures.items():
        print(f"{figure:18} {value:.4g}")
    print(record("ray_train", figures, threads=1))


if __name__ == "__main__":
    main()
