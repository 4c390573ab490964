"""Train one contestant on frames of one molecule for so many CPU seconds, in a process of its own.

Called by molecules_accuracy.py; writes the predictions for the test frames to an npz file and prints JSON. Ours is
trained by the recipe of ``lie-sim train molecules``. The peers get the same loss, the same schedule (warm-up of 150
steps, cosine to 0 at the end of the budget), averaged weights, clipping of gradients, and graphs that are made once and
not charged; their batch size is the one that their authors recommend. Everybody's validation is part of the budget, and
what counts is the best validation.

    python benchmarks/molecules_training.py painn ethanol.npz out.npz --seed 0 --budget 300 --rate 2e-3
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from molecule_peers import CUTOFF, PEERS, Graph, Peer
from molecules_frames import Frames, read, split
from torch import Tensor

FORCE_WEIGHT, ENERGY_WEIGHT = 100.0, 10.0
WARM_UP, EMA, CLIP = 150, 0.995, 10.0
VALIDATE_EVERY = 30.0
"""CPU seconds."""
AT_ONCE = 50


def learning_rate(rate: float, step: int, fraction: float) -> float:
    """Warm-up, then a cosine to 0 at the end of the budget."""
    return rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def untrained(name: str, train: Frames) -> Peer:
    """A peer that knows the elements, the scales and the mean number of neighbours of its training data."""
    scale, shift = float(np.sqrt(np.mean(np.square(train.forces)))), float(train.energies.mean())
    between = train.positions[:, :, None] - train.positions[:, None]
    near = (np.linalg.norm(between, axis=-1) < CUTOFF).sum(-1) - 1
    elements = sorted(set(train.numbers.tolist()))
    return PEERS[name](elements, scale=scale, shift=shift, neighbours=float(near.mean()))


def graphs(peer: Peer, frames: Frames) -> list[Graph]:
    """Input of every frame."""
    return [peer.graph(Atoms(frames.numbers, x)) for x in frames.positions]


class Trainer:
    """Training of a peer.

    Args:
        peer: the model and how to feed it.
        train: training frames.
        rate: learning rate.
        optimizer: "adamw" or "muon".
    """

    def __init__(self, peer: Peer, train: Frames, *, rate: float, optimizer: str) -> None:
        self.peer, self.rate, self.batch = peer, rate, peer.batch
        self.variance = float(np.mean(np.square(train.forces)))
        self.graphs = graphs(peer, train)
        self.energies = torch.from_numpy(train.energies)
        self.forces = torch.from_numpy(train.forces).float()
        self.parameters = [p for p in peer.module.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters]
        self.optimizer = peer.optimizer(optimizer)
        self.steps, self.order = 0, torch.zeros(0, dtype=torch.long)

    def loss(self, chosen: Tensor) -> Tensor:
        """100 ⟨(F − F̂)²⟩/s² + 10 ⟨(E − Ê)²/N²⟩/s², s² the mean square of the training forces: as ours."""
        energies, forces = self.peer.evaluate([self.graphs[k] for k in chosen.tolist()], training=True)
        count = self.forces.shape[1]
        energy = ((energies - self.energies[chosen]) / count).square().mean()
        force = (forces.view(-1, count, 3) - self.forces[chosen]).square().mean()
        loss: Tensor = (FORCE_WEIGHT * force + ENERGY_WEIGHT * energy) / self.variance
        return loss

    def step(self, fraction: float) -> None:
        """One update, at this part of the budget."""
        if len(self.order) < self.batch:
            self.order = torch.randperm(len(self.graphs))
        chosen, self.order = self.order[: self.batch], self.order[self.batch :]
        for parameter in self.parameters:
            parameter.grad = None
        self.loss(chosen).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step(learning_rate=learning_rate(self.rate, self.steps, fraction))
        self.steps += 1
        keep = min(EMA, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - keep)

    def swap(self) -> None:
        """Exchange the weights and their averages."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.averages, strict=True):
                kept = parameter.clone()
                parameter.copy_(average)
                average.copy_(kept)


def predictions(peer: Peer, inputs: list[Graph], atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Energies (M,) and forces (M, N, 3)."""
    energies, forces = [], []
    for start in range(0, len(inputs), AT_ONCE):
        e, f = peer.evaluate(inputs[start : start + AT_ONCE], training=False)
        energies.append(e.detach().double().numpy())
        forces.append(f.detach().double().numpy().reshape(-1, atoms, 3))
    return np.concatenate(energies), np.concatenate(forces)


def train_peer(name: str, parts: dict[str, Frames], options: argparse.Namespace) -> dict[str, Any]:
    """Train a peer; its predictions for the test frames and how the training went."""
    base, _, optimizer = name.partition("_")
    torch.manual_seed(options.seed)
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    peer = untrained(base, train)
    trainer = Trainer(peer, train, rate=options.rate, optimizer=optimizer or "adamw")
    held_out = graphs(peer, validation)
    count, best, weights, history = len(train.numbers), math.inf, trainer.averages, []
    for _ in range(3):  # TorchScript optimises what it has seen a few times; that is not charged
        trainer.loss(torch.arange(peer.batch)).backward()
    begin = time.process_time()
    due = VALIDATE_EVERY
    while True:
        spent = time.process_time() - begin
        if spent < options.budget:
            trainer.step(spent / options.budget)
        if spent >= min(due, options.budget):
            trainer.swap()
            _, forces = predictions(peer, held_out, count)
            error = float(np.abs(forces - validation.forces).mean())
            history.append({"cpu_s": spent, "step": trainer.steps, "force_mae": error})
            if error < best:
                best, weights = error, [p.detach().clone() for p in trainer.parameters]
            trainer.swap()
            due += VALIDATE_EVERY
        if spent >= options.budget:
            break
    with torch.no_grad():
        for parameter, value in zip(trainer.parameters, weights, strict=True):
            parameter.copy_(value)
    energies, forces = predictions(peer, graphs(peer, test), count)
    return {
        "energies": energies,
        "forces": forces,
        "steps": trainer.steps,
        "cpu_s": spent,
        "parameters": sum(p.numel() for p in trainer.parameters),
        "validation": best,
        "history": history,
    }


def train_ours(parts: dict[str, np.ndarray], options: argparse.Namespace) -> dict[str, Any]:
    """The recipe of ``lie-sim train molecules``, with another budget and seed only."""
    from dataclasses import replace

    from lie_sim.data.structure_files import read_structures
    from lie_sim.experiments.molecules import MoleculesConfig, errors, molecules_training
    from lie_sim.models.base import parameter_count
    from lie_sim.training import MoleculesTask, atomic_potential, train

    config = MoleculesConfig()
    training = replace(molecules_training(), max_cpu_seconds=options.budget, seed=options.seed)
    if options.rate:
        training = replace(training, learning_rate=options.rate)
    frames = read_structures(options.frames)
    torch.manual_seed(options.seed)
    potential = atomic_potential(frames[parts["train"]])
    task = MoleculesTask(
        frames[parts["train"]],
        frames[parts["validation"]],
        cutoff=potential.cutoff,
        force_weight=config.force_weight,
        energy_weight=config.energy_weight,
    )
    done = train(potential, task, training, progress=False)
    test = frames[parts["test"]]
    found = errors(done.module, test, cutoff=potential.cutoff, inputs=())
    return {
        "energies": found["energy"] + test.values["energy"],
        "forces": (found["forces"] + test.values["forces"]).reshape(len(test), -1, 3),
        "steps": done.steps,
        "cpu_s": done.cpu_seconds,
        "parameters": parameter_count(potential),
        "validation": done.best_metric,
        "history": [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("contestant", help='"ours", or a peer, with "_muon" after it for that optimiser')
    parser.add_argument("frames", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=300.0, help="CPU seconds")
    parser.add_argument("--rate", type=float, default=0.0, help="learning rate; 0 for that of our recipe")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames = read(options.frames)
    places = split(len(frames), options.seed, quick=options.quick)
    if options.contestant == "ours":
        found = train_ours(places, options)
    else:
        found = train_peer(
            options.contestant, {name: frames[chosen] for name, chosen in places.items()}, options
        )
    partial = options.out.with_suffix(".partial.npz")
    np.savez(partial, energies=found.pop("energies"), forces=found.pop("forces"), test=places["test"])
    partial.replace(options.out)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
