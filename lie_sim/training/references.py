"""What a potential of atoms knows before it is trained: energies of the elements, and the size of the rest.

    E_k ≈ Σ_Z n_kZ E₀(Z)        least squares of least norm over all structures with an energy

Shape letters: M structures, A atoms of all structures together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lie_sim.data.molecules import Molecules
from lie_sim.models import AtomicPotential


def reference_energies(molecules: Molecules) -> dict[int, float]:
    """E₀ of every element in eV, so that the sum over atoms explains the energies best.

    Where compositions do not tell elements apart (a single molecule), the least of all solutions is taken: sums are the
    same.

    Raises:
        ValueError: no structure has an energy.

    Example:
        >>> import numpy as np
        >>> sizes, cells, pbc = np.array([0, 2, 5]), np.zeros((2, 3, 3)), np.zeros((2, 3), bool)
        >>> numbers, energies = np.array([1, 1, 1, 1, 8]), {"energy": np.array([-32.0, -76.0])}
        >>> data = Molecules(numbers, np.zeros((5, 3)), sizes, cells, pbc, energies)
        >>> {z: round(e, 6) for z, e in reference_energies(data).items()}
        {1: -16.0, 8: -44.0}
    """
    energies = molecules.values.get("energy")
    known = np.zeros(len(molecules), bool) if energies is None else np.isfinite(energies)
    if energies is None or not known.any():
        raise ValueError("no structure has an energy: the reference energies cannot be fitted")
    counts = molecules.composition(molecules.elements).astype(float)
    solution, *_ = np.linalg.lstsq(counts[known], energies[known], rcond=None)
    return dict(zip(molecules.elements, solution.tolist(), strict=True))


def interaction_energies(molecules: Molecules, references: dict[int, float]) -> np.ndarray:
    """Energies less the references of the atoms, in eV, shape (M,)."""
    elements = tuple(references)
    sums = molecules.composition(elements) @ np.array([references[z] for z in elements])
    energies: np.ndarray = molecules.values["energy"] - sums
    return energies


def energy_scale(molecules: Molecules, references: dict[int, float]) -> float:
    """Size of what the network gives in eV: root mean square force times 1 Å, or else that of an atom's energy."""
    forces = molecules.values.get("forces")
    if forces is not None and np.isfinite(forces).any():
        scale = float(np.sqrt(np.nanmean(np.square(forces))))
    else:
        each = interaction_energies(molecules, references) / molecules.sizes
        scale = float(np.sqrt(np.nanmean(np.square(each))))
    return scale if scale > 0 else 1.0


def atomic_potential(molecules: Molecules, **options: Any) -> AtomicPotential:
    """An untrained potential for the elements and energies of a data set.

    Args:
        molecules: the training data.
        options: of :class:`~lie_sim.models.AtomicConfig`; ``network`` overrides single options of the network.
    """
    references = reference_energies(molecules)
    network = {"energy_scale": energy_scale(molecules, references)} | dict(options.pop("network", {}))
    given = {"reference_energies": tuple(references.values())} | options
    return AtomicPotential.default(elements=tuple(references), network=network, **given)
