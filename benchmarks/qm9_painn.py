"""Train SchNetPack's PaiNN on targets of QM9 jointly, for so many CPU seconds, in a process of its own.

Called by qm9.py in an environment that has schnetpack; reads molecules from an npz file, writes predictions to another
and prints JSON. The network is the package's configuration for QM9 (3 interactions, 20 Gaussians, cutoff 5 Å), 64 wide,
with its own output modules: the dipole with atomic vectors, sums of atoms for alpha and U0, means for orbital energies.
Targets come less their baseline and in units of their spread; loss, schedule, averaging and batch size are those of
ours. Lists of neighbours are made beforehand and are not charged.

    python benchmarks/qm9_painn.py data.npz out.npz --budget 300 --rate 1e-3
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CUTOFF = 5.0
WARM_UP, EMA, CLIP = 150, 0.995, 10.0
AT_ONCE = 64
SUMS, MEANS = ("alpha", "U0", "U", "H", "G", "zpve", "Cv", "r2"), ("homo", "lumo", "gap")

Graph = dict[str, Tensor]


def import_schnetpack() -> None:
    """SchNetPack 2.2.0 imports a name that torch dropped after 2.8: put it there."""
    import torch.utils.data.dataloader as loader

    if not hasattr(loader, "_T_co"):
        from typing import TypeVar

        loader._T_co = TypeVar("_T_co", covariant=True)  # type: ignore[attr-defined]


def network(targets: list[str], features: int) -> nn.Module:
    """PaiNN with one output module for each target; mu is the length of the dipole."""
    import schnetpack as spk

    heads: list[nn.Module] = []
    for name in targets:
        if name == "mu":
            options = {"predict_magnitude": True, "use_vector_representation": True}
            heads.append(spk.atomistic.DipoleMoment(n_in=features, dipole_key="mu", **options))
        else:
            how = "sum" if name in SUMS else "avg"
            heads.append(spk.atomistic.Atomwise(n_in=features, output_key=name, aggregation_mode=how))
    made: nn.Module = spk.model.NeuralNetworkPotential(
        representation=spk.representation.PaiNN(
            n_atom_basis=features,
            n_interactions=3,
            radial_basis=spk.nn.GaussianRBF(n_rbf=20, cutoff=CUTOFF),
            cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
        ),
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=heads,
    )
    return made


def graph(numbers: np.ndarray, positions: np.ndarray) -> Graph:
    """One molecule as SchNetPack's loader wants it, positions about the centre of mass."""
    from ase.data import atomic_masses
    from schnetpack import properties as keys

    masses = atomic_masses[numbers][:, None]
    positions = positions - (masses * positions).sum(0) / masses.sum()
    vectors = positions[None] - positions[:, None]
    near = (np.linalg.norm(vectors, axis=-1) < CUTOFF) & ~np.eye(len(numbers), dtype=bool)
    i, j = np.nonzero(near)
    return {
        keys.n_atoms: torch.tensor([len(numbers)]),
        keys.Z: torch.from_numpy(numbers),
        keys.R: torch.from_numpy(positions).float(),
        keys.idx: torch.tensor([0]),
        keys.idx_i: torch.from_numpy(i),
        keys.idx_j: torch.from_numpy(j),
        keys.offsets: torch.zeros(len(i), 3),
    }


class Part:
    """Molecules of one part of the split: graphs, and targets in units of their spread, shape (M, T)."""

    def __init__(self, file: Any, name: str) -> None:
        offsets, numbers, positions = (file[f"{name}_{key}"] for key in ("offsets", "numbers", "positions"))
        parts = [slice(a, b) for a, b in itertools.pairwise(offsets)]
        self.graphs = [graph(numbers[part], positions[part]) for part in parts]
        self.targets = torch.from_numpy(file[f"{name}_targets"]).float()


def outputs(module: nn.Module, graphs: list[Graph], targets: list[str]) -> Tensor:
    """Predictions, shape (B, T)."""
    from schnetpack.data.loader import _atoms_collate_fn

    found = module(_atoms_collate_fn([dict(each) for each in graphs]))
    return torch.stack([found[name].reshape(-1) for name in targets], 1)


def predictions(module: nn.Module, graphs: list[Graph], targets: list[str]) -> Tensor:
    """Predictions of many molecules."""
    starts = range(0, len(graphs), AT_ONCE)
    with torch.no_grad():
        return torch.cat([outputs(module, graphs[k : k + AT_ONCE], targets) for k in starts])


def learning_rate(rate: float, step: int, fraction: float) -> float:
    """Warm-up, then a cosine to 0 at the end of the budget."""
    return rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def train(module: nn.Module, data: Part, options: argparse.Namespace, targets: list[str]) -> dict[str, float]:
    """Train in place; the weights end as their moving average."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=0.0, fused=True)

    def loss(chosen: Tensor) -> Tensor:
        found = outputs(module, [data.graphs[k] for k in chosen.tolist()], targets)
        mean: Tensor = (found - data.targets[chosen]).abs().mean()
        return mean

    for _ in range(3):  # TorchScript optimises what it has seen a few times; that is not charged
        loss(torch.arange(options.batch)).backward()
    begin, steps, order = time.process_time(), 0, torch.zeros(0, dtype=torch.long)
    while (spent := time.process_time() - begin) < options.budget:
        if len(order) < options.batch:
            order = torch.randperm(len(data.graphs))
        chosen, order = order[: options.batch], order[options.batch :]
        optimizer.zero_grad()
        loss(chosen).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(options.rate, steps, spent / options.budget)
        optimizer.step()
        steps += 1
        keep = min(EMA, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - keep)
    with torch.no_grad():
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.copy_(average)
    return {"steps": steps, "cpu_s": spent, "parameters": sum(p.numel() for p in parameters)}


def main() -> None:
    """Train, predict the validation and the test molecules, print how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float, default=300.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    import_schnetpack()
    with np.load(options.data, allow_pickle=False) as file:
        targets = [str(name) for name in file["names"]]
        parts = {name: Part(file, name) for name in ("train", "validation", "test")}
    module = network(targets, options.features)
    facts = train(module, parts["train"], options, targets)
    module.eval()
    told = {
        name: predictions(module, parts[name].graphs, targets).double() for name in ("validation", "test")
    }
    np.savez(options.out, **{name: value.numpy() for name, value in told.items()})
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
