"""Small runs for several tests, and what the frames of one of them should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from lie_sim.distributed import Run, simulate
from lie_sim.rollout import rollout
from lie_sim.systems import Springs

SYSTEM = Springs(num_particles=3)
OPTIONS: dict[str, Any] = {"steps": 50, "dt": 0.01, "save_every": 5, "chunk": 3, "segment": 20}
ATOMS: dict[str, Any] = {"steps": 4, "dt": 0.05, "save_every": 2, "segment": 2}
TOTAL, CHUNKS, SEGMENTS = 5, 2, 3


def new_run(folder: Path, **options: Any) -> Run:
    ensemble = SYSTEM.sample(TOTAL, generator=torch.Generator().manual_seed(0))
    return simulate(SYSTEM, ensemble, store=folder, method="leapfrog", **OPTIONS | options)


def expected(name: str = "q") -> np.ndarray:
    """(n, T, …) by lie_sim.rollout."""
    ensemble = SYSTEM.sample(TOTAL, generator=torch.Generator().manual_seed(0))
    steps = {"step_size": 0.01, "num_steps": 50, "save_every": 5, "batch_size": 3}
    found: torch.Tensor = getattr(rollout(SYSTEM, *ensemble, method="leapfrog", **steps), name)
    return found.numpy()


def hydrogen() -> list[Atoms]:
    positions = [[0.0, 0, 0], [0.8, 0, 0], [0, 0.9, 0.1]]
    systems = [Atoms("H2", positions[:2]), Atoms("H3", positions)]
    for k, atoms in enumerate(systems):
        atoms.set_momenta(np.random.default_rng(k).normal(size=(len(atoms), 3)) * 0.1)
    return systems
