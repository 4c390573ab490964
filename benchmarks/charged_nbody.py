"""Where are five charged particles ten frames later? The published N-body task, by learned Hamiltonians and others.

Standard split: 3,000 systems to train, 2,000 to choose the weights, 2,000 to test; positions and velocities at frame
30, positions at frame 40; nothing between is seen. Adam with warm-up and cosine, batches of 100, the same CPU seconds
for every model and seed.

Hamiltonians learn with ``LEARN_STEPS`` steps, and systems whose particles come closer than ``NEAR`` count less, by the
fourth power of the distance: gradients through a close encounter are huge, and would lead all others. The radial
functions of all but the set transformer hold 1/√(r²+ε²), as charges have it; ε was chosen on validation systems.

    lie_transformer        Hamiltonian with a LieTransformer, ``STEPS`` leapfrog steps from frame to frame
    lie_without_attention  the same with weights of the distances alone, not normalised: a continuous convolution
    se3_transformer        displacements from the vector head of an SE3Transformer
    set_transformer        displacements from attention between coordinates, without symmetry

    mse_NAME         mean square error of the positions, mean over the seeds
    median_NAME      median over the systems in place of the mean, mean over the seeds
    best_mse         of the best of all
    ms_per_force_…   CPU time of the forces, or of the displacements, of one system, in a batch of 100; no gradient
    ms_NAME          the same of the prediction, which takes ``STEPS`` + 1 forces where there is a Hamiltonian
    turned_NAME      how many times larger the error is on tests that are turned at random, where all systems of
                     training are turned so that the first velocity points along x (of lie_transformer one seed)
    mse_linear       of q + τ v with the τ that fits the training systems

    python benchmarks/charged_nbody.py --keep DIR                     # parts in DIR are not done again
    python benchmarks/charged_nbody.py --keep DIR --only 'lie_*-0'    # some parts
    python benchmarks/charged_nbody.py --keep DIR --record            # writes what is there
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from parts import measured, parser_of_parts
from record import record
from torch import Tensor, nn

from lie_sim.data.charged import CHARGED_SPLITS, FIRST_FRAME, LAST_FRAME, charged_trajectories
from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.groups import group
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators import odeint
from lie_sim.models import (
    LieTransformer,
    LieTransformerConfig,
    SE3TransformerConfig,
    SE3TransformerDynamics,
)
from lie_sim.state import Particles
from lie_sim.training import TrainingConfig, train
from lie_sim.training.tasks import Batch, TensorTask, select

SEEDS = (0, 1, 2)
TIME, STEPS, BATCH, REPEATS = 1.0, 100, 100, 5
LEARN_STEPS, NEAR, FRAMES, LARGEST = 40, 0.5, 11, 1.0
COULOMB: dict[str, Any] = {"num_attributes": 1, "use_masses": False, "radial": "coulomb", "softening": 0.07}
LIE = LieTransformerConfig(
    dim=3, num_layers=1, width=32, num_heads=4, kernel_hidden=32, norm="none", **COULOMB
)
SE3 = SE3TransformerConfig(lmax=2, width=16, num_layers=4, **COULOMB)
RATES = {"se3_transformer": 3e-3}
RATE = 1e-3


class SetTransformer(nn.Module):
    """Displacements from attention between coordinates, velocities and charges as they are."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.embed, self.read = nn.Linear(7, width), nn.Linear(width, 3)
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)

    def forward(self, q: Tensor, v: Tensor, charges: Tensor) -> Tensor:
        """Shape (B, N, 3) of positions, velocities and displacements, (B, N, 1) of charges."""
        found: Tensor = self.read(self.blocks(self.embed(torch.cat([q, v, charges], dim=-1))))
        return found


def build(name: str) -> nn.Module:
    """An untrained model."""
    if name == "lie_transformer":
        return Hamiltonian(LieTransformer(LIE))
    if name == "lie_without_attention":
        same: dict[str, Any] = {"content": "none", "location": "mlp", "normalisation": "constant"}
        return Hamiltonian(LieTransformer(LieTransformerConfig(**{**vars(LIE), **same})))
    if name == "se3_transformer":
        return SE3TransformerDynamics(SE3)
    return SetTransformer()


MODELS = ("lie_transformer", "se3_transformer", "lie_without_attention", "set_transformer")


def predicted(module: nn.Module, batch: Batch) -> Tensor:
    """Positions at the last frame, shape (B, N, 3)."""
    q, v = batch["q"], batch["v"]
    if isinstance(module, Hamiltonian):
        return path(module, batch, STEPS)[-1]
    if isinstance(module, SE3TransformerDynamics):
        moved: Tensor = module(q, v, particles_of(batch))[0]
        return q + v + moved
    return q + v + module(q, v, batch["charges"])


def particles_of(batch: Batch) -> Particles:
    """Unit masses and charges."""
    return Particles(masses=torch.ones_like(batch["charges"][..., 0]), attributes=batch["charges"])


def path(module: Hamiltonian, batch: Batch, num_steps: int, num_frames: int = 2) -> Tensor:
    """Positions at equal distances of time, the first and the last frame among them, shape (T, B, N, 3)."""
    times = torch.linspace(0.0, TIME, num_frames, dtype=torch.float64)
    steps: dict[str, Any] = {"method": "leapfrog", "options": {"step_size": TIME / num_steps}}
    return odeint(module.bind(particles_of(batch)), (batch["q"], batch["v"]), times, **steps)[0]


@torch.no_grad()
def calm(frames: Tensor) -> Tensor:
    """How much each system counts in training, shape (B,)."""
    itself = torch.eye(frames.shape[2], device=frames.device) / torch.finfo(frames.dtype).eps
    nearest = (torch.cdist(frames, frames) + itself).amin((0, 2, 3))
    return (nearest / NEAR).clamp(max=1.0) ** 4


class Later(TensorTask):
    """Positions at the last frame from the state at the first."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean square error of the positions; of a Hamiltonian weighted, and of each system at most ``LARGEST``."""
        if not isinstance(module, Hamiltonian):
            return errors(module, batch).mean()
        frames = path(module, batch, LEARN_STEPS, FRAMES)
        weights, each = calm(frames), (frames[-1] - batch["end"]).square().mean((1, 2))
        return (weights * each.clamp(max=LARGEST)).sum() / weights.sum()

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """Mean square error of all validation data, however large."""
        return {"validation_loss": float(all_errors(module, self._validation).mean())}


def errors(module: nn.Module, batch: Batch) -> Tensor:
    """Mean square error of each system."""
    return (predicted(module, batch) - batch["end"]).square().mean((1, 2))


@torch.no_grad()
def all_errors(module: nn.Module, data: Batch) -> Tensor:
    """The same of any number of systems."""
    parts = (select(data, slice(k, k + BATCH)) for k in range(0, len(data["q"]), BATCH))
    return torch.cat([errors(module, part) for part in parts])


def data(keep: Path, split: str) -> Batch:
    """States at the first frame, positions at the last, charges; made once."""
    path = keep / f"{split}.safetensors"
    if not path.exists():
        made = charged_trajectories(split, num_frames=LAST_FRAME + 1)
        assert made.particles.attributes is not None
        tensors = {"q": made.q[:, FIRST_FRAME], "v": made.p[:, FIRST_FRAME], "end": made.q[:, LAST_FRAME]}
        save_tensors(path, tensors | {"charges": made.particles.attributes}, {}, kind="charged")
    return {name: tensor.float() for name, tensor in load_tensors(path, kind="charged")[0].items()}


def turned(batch: Batch, *, seed: int | None) -> Batch:
    """Every system by a rotation of its own; by that which turns its first velocity along x where there is no seed."""
    if seed is None:
        x = nn.functional.normalize(batch["v"][:, 0], dim=-1)
        other = nn.functional.normalize(torch.cross(x, batch["v"][:, 1], dim=-1), dim=-1)
        matrices = torch.stack([x, other, torch.cross(x, other, dim=-1)], dim=1)
    else:
        matrices = group("SO(3)").random((len(batch["q"]),), seed, dtype=torch.float32)
    return batch | {name: batch[name] @ matrices.mT for name in ("q", "v", "end")}


def milliseconds(module: nn.Module, batch: Batch) -> dict[str, float]:
    """CPU milliseconds of one system in a batch: of a force, and of a prediction."""
    particles = particles_of(batch)

    def force() -> object:
        return module.force(batch["q"], particles) if isinstance(module, Hamiltonian) else prediction()

    @torch.no_grad()
    def prediction() -> object:
        return predicted(module, batch)

    found = {}
    for name, work in (("ms_per_force", force), ("ms", prediction)):
        seconds = []
        for _ in range(REPEATS + 1):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        found[name] = 1e3 * statistics.median(seconds[1:]) / len(batch["q"])
    return found


def run(part: str, options: argparse.Namespace) -> dict[str, float]:
    """Train and test one model."""
    if part == "linear":
        return linear(options)
    name, seed, *upright = part.split("-")
    train_data, validation, test = (data(options.keep, split) for split in CHARGED_SPLITS)
    away = turned(test, seed=int(seed))
    if upright:
        train_data, validation, test = (turned(part, seed=None) for part in (train_data, validation, test))
    training = TrainingConfig(
        batch_size=BATCH,
        max_steps=0,
        max_cpu_seconds=options.budget,
        learning_rate=RATES.get(name, RATE),
        validate_every=options.validate_every,
        seed=int(seed),
    )
    torch.manual_seed(int(seed))
    found = train(build(name), Later(train_data, validation), training, options.keep / "runs" / part)
    module = found.module.requires_grad_(False)
    found_errors = all_errors(module, test)
    return {
        "mse": float(found_errors.mean()),
        "median": float(found_errors.median()),
        "mse_turned": float(all_errors(module, away).mean()),
        "validation": found.best_metric,
        "steps": found.steps,
        "parameters": sum(p.numel() for p in module.parameters()),
    } | milliseconds(module, select(test, slice(0, BATCH)))


def linear(options: argparse.Namespace) -> dict[str, float]:
    """The baseline."""
    known, test = data(options.keep, "train"), data(options.keep, "test")
    tau = (known["v"] * (known["end"] - known["q"])).sum() / known["v"].square().sum()
    return {"mse": float((test["q"] + tau * test["v"] - test["end"]).square().mean()), "tau": float(tau)}


def parts() -> Iterator[str]:
    """Names of all parts, what the figures need most first."""
    yield "linear"
    for seed in SEEDS:
        yield from (f"{name}-{seed}" for name in MODELS)
        yield f"set_transformer-{seed}-upright"
    yield "lie_transformer-0-upright"


def figures(kept: dict[str, dict[str, float]]) -> dict[str, float]:
    """What can be said of the parts that are done."""
    found: dict[str, float] = {}
    for name in MODELS:
        runs = [kept[f"{name}-{seed}"] for seed in SEEDS if f"{name}-{seed}" in kept]
        if runs:
            found[f"mse_{name}"] = statistics.fmean(run["mse"] for run in runs)
            found[f"median_{name}"] = statistics.fmean(run["median"] for run in runs)
            for what in ("ms_per_force", "ms"):
                found[f"{what}_{name}"] = statistics.median(run[what] for run in runs)
        upright = [kept[key] for seed in SEEDS if (key := f"{name}-{seed}-upright") in kept]
        if upright:
            found[f"turned_{name}"] = statistics.fmean(run["mse_turned"] / run["mse"] for run in upright)
    errors = [value for name, value in found.items() if name.startswith("mse_")]
    if errors:
        found["best_mse"] = min(errors)
    if "linear" in kept:
        found["mse_linear"] = kept["linear"]["mse"]
    return found


def main(arguments: list[str] | None = None) -> None:
    """Do what is missing, each part in a process of its own; record if asked to."""
    parser = parser_of_parts(__doc__)
    parser.add_argument("--budget", type=float, default=420.0, help="CPU seconds of a training")
    parser.add_argument("--validate-every", type=int, default=200, help="steps between validations")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    kept = measured(__file__, parts(), run, options, asked=["budget", "validate_every"])
    if kept is None:
        return
    print(json.dumps({"figures": figures(kept), "parts": kept}, indent=1))
    if options.record:
        print(record("charged_nbody", figures(kept), threads=1, details=kept, parts=kept.values()))


if __name__ == "__main__":
    main()
