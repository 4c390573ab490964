"""What a calculator gets wrong, as numbers: slopes, symmetries, extensivity, smoothness.

    forces          |F + ∂E/∂q| / |∂E/∂q|,      stress   |σ − (1/V) ∂E/∂ε|         central differences
    symmetry        |E(gq) − E(q)|,  |F(gq) − g F(q)| / |F|
    extensivity     |E(A + B) − E(A) − E(B)|,  |E(supercell)/n − E(cell)| per atom
    smoothness      largest |E(r + δ) − E(r)| beyond the slope where a neighbour passes the cutoff

Every function takes atoms *with* their calculator and leaves them as they are. Units are ASE's.

Reference: Larsen et al., J. Phys.: Condens. Matter 29 (2017) 273002 (the interface).
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress


def _copy(atoms: Atoms) -> Atoms:
    """The same atoms with the same calculator; ``Atoms.copy`` drops it."""
    other: Atoms = atoms.copy()
    other.calc = atoms.calc
    return other


def _scale(forces: np.ndarray) -> float:
    return max(float(np.abs(forces).max(initial=0.0)), 1e-12)


def force_error(atoms: Atoms, *, step: float = 1e-4) -> float:
    """Largest error of the forces against central differences, over the largest force.

    Example:
        >>> from ase.build import molecule
        >>> from ase.calculators.emt import EMT
        >>> force_error(molecule("H2O", calculator=EMT())) < 1e-6
        True
    """
    atoms = _copy(atoms)
    exact = calculate_numerical_forces(atoms, eps=step)
    return float(np.abs(atoms.get_forces() - exact).max()) / _scale(exact)


def stress_error(atoms: Atoms, *, step: float = 1e-5) -> float:
    """Largest error of the stress against central differences in the strain, in eV/Å³."""
    atoms = _copy(atoms)
    return float(np.abs(atoms.get_stress() - calculate_numerical_stress(atoms, eps=step)).max())


def transformed_error(atoms: Atoms, matrix: np.ndarray) -> tuple[float, float]:
    """How far energy (eV) and forces (over the largest) are from those of the system mapped by a matrix.

    Args:
        atoms: the system.
        matrix: an element g of a group, shape (3, 3); positions and cell become q gᵀ.

    Returns:
        |E(gq) − E(q)| and |F(gq) − F(q) gᵀ| / |F|.
    """
    atoms, mapped = _copy(atoms), _copy(atoms)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    mapped.set_cell(np.asarray(atoms.cell) @ matrix.T)
    mapped.set_positions(atoms.positions @ matrix.T, apply_constraint=False)
    change = abs(mapped.get_potential_energy() - energy)
    return float(change), float(np.abs(mapped.get_forces() - forces @ matrix.T).max()) / _scale(forces)


def random_orthogonal(seed: int, *, reflection: bool) -> np.ndarray:
    """A rotation, or a rotation times a reflection, drawn evenly, shape (3, 3).

    Example:
        >>> bool(np.isclose(np.linalg.det(random_orthogonal(0, reflection=True)), -1))
        True
    """
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    if (np.linalg.det(q) < 0) != reflection:
        q = -q
    return q


def orthogonal_error(atoms: Atoms, *, count: int = 3, reflections: bool = True) -> tuple[float, float]:
    """Largest :func:`transformed_error` over random rotations, and reflections unless they are left out."""
    kinds = (False, True) if reflections else (False,)
    found = [
        transformed_error(atoms, random_orthogonal(seed, reflection=reflection))
        for seed in range(count)
        for reflection in kinds
    ]
    return max(energy for energy, _ in found), max(forces for _, forces in found)


def translation_error(atoms: Atoms, *, distance: float = 1000.0) -> float:
    """|E| change in eV when everything moves by ``distance`` Å in an oblique direction."""
    atoms, moved = _copy(atoms), _copy(atoms)
    moved.set_positions(moved.positions + distance * np.array([0.6, -0.64, 0.48]), apply_constraint=False)
    return float(abs(moved.get_potential_energy() - atoms.get_potential_energy()))


def permutation_error(atoms: Atoms, *, seed: int = 0) -> tuple[float, float]:
    """Change of energy (eV) and forces (over the largest) when the atoms are listed in another order."""
    atoms = _copy(atoms)
    order = np.random.default_rng(seed).permutation(len(atoms))
    mixed = atoms[order]
    mixed.calc = atoms.calc
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    change = float(np.abs(mixed.get_forces() - forces[order]).max()) / _scale(forces)
    return float(abs(mixed.get_potential_energy() - energy)), change


def size_consistency_error(a: Atoms, b: Atoms, *, distance: float = 50.0) -> float:
    """|E(A + B) − E(A) − E(B)| in eV of two systems ``distance`` Å apart; the calculator is that of ``a``."""
    separate = []
    for atoms in (a, b):
        alone: Atoms = atoms.copy()
        alone.calc = a.calc
        separate.append(alone.get_potential_energy())
    moved = b.copy()
    moved.positions += np.array([distance, 0, 0])
    both: Atoms = a.copy() + moved
    both.calc = a.calc
    return float(abs(both.get_potential_energy() - sum(separate)))


def supercell_error(atoms: Atoms, *, repeat: tuple[int, int, int] = (2, 2, 2)) -> float:
    """|E(supercell)/n − E(cell)| per atom in eV; large for a calculator that sees each neighbour once only."""
    small = _copy(atoms)
    energy = small.get_potential_energy()
    large = small * repeat
    large.calc = small.calc
    return float(abs(large.get_potential_energy() / np.prod(repeat) - energy)) / len(atoms)


def unwrapped_error(atoms: Atoms, *, seed: int = 0) -> tuple[float, float]:
    """Change of energy (eV) and forces (over the largest) when atoms move by lattice vectors of periodic directions."""
    atoms, moved = _copy(atoms), _copy(atoms)
    turns = np.random.default_rng(seed).integers(-2, 3, (len(atoms), 3)) * np.asarray(atoms.pbc)
    moved.set_positions(moved.positions + turns @ np.asarray(atoms.cell), apply_constraint=False)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    change = float(np.abs(moved.get_forces() - forces).max()) / _scale(forces)
    return float(abs(moved.get_potential_energy() - energy)), change


def continuity_error(
    atoms: Atoms, *, atom: int, cutoff: float, step: float = 1e-6, width: float = 1e-4
) -> float:
    """Largest jump of the energy in eV while one atom passes the cutoff of another.

    The atom is moved along its line to the first other atom, through distances ``cutoff`` ± ``width``; a jump is what a
    step changes beyond what the forces at both ends account for.

    Args:
        atoms: the system; atom 0 is the one whose cutoff is passed.
        atom: which atom moves, not 0.
        cutoff: in Å.
        step: between two distances, in Å.
        width: in Å; only the steps next to ``cutoff`` and to both ends are looked at.
    """
    atoms = _copy(atoms)
    direction = atoms.positions[atom] - atoms.positions[0]
    direction = direction / np.linalg.norm(direction)
    origin = atoms.positions[0].copy()

    def state(distance: float) -> tuple[float, float]:
        atoms.positions[atom] = origin + distance * direction
        return atoms.get_potential_energy(), float(atoms.get_forces()[atom] @ direction)

    jumps = []
    for centre in (cutoff - width, cutoff, cutoff + width):
        (e0, f0), (e1, f1) = state(centre - step / 2), state(centre + step / 2)
        jumps.append(abs(e1 - e0 + step * (f0 + f1) / 2))
    return max(jumps)
