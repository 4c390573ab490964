"""Atoms in a run: structures of one composition as a chunk, and neighbours that are found anew as the atoms move.

    F_b = −∂V/∂q_b,      pairs |q_j + S·cell − q_i| < cutoff of every system b, at every force

Small molecules are described by all pairs. The pairs found depend neither on the skin nor on what was found before, so
a segment is the same wherever it is computed. Units are ASE's: Å, eV, u, and Å √(u/eV) for time (``ase.units.fs``).

Shape letters: B systems of a chunk, N atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import InputError
from jaxtyping import Float
from torch import Tensor

from lie_sim.calculators.conversion import check_atoms, global_input, structures
from lie_sim.data import Molecules
from lie_sim.distributed.start import ChunkStart
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.models import AtomicPotential
from lie_sim.models.atomic import GLOBAL_INPUTS
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.pairs import ALL_PAIRS_UP_TO, SkinnedPairs, neighbour_matrix_of
from lie_sim.state import Particles, PhaseState

SKIN = 0.5
"""Å by which lists of neighbours reach further than the cutoff; changes no result."""


class MovingAtoms:
    """A potential bound to atoms whose neighbours change.

    Args:
        hamiltonian: with an :class:`~lie_sim.models.AtomicPotential` that has a cutoff.
        particles: masses, atomic numbers and cells.
        q: where they begin; stands in for a system that is not finite any more, shape (B, N, 3).
    """

    separable = True

    def __init__(self, hamiltonian: Hamiltonian, particles: Particles, q: Float[Tensor, "B N 3"]) -> None:
        self.hamiltonian, self.particles, self._start = hamiltonian.bind(particles), particles, q
        count = len(q)
        self._pbc = _array(particles.pbc, np.zeros((count, 3), dtype=bool))
        self._cells = _array(particles.cell, np.zeros((count, 3, 3))).astype(float)
        self._cutoff = _cutoff(hamiltonian)
        self._pairs = [SkinnedPairs(self._cutoff, skin=SKIN) for _ in range(count)]

    def velocity(self, p: Tensor) -> Tensor:
        """p/m, shape (B, N, 3)."""
        return self.hamiltonian.velocity(p)

    def force(self, q: Tensor) -> Tensor:
        """−∂V/∂q in eV/Å, shape (B, N, 3); NaN for a system that is not finite."""
        finite = q.isfinite().flatten(1).all(1)[:, None, None]
        found = self.hamiltonian.force(*self._located(torch.where(finite, q, self._start)))
        return torch.where(finite, found, torch.nan)

    def energy(self, state: PhaseState) -> Tensor:
        """H in eV, shape (B,)."""
        q, particles, neighbours = self._located(state.q)
        return self.hamiltonian.energy(PhaseState(q=q, p=state.p), particles, neighbours)

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(dq/dt, dp/dt)."""
        return self.velocity(state[1]), self.force(state[0])

    def _located(self, q: Tensor) -> tuple[Tensor, Particles, NeighbourMatrix]:
        """Positions, perhaps other periodic images of them, and the pairs that belong to them."""
        positions = q.detach().cpu().double().numpy()
        found = [
            pairs.find(x, cell, pbc)
            for pairs, x, cell, pbc in zip(self._pairs, positions, self._cells, self._pbc, strict=True)
        ]
        images = torch.from_numpy(np.stack([x for x, _ in found]) - positions)
        matrix = neighbour_matrix_of(
            [pairs for _, pairs in found],
            [q.shape[1]] * len(found),
            [*self._cells],
            cutoff=self._cutoff,
            dtype=q.dtype,
        )
        return q + images.to(q), self.particles, _to(matrix, q.device)


def bound_atoms(
    hamiltonian: Hamiltonian, particles: Particles, q: Float[Tensor, "B N 3"]
) -> MovingAtoms | Hamiltonian:
    """The potential for these atoms, with lists of neighbours where they pay."""
    periodic = particles.pbc is not None and bool(particles.pbc.any())
    if _cutoff(hamiltonian) and (periodic or q.shape[1] > ALL_PAIRS_UP_TO):
        return MovingAtoms(hamiltonian, particles, q)
    return hamiltonian.bind(particles)


def _cutoff(hamiltonian: Hamiltonian) -> float:
    return float(getattr(hamiltonian.potential, "cutoff", 0.0))


def is_atoms(ensemble: Any) -> bool:
    """Whether it is a list of ASE's atoms, and not an empty one."""
    return (
        isinstance(ensemble, list | tuple) and bool(ensemble) and all(isinstance(x, Atoms) for x in ensemble)
    )


def chunks_of_atoms(ensemble: Any, size: int, model: Any) -> Iterator[ChunkStart]:
    """Structures of the same elements in the same order, at most ``size`` a chunk, in the order of their first.

    Args:
        ensemble: a list of atoms, or a set of molecules (at rest).
        size: largest number of structures of a chunk.
        model: a Hamiltonian with a potential of atoms.

    Raises:
        TypeError: the model is no potential of atoms.
        ValueError: a structure is constrained, or there is none.
        InputError: a structure is impossible, or of elements that the model does not know; it says which.
    """
    potential = getattr(model, "potential", None)
    if not isinstance(potential, AtomicPotential):
        raise TypeError(
            f"atoms need a potential of atoms (lie_sim.models.AtomicPotential), got {type(potential or model).__name__}"
        )
    systems = _as_list(ensemble)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, atoms in enumerate(systems):
        if atoms.constraints:
            raise ValueError(f"structure {number} has constraints, which a run does not know: remove them")
        try:
            check_atoms(atoms, potential)
        except InputError as error:
            raise InputError(f"structure {number}, {atoms.get_chemical_formula()}: {error}") from error
        groups.setdefault((*atoms.numbers.tolist(), *atoms.pbc.tolist()), []).append(number)
    if not groups:
        raise ValueError("an ensemble needs at least one structure")
    for members in groups.values():
        for start in range(0, len(members), size):
            yield _chunk(systems, members[start : start + size], potential)


def _chunk(systems: list[Atoms], members: list[int], potential: AtomicPotential) -> ChunkStart:
    chosen = [systems[number] for number in members]
    dtype = next(potential.parameters()).dtype
    found = structures(chosen, potential, dtype=dtype)
    momenta = torch.from_numpy(np.stack([atoms.get_momenta() for atoms in chosen]))
    particles = found.particles
    if chosen[0].pbc.any():
        cells = torch.from_numpy(np.stack([atoms.cell.array for atoms in chosen]))
        pbc = torch.from_numpy(np.stack([atoms.pbc for atoms in chosen]))
        particles = replace(particles, cell=cells.to(dtype), pbc=pbc)
    info = {
        name: _entries(chosen, name) for name in GLOBAL_INPUTS if any(name in atoms.info for atoms in chosen)
    }
    return ChunkStart(found.q, momenta.to(dtype), particles, torch.tensor(members), info=info)


def _entries(systems: list[Atoms], name: str) -> Tensor:
    """Of ``atoms.info``, whether the model reads it or not; float64, NaN where there is none, shape (B,)."""
    values = [global_input(atoms, name) if name in atoms.info else math.nan for atoms in systems]
    return torch.tensor(values, dtype=torch.float64)


def _as_list(ensemble: Any) -> list[Atoms]:
    if not isinstance(ensemble, Molecules):
        return list(ensemble)
    found = []
    for k in range(len(ensemble)):
        atoms = slice(int(ensemble.offsets[k]), int(ensemble.offsets[k + 1]))
        numbers, positions = ensemble.numbers[atoms], ensemble.positions[atoms]
        inputs = {name: ensemble.values[name][k] for name in GLOBAL_INPUTS if name in ensemble.values}
        cell, pbc = ensemble.cells[k], ensemble.pbc[k]
        found.append(Atoms(numbers, positions, cell=cell, pbc=pbc, info=inputs))
    return found


def _array(x: Tensor | None, otherwise: np.ndarray) -> np.ndarray:
    return otherwise if x is None else x.cpu().numpy()


def _to(matrix: NeighbourMatrix, device: torch.device) -> NeighbourMatrix:
    if device.type == "cpu":
        return matrix
    shift = None if matrix.shift is None else matrix.shift.to(device)
    return replace(matrix, index=matrix.index.to(device), mask=matrix.mask.to(device), shift=shift)


def thermal_momenta(masses: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Normal momenta of variance m k_B T, without motion of the whole.

    Args:
        masses: shape (N,).
        temperature: k_B T, in the unit of energy.
        rng: the random numbers.

    Returns:
        Shape (N, 3).

    Example:
        >>> thermal_momenta(np.array([1.0, 16.0]), 0.025, np.random.default_rng(0)).sum(0).round(12) + 0.0
        array([0., 0., 0.])
    """
    p = rng.normal(size=(len(masses), 3)) * np.sqrt(masses * temperature)[:, None]
    at_rest: np.ndarray = p - masses[:, None] * (p.sum(0) / masses.sum())
    return at_rest
