"""Which backbone for which system: error of the forces against the time of a force, after equal CPU time of training.

    springs    six bodies in the plane joined by springs: 1,000 trajectories of 2 s; states of 200 unseen ones
    charges    five softened charges in space, likewise
    ethanol    frames by GFN2-xTB at 500 K (molecules_frames.py), 500 for training, unseen frames

Both backbones in three widths, as Hamiltonians (ethanol: as atomic potentials, in the recipe of ``lie-sim train
molecules``), the same data in the same order, batches and rates; one seed. The error is the root mean square of the
force errors in parts of the spread of the forces; the time is that of the forces of a batch of 100 systems (ethanol: of
one molecule, as an MD step takes it), without gradients of the weights, per system.

    python benchmarks/backbones.py --keep DIR --ethanol FILE              # parts in DIR are not done again
    python benchmarks/backbones.py --keep DIR --only 'charges-*'          # some parts
    python benchmarks/backbones.py --keep DIR --record                    # writes what is there
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from parts import measured, parser_of_parts
from record import record
from torch import Tensor, nn

from lie_sim.data import make_trajectories
from lie_sim.data.trajectories import Trajectories
from lie_sim.experiments import experiment_class
from lie_sim.experiments.molecules import errors, molecules_model, molecules_se3_model, molecules_training
from lie_sim.experiments.springs import springs_model, springs_se3_model
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import LieTransformerConfig, SE3TransformerConfig, build_model, model_class_of
from lie_sim.plain import to_plain
from lie_sim.systems import SoftenedCharges, Springs, System
from lie_sim.training import TrainingConfig, dynamics_task, fit_scales, train
from lie_sim.training.molecules import predict
from lie_sim.training.padded import PaddedMolecules

PROBLEMS, BACKBONES, WIDTHS = ("springs", "charges", "ethanol"), ("lie", "se3"), (16, 32, 64)
SPLITS = {"train": (0, 1000), "validation": (1, 100), "test": (2, 200)}
"""Seed and number of the systems."""
POINTS, STEP, BATCH, REPEATS, FRAMES = 201, 0.01, 100, 9, 500
SYSTEMS: dict[str, System] = {"springs": Springs(), "charges": SoftenedCharges()}
CHARGES: dict[str, Any] = {"num_attributes": 1, "use_masses": False, "radial": "coulomb", "softening": 0.2}

Config = LieTransformerConfig | SE3TransformerConfig


def config(problem: str, backbone: str, width: int) -> Config:
    """The architecture of ``lie-sim train``, in another width."""
    makers: dict[tuple[str, str], Callable[[], Config]] = {
        ("springs", "lie"): springs_model,
        ("springs", "se3"): springs_se3_model,
        ("charges", "lie"): lambda: replace(springs_model(), dim=3, **CHARGES),
        ("charges", "se3"): lambda: replace(springs_se3_model(), dim=3, **CHARGES),
        ("ethanol", "lie"): molecules_model,
        ("ethanol", "se3"): molecules_se3_model,
    }
    made = makers[problem, backbone]()
    heads = {"lie": width // 2 if problem == "ethanol" else width // 4, "se3": 4}[backbone]
    kernel = {"kernel_hidden": width} if backbone == "lie" else {}
    return replace(made, width=width, num_heads=heads, **kernel)


def trajectories(problem: str, split: str) -> Trajectories:
    """Of unseen systems in every split."""
    seed, count = SPLITS[split]
    return make_trajectories(SYSTEMS[problem], count, seed=seed, times=torch.arange(POINTS).double() * STEP)


def relative(found: Tensor, true: Tensor) -> float:
    """Root mean square error in parts of the spread."""
    return float((found - true).square().mean().sqrt().detach() / true.std())


def cpu_ms(call: Callable[[], object]) -> float:
    """Median CPU milliseconds, after a warm-up."""
    seconds = []
    for _ in range(REPEATS + 2):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return 1e3 * statistics.median(seconds[2:])


def bodies(problem: str, made: Config, budget: float) -> dict[str, float]:
    """Learn a Hamiltonian from trajectories."""
    known, validation, test = (trajectories(problem, split) for split in SPLITS)
    training = TrainingConfig(batch_size=BATCH, max_steps=0, max_cpu_seconds=budget, validate_every=0)
    torch.manual_seed(0)
    model: nn.Module = build_model(model_class_of(made).name, to_plain(fit_scales(made, known)))
    task = dynamics_task(training, known, validation)
    found = train(Hamiltonian(model), task, training, progress=False)
    hamiltonian = found.module.float().requires_grad_(False)
    forces, true = [], []
    for point in range(0, POINTS, POINTS // 10):
        q = test.q[:, point]
        true.append(SYSTEMS[problem].force(q, test.particles))
        forces.append(hamiltonian.force(q.float(), test.particles.map(_single)).double())
    q, particles = test.q[:BATCH, 0].float(), test.particles[:BATCH].map(_single)
    return {
        "error": relative(torch.cat(forces), torch.cat(true)),
        "ms": cpu_ms(lambda: hamiltonian.force(q, particles)) / BATCH,
        "steps": found.steps,
    }


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def molecules(made: Config, file: Path, budget: float) -> dict[str, float]:
    """Learn a potential from labelled frames."""
    cls: Any = experiment_class("molecules")
    training = replace(molecules_training(), max_cpu_seconds=budget, validate_every=0)
    experiment = cls(
        cls.Config(data=str(file), num_train=FRAMES, num_validation=100, model=made, training=training)
    )
    found = train(experiment.build(), experiment.task(), training, progress=False)
    test, cutoff = experiment.splits["test"], made.cutoff
    off = torch.from_numpy(errors(found.module, test, cutoff=cutoff, inputs=())["forces"])
    padded = PaddedMolecules(test[:1], cutoff=cutoff).to(dtype=torch.float32, device=torch.device("cpu"))
    one = padded.batch(torch.tensor([0]))
    return {
        "error": float(off.square().mean().sqrt()) / float(test.values["forces"].std()),
        "ms": cpu_ms(lambda: predict(found.module, one, cutoff=cutoff, forces=True)),
        "steps": found.steps,
    }


def parts() -> Iterator[str]:
    """Names of all parts."""
    for problem in PROBLEMS:
        yield from (f"{problem}-{backbone}-{width}" for width in WIDTHS for backbone in BACKBONES)


def run(part: str, options: argparse.Namespace) -> dict[str, float]:
    """Train and test one."""
    problem, backbone, width = part.split("-")
    made = config(problem, backbone, int(width))
    if problem == "ethanol":
        return molecules(made, options.ethanol, options.budget)
    return bodies(problem, made, options.budget)


def main(arguments: list[str] | None = None) -> None:
    """Do what is missing, each part in a process of its own; record if asked to."""
    parser = parser_of_parts(__doc__)
    parser.add_argument(
        "--ethanol", type=Path, help="file of labelled frames; without it its parts are not done"
    )
    parser.add_argument("--budget", type=float, default=120.0, help="CPU seconds of a training")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = [name for name in parts() if options.record or options.ethanol or not name.startswith("ethanol")]
    kept = measured(__file__, names, run, options, asked=["budget"], places=["ethanol"])
    if kept is None:
        return
    figures = {f"{name}_{key}": part[key] for name, part in kept.items() for key in ("error", "ms")}
    print(json.dumps(figures, indent=1))
    if options.record:
        print(record("backbones", figures, threads=1, details=kept, parts=kept.values()))


if __name__ == "__main__":
    main()
