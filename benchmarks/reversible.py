"""What does an exact gradient through n leapfrog steps cost in memory and time, by adjoint, and is it right?

    autograd         the graph of every step is kept                                        up to 10³ steps
    checkpoint       √n segments, recomputed on the way back                                up to 10⁴
    reversible       the state is stepped back                                              up to 10⁵
    fixed_point      the same in integers, exact to the bit                                 up to 10⁵
    odeint_adjoint   torchdiffeq's continuous adjoint, rk4 both ways, same step             up to 10³

Potentials, float64, six particles in the plane in a weak trap: "pairs", a network of 4,353 parameters over all pairs,
batch 32; for more than 10³ steps "small", one of 13 parameters, batch 1, coupled
so weakly that the motion stays regular: on chaotic motion the way back misses the start and raises ReversalError
(with the coupling of "pairs" at 10⁵ steps it does; fixed_point returns exactly).

Memory: peak of the resident set (VmHWM) over forward and backward minus the resident set before, in a fresh process
per run, after a warm-up of three steps. Gradient: largest difference of all gradients (parameters, start) over their
largest entry, against autograd through the same steps; odeint_adjoint against autograd through its own rk4. Time:
process time of forward and backward over autograd's, adjoints in turn in one process, median of the rounds.

    python benchmarks/reversible.py [--rounds 7] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchdiffeq
from record import record
from torch import Tensor, nn

from lie_sim.integrators import odeint

STEP, WARMUP = 0.02, 3
LONGEST = {
    "autograd": 1000,
    "checkpoint": 10_000,
    "reversible": 100_000,
    "fixed_point": 100_000,
    "odeint_adjoint": 1000,
}
COUNTS = (10, 100, 1000, 10_000, 100_000)
SIZES = {"pairs": (64, 32, 0.1), "small": (4, 1, 0.01)}
"""Width of the network, batch, and coupling c."""


class PairPotential(nn.Module):
    """V(q) = ½ Σ |q_i|² + c Σ_{i<j} f(|q_i − q_j|²), f a network; masses 1."""

    def __init__(self, width: int, coupling: float) -> None:
        super().__init__()
        self.coupling = coupling
        self.pairs = torch.triu_indices(6, 6, 1)
        hidden = [nn.Linear(width, width), nn.Tanh()] if width > 8 else []
        self.network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), *hidden, nn.Linear(width, 1)).double()

    def energy(self, q: Tensor) -> Tensor:
        i, j = self.pairs
        squared = (q[:, i] - q[:, j]).square().sum(-1, keepdim=True)
        pairs: Tensor = self.coupling * self.network(squared).sum((-2, -1))
        return pairs + 0.5 * q.square().sum((-2, -1))

    def force(self, q: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x = q if keep and q.requires_grad else q.detach().requires_grad_(True)
            return -torch.autograd.grad(self.energy(x).sum(), x, create_graph=keep)[0]

    def velocity(self, p: Tensor) -> Tensor:
        return p

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return state[1], self.force(state[0])


def set_up(potential: str) -> tuple[PairPotential, Tensor, Tensor]:
    """The potential and the start, the same in every process."""
    torch.manual_seed(0)
    width, batch, coupling = SIZES[potential]
    model = PairPotential(width, coupling)
    q, p = 0.5 * torch.randn(2, batch, 6, 2, dtype=torch.float64)
    return model, q.requires_grad_(True), p.requires_grad_(True)


def gradient(model: PairPotential, q: Tensor, p: Tensor, adjoint: str, steps: int) -> Tensor:
    """Of a loss at the end, with respect to start and parameters, one vector."""
    t = torch.tensor([0.0, steps * STEP], dtype=torch.float64)
    options: dict[str, Any] = {"step_size": STEP}
    if adjoint in ("odeint_adjoint", "odeint_rk4"):
        solve = torchdiffeq.odeint_adjoint if adjoint == "odeint_adjoint" else torchdiffeq.odeint
        found = solve(model, (q, p), t, method="rk4", options=options)
    else:
        if adjoint == "fixed_point":
            adjoint, options["fixed_point"] = "reversible", True
        found = odeint(model, (q, p), t, method="leapfrog", options=options, adjoint=adjoint)
    loss = found[0][-1].square().mean() + found[1][-1].square().mean()
    # some parameters, such as the last bias, have no influence on the force
    wanted = [q, p, *model.parameters()]
    for x in wanted:
        x.grad = None
    loss.backward()
    return torch.cat(
        [torch.zeros_like(x).reshape(-1) if x.grad is None else x.grad.reshape(-1) for x in wanted]
    )


def memory_kib(quantity: str) -> int:
    """VmHWM or VmRSS of this process."""
    found = re.search(rf"{quantity}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def measure(adjoint: str, steps: int, potential: str, file: str) -> dict[str, float]:
    """Extra memory and time of one gradient in this process; the gradient goes to a file."""
    torch.set_num_threads(1)
    run = (*set_up(potential), adjoint)
    gradient(*run, WARMUP)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from the present resident set
    before, begin = memory_kib("VmRSS"), time.process_time()
    found = gradient(*run, steps)
    spent, peak = time.process_time() - begin, memory_kib("VmHWM")
    np.save(file, found.numpy())
    return {"extra_mib": (peak - before) / 1024, "cpu_s": spent}


def in_own_process(adjoint: str, steps: int, potential: str, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", adjoint, str(steps), potential, str(file)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    if done.returncode:
        raise SystemExit(f"{adjoint}, {steps} steps failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def memory_rows(
    counts: tuple[int, ...], folder: Path, adjoints: tuple[str, ...] = tuple(LONGEST)
) -> list[dict[str, Any]]:
    """One process per adjoint and number of steps, shortest first."""
    rows = []
    for steps in counts:
        for adjoint in adjoints:
            if steps > LONGEST[adjoint]:
                continue
            potential = "pairs" if steps <= 1000 else "small"
            found = in_own_process(adjoint, steps, potential, folder / f"{adjoint}_{steps}.npy")
            rows.append({"adjoint": adjoint, "steps": steps, "potential": potential} | found)
            print(
                f"{adjoint:15} {steps:7d} steps, {potential:5}: {found['extra_mib']:9.2f} MiB "
                f"{found['cpu_s'] / steps * 1e6:9.0f} us/step",
                flush=True,
            )
    return rows


def gradient_errors(counts: tuple[int, ...], folder: Path) -> dict[str, float]:
    """Against autograd through the same steps."""
    figures = {}
    for steps in counts:
        potential = "pairs" if steps <= 1000 else "small"
        for reference in ("autograd", "odeint_rk4"):
            theirs = [name for name in LONGEST if (name == "odeint_adjoint") == (reference == "odeint_rk4")]
            files = {name: folder / f"{name}_{steps}.npy" for name in theirs if name != reference}
            files = {name: file for name, file in files.items() if file.exists()}
            if not files:
                continue
            in_own_process(reference, steps, potential, folder / "reference.npy")
            exact = np.load(folder / "reference.npy")
            for name, file in files.items():
                error = np.abs(np.load(file) - exact).max() / np.abs(exact).max()
                figures[key("grad_error", name, steps)] = float(error)
    return figures


def key(quantity: str, adjoint: str, steps: int) -> str:
    """Our own figures without a name, rivals' with it; 100000 as 1e5."""
    number = f"1e{len(str(steps)) - 1}" if steps > 1000 else str(steps)
    return f"{quantity}_{number}" if adjoint == "reversible" else f"{quantity}_{adjoint}_{number}"


def time_ratios(rounds: int, steps: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Forward and backward over those of autograd, in turn."""
    torch.set_num_threads(1)
    start, costs = set_up("pairs"), {name: [] for name in LONGEST}  # type: dict[str, list[float]]
    for number in range(rounds + 1):
        for name in LONGEST:
            begin = time.process_time()
            gradient(*start, name, steps)
            if number:  # the first round warms up
                costs[name].append(time.process_time() - begin)

    def ratio(name: str) -> float:
        pairs = zip(costs[name], costs["autograd"], strict=True)
        return statistics.median(mine / plain for mine, plain in pairs)

    figures = {"time_ratio": ratio("reversible")}
    return figures | {
        f"time_ratio_{x}": ratio(x) for x in LONGEST if x not in ("autograd", "reversible")
    }, costs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny settings; nothing is recorded")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        adjoint, steps, potential, file = options.measure
        print(json.dumps(measure(adjoint, int(steps), potential, file)))
        return
    ratios, costs = time_ratios(*((1, 3) if options.quick else (options.rounds, 100)))
    counts, compared = ((10,), (10,)) if options.quick else (COUNTS, (100, 10_000))
    adjoints = ("reversible",) if options.quick else tuple(LONGEST)
    with tempfile.TemporaryDirectory() as folder:
        rows = memory_rows(counts, Path(folder), adjoints)
        figures = ratios | gradient_errors(compared, Path(folder))
    figures |= {key("extra_mib", row["adjoint"], row["steps"]): row["extra_mib"] for row in rows}
    for name, value in figures.items():
        print(f"{name:36s} {value:.3g}")
    if not options.quick:
        details = {"runs": rows, "cpu_s_100_steps": costs, "step_size": STEP}
        print(record("reversible", figures, threads=1, details=details))


if __name__ == "__main__":
    main()
