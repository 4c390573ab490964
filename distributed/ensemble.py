"""Who is advanced together: initial states in chunks, a trajectory's place in them fixed once and for all.

    trajectory i  →  (chunk c, row b)

States of one system are cut in the order given. Atoms are grouped by their chemical elements, so that a chunk is one
composition and needs no padding.

Shape letters: n trajectories, B systems of a chunk, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from lie_sim.data import Molecules
from lie_sim.data.storage import load_tensors, save_tensors
from lie_sim.distributed.atoms import chunks_of_atoms, is_atoms
from lie_sim.distributed.models import Moving, dtype_of
from lie_sim.distributed.start import ChunkStart
from lie_sim.driven import DrivenHamiltonian
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenSystem

DRIVEN = (DrivenHamiltonian, DrivenSystem)
"""What moves differently at other times."""
Ensemble = tuple[PhaseState, Particles] | Sequence[Atoms] | Molecules
_MEMBERSHIP = "membership of chunks"


def chunks(ensemble: Any, size: int, moving: Moving) -> Iterator[ChunkStart]:
    """The chunks of an ensemble.

    Args:
        ensemble: ``(state, particles)``, a list of ASE's atoms, or a set of molecules.
        size: largest number of systems of a chunk.
        moving: the model; atoms are converted to its dtype.

    Raises:
        TypeError: the ensemble is something else, or atoms and the model knows no elements.
        ValueError: it is empty, or of another dtype than the model.
    """
    if size < 1:
        raise ValueError(f"chunk must be at least 1 system, got {size}")
    if isinstance(ensemble, Molecules) or is_atoms(ensemble):
        yield from chunks_of_atoms(ensemble, size, moving)
    elif isinstance(ensemble, tuple) and [type(part) for part in ensemble] == [PhaseState, Particles]:
        state, particles = ensemble
        yield from _of_states(state, particles, size, moving)
    else:
        raise TypeError(
            "an ensemble is (PhaseState, Particles), a list of ase.Atoms, or lie_sim.data.Molecules; got "
            f"{type(ensemble).__name__}"
        )


def membership(starts: Sequence[Tensor]) -> dict[str, Tensor]:
    """Chunk and row of every trajectory, shape (n,) each, from the trajectories of every chunk.

    Example:
        >>> membership([torch.tensor([2, 0]), torch.tensor([1])])["chunk"].tolist()
        [0, 1, 0]
    """
    total = sum(len(each) for each in starts)
    chunk, row = (torch.full((total,), -1, dtype=torch.int64) for _ in range(2))
    for number, trajectories in enumerate(starts):
        chunk[trajectories], row[trajectories] = number, torch.arange(len(trajectories))
    return {"chunk": chunk, "row": row}


def save_membership(path: Path, table: dict[str, Tensor]) -> str:
    """Write the table; returns its digest."""
    return save_tensors(path, table, {}, kind=_MEMBERSHIP)


def load_membership(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Chunk and row of every trajectory, shape (n,) each.

    Raises:
        DataError: the file is missing or damaged.
    """
    tensors, _ = load_tensors(path, kind=_MEMBERSHIP)
    return tensors["chunk"].numpy(), tensors["row"].numpy()


def _of_states(state: PhaseState, particles: Particles, size: int, moving: Moving) -> Iterator[ChunkStart]:
    dtype = dtype_of(moving)
    if len(state.q) == 0:
        raise ValueError("an ensemble needs at least one system")
    found = {str(x.dtype).removeprefix("torch.") for x in (state.q, state.p, particles.masses)}
    wanted = {str(dtype or state.q.dtype).removeprefix("torch.")}
    if found != wanted:
        raise ValueError(
            f"the model computes in {', '.join(wanted)}, the states and masses are {', '.join(sorted(found))}: "
            "convert them, particles.to(dtype=…), or the model, model.to(dtype)"
        )
    names = torch.arange(len(state.q))
    begun = None if state.t is None or not isinstance(moving, DRIVEN) else state.t.double()
    for start in range(0, len(state.q), size):
        rows = slice(start, start + size)
        t = None if begun is None else begun[rows]
        yield ChunkStart(state.q[rows], state.p[rows], particles[rows], names[rows], t)
