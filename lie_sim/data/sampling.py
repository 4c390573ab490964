"""Geometries of a molecule in motion, from one geometry: along its normal modes, or by molecular dynamics.

    modes:  x = x₀ + M^(−1/2) Σ_k ξ_k √(k_B T) / max(ω_k, ω_min) · e_k,   ξ_k ~ N(0, 1)
    md:     Langevin dynamics (friction 0.02/fs) after a start with momenta drawn at T

with ω_k² and e_k the eigenvalues and eigenvectors of the mass-weighted Hessian, the motions of a rigid body left out.
ω_min keeps soft torsions, along which a straight displacement means little, from tearing a molecule apart.

Every geometry follows from the start, the options and the seed alone.

Shape letters: N atoms.
Reference: Smith, Isayev, Roitberg, Chem. Sci. 8 (2017) 3192 (normal modes to sample molecules for learning).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from lie_sim.data.model_hessian import model_hessian
from lie_sim.errors import ConfigError

_DISPLACEMENT = 0.005
"""Å, of the finite differences."""
_FRICTION = 0.02 / units.fs
_WAVENUMBER = 2 * np.pi * 100 * units._c / units.second
"""Angular frequency of 1 cm⁻¹ in ASE's units."""


@dataclass(frozen=True)
class Sampling:
    """Which geometries to make of a structure.

    Args:
        sampling: "none" takes the structure as it is, "modes" displaces it along its normal modes, "md" runs
            Langevin dynamics.
        frames: geometries of each structure, beside its own.
        temperature: K; two numbers draw one between them for every geometry ("modes") or structure ("md").
        start: whether the structure itself is a geometry too ("none" always takes it).
        hessian: of "modes", "model" costs nothing, "calculator" takes finite differences (6N evaluations).
        softest: least frequency of "modes" in cm⁻¹.
        time_step: of "md", fs.
        equilibration: of "md", steps before the first geometry.
        stride: of "md", steps from one geometry to the next.

    Example:
        >>> Sampling(sampling="md", temperature=(500.0,)).frames
        4
    """

    sampling: Literal["none", "modes", "md"] = "modes"
    frames: int = 4
    temperature: tuple[float, ...] = (300.0, 800.0)
    start: bool = True
    hessian: Literal["model", "calculator"] = "model"
    softest: float = 150.0
    time_step: float = 0.5
    equilibration: int = 200
    stride: int = 20

    def __post_init__(self) -> None:
        if len(self.temperature) not in (1, 2) or not all(0 <= t < float("inf") for t in self.temperature):
            raise ConfigError(f"temperature must be one or two numbers in K, got {self.temperature}")
        if self.sampling != "none" and self.frames < 1:
            raise ConfigError(f"frames must be at least 1, got {self.frames}; sampling = none takes none")
        for name in ("softest", "time_step"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if self.stride < 1 or self.equilibration < 0:
            raise ConfigError(
                f"stride must be at least 1 and equilibration not negative, got {self.stride} and {self.equilibration}"
            )


def geometries(start: Atoms, options: Sampling, random: np.random.Generator) -> Iterator[Atoms]:
    """The geometries one after another, each with its temperature in ``info`` (that of a draw, 0 of the start).

    Args:
        start: a structure; its calculator serves "md" and hessian = "calculator".
        options: which.
        random: where the draws come from.

    Example:
        >>> from ase.build import molecule
        >>> drawn = geometries(molecule("H2O"), Sampling(frames=2), np.random.default_rng(0))
        >>> [round(float(atoms.get_distance(0, 1)), 2) for atoms in drawn]
        [0.97, 0.98, 1.02]
    """
    if options.start or options.sampling == "none":
        yield _at(start, start.positions, 0.0)
    if options.sampling == "modes":
        yield from _along_modes(start, options, random)
    elif options.sampling == "md":
        yield from _along_dynamics(start, options, random)


def _at(start: Atoms, positions: np.ndarray, temperature: float) -> Atoms:
    atoms: Atoms = start.copy()
    atoms.positions[:] = positions
    atoms.info["temperature"] = round(temperature, 2)
    return atoms


def _temperature(options: Sampling, random: np.random.Generator) -> float:
    return float(random.uniform(options.temperature[0], options.temperature[-1]))


def _along_modes(start: Atoms, options: Sampling, random: np.random.Generator) -> Iterator[Atoms]:
    if options.hessian == "calculator":
        hessian = finite_difference_hessian(start)
    else:
        hessian = model_hessian(start.numbers, start.positions)
    modes, frequencies = normal_modes(hessian, start.get_masses(), start.positions)
    widths = 1 / np.maximum(frequencies, options.softest * _WAVENUMBER)
    for _ in range(options.frames):
        temperature = _temperature(options, random)
        drawn = random.standard_normal(len(widths)) * widths * np.sqrt(units.kB * temperature)
        yield _at(start, start.positions + np.einsum("k,kid->id", drawn, modes), temperature)


def _along_dynamics(start: Atoms, options: Sampling, random: np.random.Generator) -> Iterator[Atoms]:
    atoms, temperature = start.copy(), _temperature(options, random)
    atoms.calc = start.calc
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(random.standard_normal((len(atoms), 3)) * widths[:, None])
    keywords: dict[str, Any] = {"temperature_K": temperature, "friction": _FRICTION, "rng": random}
    dynamics = Langevin(atoms, options.time_step * units.fs, fixcm=False, **keywords)
    dynamics.run(options.equilibration)
    for number in range(options.frames):
        if number:
            dynamics.run(options.stride)
        yield _at(start, atoms.positions, temperature)


def normal_modes(
    hessian: np.ndarray, masses: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements and frequencies of the vibrations.

    Args:
        hessian: eV/Å², shape (3N, 3N).
        masses: atomic mass units, shape (N,).
        positions: Å, shape (N, 3).

    Returns:
        Displacements M^(−1/2) e_k, shape (3N − 6, N, 3) (one more for a linear molecule), and ω_k in ASE's units,
        ascending; the absolute value of an imaginary one.

    Example:
        >>> x = np.array([[0.0, 0, 0], [0.74, 0, 0]])
        >>> modes, frequencies = normal_modes(model_hessian(np.array([1, 1]), x), np.full(2, 1.008), x)
        >>> modes.shape, round(float(frequencies[0] / _WAVENUMBER))
        ((1, 2, 3), 4545)
    """
    root = np.repeat(np.sqrt(masses), 3)
    rigid = _rigid_motions(masses, positions)
    inner = np.linalg.svd(rigid, full_matrices=True)[0][:, rigid.shape[1] :]
    squares, vectors = np.linalg.eigh(inner.T @ (hessian / np.outer(root, root)) @ inner)
    order = np.argsort(np.abs(squares))
    modes = _with_signs(((inner @ vectors) / root[:, None]).T[order])
    return modes.reshape(len(order), len(masses), 3), np.sqrt(np.abs(squares[order]))


def _with_signs(modes: np.ndarray) -> np.ndarray:
    """Eigenvectors have signs that depend on the machine: the first large number of each becomes positive."""
    size = np.abs(modes)
    first = (size > size.max(1, keepdims=True, initial=0) / 2).argmax(1)
    signed: np.ndarray = modes * np.sign(modes[np.arange(len(modes)), first])[:, None]
    return signed


def _rigid_motions(masses: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted translations and rotations, shape (3N, 6), 5 for a linear molecule, 3 for an atom."""
    root = np.sqrt(masses)[:, None]
    centred = positions - masses @ positions / masses.sum()
    shifts = [root * axis for axis in np.eye(3)]
    turns = [root * np.cross(axis, centred) for axis in np.eye(3)]
    vectors, sizes, _ = np.linalg.svd(
        np.stack([m.ravel() for m in (*shifts, *turns)], 1), full_matrices=False
    )
    independent: np.ndarray = vectors[:, sizes > 1e-6 * sizes[0]]
    return independent


def finite_difference_hessian(atoms: Atoms, *, displacement: float = _DISPLACEMENT) -> np.ndarray:
    """Second derivatives of the energy of the atoms' calculator in eV/Å², symmetrised, shape (3N, 3N).

    Args:
        atoms: with a calculator that gives forces; it is called 6N times.
        displacement: Å.
    """
    moved = atoms.copy()
    moved.calc = atoms.calc
    rows = []
    for i, d in np.ndindex(len(atoms), 3):
        sides = []
        for sign in (1, -1):
            moved.positions[:] = atoms.positions
            moved.positions[i, d] += sign * displacement
            sides.append(moved.get_forces().ravel())
        rows.append((sides[1] - sides[0]) / (2 * displacement))
    hessian = np.array(rows)
    symmetric: np.ndarray = (hessian + hessian.T) / 2
    return symmetric
