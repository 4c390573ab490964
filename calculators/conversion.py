"""ASE atoms as tensors: positions, particles and neighbours of one system or of a padded batch.

Units are ASE's: Å, eV, atomic mass units. Energies do not depend on the choice of periodic images, so positions
may come back displaced by lattice vectors, together with neighbours that fit them.

Shape letters: B batch, N particles (padded), K neighbours, d space dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import InputError
from torch import Tensor

from lie_sim.elements import symbols
from lie_sim.models import AtomicPotential
from lie_sim.models.inputs import WHY_OPEN_SPACE
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.pairs import ALL_PAIRS_UP_TO, Pairs, SkinnedPairs, find_pairs, neighbour_matrix_of
from lie_sim.state import Particles
from lie_sim.totals import total_of
from lie_sim.warning import warn

CLOSEST = 1e-3
"""Å; atoms nearer than this are taken for a mistake."""

MOST_NEIGHBOURS = 20_000
"""Within the cutoff; diamond, the densest of crystals, has 160 within 6 Å."""
_WITHOUT = {"charge": "a neutral system", "spin": "the spins of its data"}
"""What a model without a global input takes every system for. Initial magnetic moments are for codes that look for
spins; only a spin in ``info`` is taken for a request."""
_BALL = (1.0, 2.0, math.pi, 4 * math.pi / 3)
"""Content of the unit ball by dimension."""


@dataclass(frozen=True)
class Structures:
    """A batch of systems as the potential takes it.

    Args:
        q: positions in Å, shape (B, N, 3).
        particles: atomic numbers as species, global inputs as attributes, a mask if the sizes differ.
        neighbours: pairs within the cutoff; None means all.
        sizes: number of atoms of each system.
    """

    q: Tensor
    particles: Particles
    neighbours: NeighbourMatrix | None
    sizes: tuple[int, ...]


def structures(
    systems: Sequence[Atoms],
    potential: AtomicPotential,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    list_pairs: bool = False,
    skinned: SkinnedPairs | None = None,
) -> Structures:
    """Check systems and make a batch of them.

    Args:
        systems: at least one.
        potential: says which elements, inputs and cutoff count.
        dtype: of the positions.
        device: of all tensors.
        list_pairs: make a list of neighbours even of small molecules, as the stress needs it.
        skinned: list of pairs to use, for a single system.

    Raises:
        InputError: a position, the cell or a global input is not finite, two atoms coincide, an element is unknown, a
            global input is no number, a lattice is degenerate or far too small, or there is one and landmarks too.

    Example:
        >>> from ase.build import molecule
        >>> potential = AtomicPotential.default(elements=(1, 8))
        >>> batch = structures([molecule("H2O"), molecule("H2")], potential, dtype=torch.float32)
        >>> batch.q.shape, batch.particles.species.tolist()
        (torch.Size([2, 3, 3]), [[8, 1, 1], [1, 1, 0]])
    """
    for atoms in systems:
        check_atoms(atoms, potential)
    positions = [np.asarray(atoms.positions, dtype=float) for atoms in systems]
    largest = max(len(atoms) for atoms in systems)
    periodic = any(atoms.pbc.any() for atoms in systems)
    listed = potential.cutoff > 0 and (list_pairs or periodic or largest > ALL_PAIRS_UP_TO)
    neighbours = None
    if listed:
        found = [_pairs(atoms, potential.cutoff, skinned) for atoms in systems]
        positions, pairs = [x for x, _ in found], [p for _, p in found]
        cells = [np.asarray(atoms.cell) for atoms in systems]
        for atoms, p in zip(systems, pairs, strict=True):
            _refuse_coincident(atoms, p.i, p.j, p.distances)
        sizes = [len(atoms) for atoms in systems]
        neighbours = neighbour_matrix_of(pairs, sizes, cells, cutoff=potential.cutoff, dtype=dtype)
    else:
        for atoms in systems:
            _refuse_coincident_molecule(atoms)
    return _on_device(systems, positions, neighbours, potential, dtype=dtype, device=torch.device(device))


def _pairs(atoms: Atoms, cutoff: float, skinned: SkinnedPairs | None) -> tuple[np.ndarray, Pairs]:
    positions, cell = np.asarray(atoms.positions, dtype=float), np.asarray(atoms.cell)
    try:
        if skinned is not None:
            return skinned.find(positions, cell, atoms.pbc)
        return positions, find_pairs(positions, cell, atoms.pbc, cutoff)
    except ValueError as error:
        raise InputError(str(error)) from error


def check_atoms(atoms: Atoms, potential: AtomicPotential) -> None:
    """Refuse atoms that the potential has no energy of, and warn of a charge or spin that it does not read.

    Raises:
        InputError: a position or the cell is not finite, the cell is tiny, there is no atom, or an unknown element.
    """
    if len(atoms) == 0:
        raise InputError("a system without atoms has no energy")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(1))
    if len(bad):
        raise InputError(
            f"the positions of the atoms {bad[:5].tolist()} are not finite: {atoms.positions[bad[0]]}"
        )
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all():
        raise InputError(f"the cell is not finite: {cell.tolist()}")
    if potential.needs_open_space and atoms.pbc.any():
        raise InputError(f"atoms.pbc is {atoms.pbc.tolist()}, but {WHY_OPEN_SPACE}")
    _refuse_tiny_cell(atoms, potential.cutoff)
    _warn_of_totals(atoms, potential)
    unknown = sorted(set(atoms.numbers.tolist()) - set(potential.config.elements))
    if unknown:
        raise InputError(
            f"this model does not know the element {symbols(unknown)}; it was made for "
            f"{symbols(potential.config.elements)}"
        )


def _warn_of_totals(atoms: Atoms, potential: AtomicPotential) -> None:
    for name, without in _WITHOUT.items():
        if name in potential.config.inputs:
            continue
        try:
            total = total_of(atoms, name) if name == "charge" else atoms.info.get(name)
        except ValueError as error:  # two that differ
            total = str(error)
        if total is None or (isinstance(total, Real) and float(total) == 0):
            continue
        told = f"{float(total):+g}" if isinstance(total, Real) else repr(total)
        warn(
            f"the {name} of these atoms is {told}, but this model was trained without: it gives what it gives for "
            f"{without}; models trained with inputs=({name!r},) read it"
        )


def _refuse_tiny_cell(atoms: Atoms, cutoff: float) -> None:
    """A cell in nm, or one that collapses, has more pairs than fit the memory."""
    vectors, rank = np.asarray(atoms.cell)[atoms.pbc], int(atoms.pbc.sum())
    content = np.sqrt(max(0.0, np.linalg.det(vectors @ vectors.T))) if rank else 0.0
    if content == 0:  # open, or degenerate: for the search to say
        return
    count = _BALL[rank] * cutoff**rank / content * (len(atoms) if rank == 3 else 1)
    if count > MOST_NEIGHBOURS:
        raise InputError(
            f"the cell is too small: an atom has about {count:.1e} neighbours within the cutoff of {cutoff:g} Å; "
            f"the lattice vectors are {np.linalg.norm(vectors, axis=1).tolist()} long, and must be in Å"
        )


def global_inputs(atoms: Atoms, potential: AtomicPotential) -> list[float]:
    """The global inputs of a system (:mod:`lie_sim.totals`); 0 where there is none.

    Raises:
        InputError: an entry is no number, or not finite, or the system says two charges.
    """
    return [global_input(atoms, name) for name in potential.config.inputs]


def global_input(atoms: Atoms, name: str) -> float:
    """One global input of a system, 0 where there is none.

    Raises:
        InputError: the entry is no number, or not finite, or the system says two.

    Example:
        >>> global_input(Atoms("OH", info={"charge": -1}), "charge")
        -1.0
    """
    try:
        value = total_of(atoms, name)
    except ValueError as error:
        raise InputError(str(error)) from error
    try:
        number = 0.0 if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"atoms.info[{name!r}] must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise InputError(f"atoms.info[{name!r}] is not finite: {number}")
    return number


def _refuse_coincident(atoms: Atoms, i: np.ndarray, j: np.ndarray, distances: np.ndarray) -> None:
    close = np.flatnonzero(distances < CLOSEST)
    if len(close):
        a, b = int(i[close[0]]), int(j[close[0]])
        raise InputError(
            f"atoms {a} ({atoms.symbols[a]}) and {b} ({atoms.symbols[b]}) are {distances[close[0]]:.1e} Å apart: "
            "two atoms cannot be at one place; look for one that is there twice"
        )


def _refuse_coincident_molecule(atoms: Atoms) -> None:
    r = atoms.positions[:, None] - atoms.positions
    distances = np.sqrt(np.einsum("ijk,ijk->ij", r, r))
    np.fill_diagonal(distances, np.inf)
    if distances.min(initial=np.inf) < CLOSEST:
        i, j = np.triu_indices(len(r), 1)
        _refuse_coincident(atoms, i, j, distances[i, j])


def _on_device(
    systems: Sequence[Atoms],
    positions: Sequence[np.ndarray],
    neighbours: NeighbourMatrix | None,
    potential: AtomicPotential,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Structures:
    sizes = tuple(len(atoms) for atoms in systems)
    shape = (len(systems), max(sizes))
    q, numbers, masses = np.zeros((*shape, 3)), np.zeros(shape, np.int64), np.ones(shape)
    attributes = np.zeros((*shape, len(potential.config.inputs)))
    for row, (atoms, x) in enumerate(zip(systems, positions, strict=True)):
        q[row, : len(x)], numbers[row, : len(x)] = x, atoms.numbers
        masses[row, : len(x)] = atoms.get_masses()
        attributes[row] = global_inputs(atoms, potential)
    species = torch.from_numpy(numbers)
    particles = Particles(
        masses=torch.from_numpy(masses),
        species=species,
        attributes=torch.from_numpy(attributes) if potential.config.inputs else None,
        mask=species > 0 if len(set(sizes)) > 1 else None,
    )
    if neighbours is not None and device.type != "cpu":
        shift = None if neighbours.shift is None else neighbours.shift.to(device)
        neighbours = NeighbourMatrix(
            neighbours.index.to(device), neighbours.mask.to(device), shift, neighbours.cutoff
        )
    return Structures(
        torch.from_numpy(q).to(device, dtype), particles.to(device=device, dtype=dtype), neighbours, sizes
    )
