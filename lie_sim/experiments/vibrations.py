r"""Vibrations of a molecule: the spectrum of its velocities, and harmonic wavenumbers of its Hessian.

The spectrum is the power of the mass-weighted velocities,

    S(ν) = Σ_i m_i |∫ v_i(t) w(t) e^{−2πiνt} dt|²,

averaged over overlapping pieces with Hann's window w; it is the Fourier transform of the velocity autocorrelation. The
harmonic wavenumbers are ν_k = √λ_k / 2πc, with λ the eigenvalues of the mass-weighted Hessian without rigid motions.

Shape letters: T frames, N atoms, F frequencies.
References: Welch, IEEE Trans. Audio Electroacoust. 15 (1967) 70; Thomas et al., Phys. Chem. Chem. Phys. 15 (2013) 6608.
"""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms, units

INVERSE_CM_PER_INVERSE_PS = 1e12 / (100 * units._c)


def velocity_spectrum(
    velocities: np.ndarray, masses: np.ndarray, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers in cm⁻¹ and power of the mass-weighted velocities, both of shape (F,).

    Args:
        velocities: shape (T, N, 3).
        masses: shape (N,).
        step: between frames, in ps.
    """
    frames = len(velocities)
    length = max(2, (frames + 1) // 2)
    window = np.hanning(length)[:, None]
    weighted = (np.sqrt(masses)[None, :, None] * velocities).reshape(frames, -1)
    padded = 4 * length
    starts = range(0, frames - length + 1, max(1, length // 2))
    power = [
        np.square(np.abs(np.fft.rfft(window * weighted[a : a + length], padded, axis=0))).sum(1)
        for a in starts
    ]
    return np.fft.rfftfreq(padded, step) * INVERSE_CM_PER_INVERSE_PS, np.mean(power, axis=0)


def wavenumbers(atoms: Atoms, hessian: np.ndarray) -> np.ndarray:
    """Harmonic wavenumbers in cm⁻¹, ascending, imaginary ones negative, without rigid motions.

    Args:
        atoms: the structure; all directions of a periodic one are left free to vibrate but its translation.
        hessian: eV/Å², shape (3N, 3N).
    """
    root, inner = mass_roots(atoms), internal_motions(atoms)
    values = np.linalg.eigvalsh(inner.T @ (hessian / np.outer(root, root)) @ inner)
    energy = units._hbar * 1e10 / math.sqrt(units._e * units._amu)
    found: np.ndarray = np.sign(values) * np.sqrt(np.abs(values)) * energy / units.invcm
    return found


def internal_motions(atoms: Atoms) -> np.ndarray:
    """Orthonormal mass-weighted displacements without rigid motion, as columns, shape (3N, F).

    Example:
        >>> from ase.build import molecule
        >>> internal_motions(molecule("H2O")).shape, internal_motions(molecule("CO2")).shape
        ((9, 3), (9, 4))
    """
    basis, size, _ = np.linalg.svd(rigid_motions(atoms) * mass_roots(atoms)[:, None])
    rank = int((size > 1e-6 * size.max()).sum())  # a linear molecule turns about two axes only
    return basis[:, rank:]


def mass_roots(atoms: Atoms) -> np.ndarray:
    """√m of every coordinate in √u, shape (3N,)."""
    return np.repeat(np.sqrt(atoms.get_masses()), 3)


def rigid_motions(atoms: Atoms) -> np.ndarray:
    """Displacements of translations, and rotations unless the atoms are periodic, as columns, shape (3N, 3 or 6)."""
    translations = np.tile(np.eye(3), (len(atoms), 1))
    if atoms.pbc.any():
        return translations
    arms = atoms.positions - atoms.get_center_of_mass()
    turns = np.stack([np.cross(axis, arms).ravel() for axis in np.eye(3)], 1)
    return np.hstack([translations, turns])
