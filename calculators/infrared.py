"""Harmonic vibrations and their infrared intensities from second derivatives, without finite differences.

    H e_k = m ω_k² e_k,        I_k = | Σ_i Z*_i e_ik |²        (e_k normalised by the masses)

Z* are the Born effective charges, ∂μ/∂r.

Shape letters: N atoms; a is the direction of the dipole.
Reference: Porezag, Pederson, Phys. Rev. B 54 (1996) 7830.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.vibrations import VibrationsData

if TYPE_CHECKING:
    from lie_sim.calculators.calculator import LieTransformerCalculator


def vibrations(calculator: LieTransformerCalculator, atoms: Atoms) -> VibrationsData:
    """ASE's vibrations of a relaxed system, from the Hessian of the model.

    Args:
        calculator: a single model.
        atoms: fixed atoms do not move.

    Example:
        >>> from ase.build import molecule
        >>> from lie_sim.calculators import LieTransformerCalculator
        >>> from lie_sim.models import AtomicPotential
        >>> found = vibrations(LieTransformerCalculator(AtomicPotential.default(elements=(1, 8))), molecule("H2O"))
        >>> found.get_frequencies().shape
        (9,)
    """
    free = VibrationsData.indices_from_constraints(atoms)
    return VibrationsData.from_2d(atoms, calculator.get_hessian(atoms, free=free), indices=free)


def infrared_intensities(calculator: LieTransformerCalculator, found: VibrationsData) -> np.ndarray:
    """Intensities of all modes in (D/Å)²/u, in the order of ``found.get_frequencies()``.

    Args:
        calculator: with a head for the dipole.
        found: made by :func:`vibrations`.
    """
    atoms, moved = found.get_atoms(), found.get_indices()
    charges = calculator.evaluate(atoms, ["born_effective_charges"])["born_effective_charges"][moved]
    _, modes = found.get_energies_and_modes()  # of unit length in √u Å, divided by √m
    slopes = np.einsum("iab,kib->ka", charges, modes[:, moved])
    intensities: np.ndarray = np.square(slopes).sum(1) / units.Debye**2
    return intensities
