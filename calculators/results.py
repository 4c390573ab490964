"""From what a model says to what ASE expects: names, shapes and units of the results.

    energy = Σ_i ε_i,      stress = (1/V) Σ_i V σ_i,      of several models the mean and the standard deviation

Shape letters: B batch, N atoms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from lie_sim.models import AtomicPotential, Evaluation

ALWAYS = ("energy", "free_energy", "energies", "forces")
"""What every evaluation gives."""
OF_A_LATTICE = frozenset({"stress", "stresses"})
"""What a system has only if it has a volume."""
BORN = "born_effective_charges"
PER_ATOM = ("charges", BORN)
"""Properties of heads that belong to atoms; the others belong to the system."""


def property_names(potentials: Sequence[AtomicPotential]) -> tuple[str, ...]:
    """What all of some models give; a head of the same name and another kind is another property.

    Derivatives of the dipole are offered where there are energies: a model of properties alone, learned at equilibrium,
    gives some, and they are wrong.

    Example:
        >>> property_names([AtomicPotential.default(elements=(1,))])
        ('energy', 'free_energy', 'energies', 'forces', 'stress', 'stresses')
    """
    kinds = [{name: head.kind for name, head in each.config.heads.items()} for each in potentials]
    heads = [name for name, kind in kinds[0].items() if all(each.get(name) == kind for each in kinds)]
    energies = (*ALWAYS, "stress", "stresses") if all(each.has_energy for each in potentials) else ()
    return (*energies, *heads, *([BORN] if energies and "dipole" in heads else []))


def meaningless(potential: AtomicPotential, atoms: Atoms, charge: float) -> Set[str]:
    """Properties that depend on the image of an atom that is taken: in a cell the extent, and the dipole of an ion.

    Args:
        potential: the model.
        atoms: the system.
        charge: its total charge in e.
    """
    if not atoms.pbc.any():
        return frozenset()
    kinds = {"spatial_extent", "dipole"} if charge else {"spatial_extent"}
    return {name for name, head in potential.config.heads.items() if head.kind in kinds}


def results_of(
    found: Evaluation, atoms: Atoms, row: int = 0, *, without: Set[str] = frozenset()
) -> dict[str, Any]:
    """Results of one system of a batch, as numbers and arrays of float64.

    Args:
        found: what the model said of the batch.
        atoms: the system.
        row: its place in the batch.
        without: properties that have no meaning for it and become NaN.
    """
    count = len(atoms)
    results: dict[str, Any] = {"forces": found.forces[row, :count].double().cpu().numpy()}
    results["energies"] = found.energies[row, :count].cpu().numpy()
    results["energy"] = results["free_energy"] = float(results["energies"].sum())
    for name, value in found.properties.items():
        own = value[row, :count] if name in PER_ATOM else value[row]
        numbers = own.double().cpu().numpy()
        results[name] = plain(np.full_like(numbers, np.nan) if name in without else numbers)
    if found.virials is not None:
        stresses = found.virials[row, :count].double().cpu().numpy() / atoms.get_volume()
        voigt = np.stack([full_3x3_to_voigt_6_stress(each) for each in stresses])
        results |= {"stresses": voigt, "stress": voigt.sum(0)}
    return results


def mean_results(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over several models, and standard deviations of energy and forces.

    Example:
        >>> two = [{"energy": 1.0, "forces": np.zeros((1, 3))}, {"energy": 3.0, "forces": np.zeros((1, 3))}]
        >>> found = mean_results(two)
        >>> found["energy"], round(found["energy_std"], 3)
        (2.0, 1.414)
    """
    shared = [name for name in found[0] if all(name in each for each in found)]
    mean = {name: plain(np.mean([each[name] for each in found], axis=0)) for name in shared}
    spread = {
        f"{name}_std": plain(np.std([each[name] for each in found], axis=0, ddof=1))
        for name in ("energy", "forces")
        if name in mean
    }
    return mean | spread


def plain(value: np.ndarray | np.generic) -> Any:
    """A Python number in place of an array without axes.

    Example:
        >>> plain(np.array(2.0)), plain(np.zeros(1))
        (2.0, array([0.]))
    """
    return value if np.ndim(value) else float(value)
