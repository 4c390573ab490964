"""What a set of structures holds, for a look before the training: what is learned, how large it is, in which units.

Magnitudes tell wrong units and signs: energies of an atom in eV are between −1 and some thousands of −1 (an atom alone
being the zero, or its electrons), forces of a few hundred kelvin 0.5 to 2 eV/Å.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from lie_sim.data.molecules import PER_ATOM, PER_STRUCTURE, Molecules
from lie_sim.models.atomic import GLOBAL_INPUTS

UNITS_OF_LABELS = {
    "forces": "eV/Å",
    "stress": "eV/Å³",
    "dipole": "e Å",
    "charges": "e",
    "polarizability": "Å³",
}
_HOW = {
    "energy": "its weight is 0",
    "forces": "their weight is 0",
    "stress": "--stress-weight 1",
    "dipole": "--properties dipole",
    "charges": "--properties charges",
}


def labels(structures: Molecules, *, learned: Collection[str], inputs: Collection[str]) -> dict[str, str]:
    """Labels that are learned and that are not, each with its size.

    Args:
        structures: all of them.
        learned: names of what the loss or a head asks for.
        inputs: global inputs that the model reads.

    Example:
        >>> one = Molecules(np.array([2]), np.zeros((1, 3)), np.array([0, 1]), np.zeros((1, 3, 3)),
        ...     np.zeros((1, 3), bool), {"energy": np.array([-79.0]), "dipole": np.zeros((1, 3))})
        >>> labels(one, learned=["energy", "forces"], inputs=[])["learned"]
        'energy (-79 eV an atom); the file has no forces'
    """
    there = [name for name in structures.values if name not in GLOBAL_INPUTS]
    order = [name for name in PER_STRUCTURE | PER_ATOM if name in there]
    there = [*order, *(name for name in there if name not in order and name in learned)]
    told = ", ".join(_sized(structures, name) for name in there if name in learned)
    facts = {"learned": told if "forces" in there else f"{told}; the file has no forces"}
    left = [f"{_sized(structures, name)}: {_HOW[name]}" for name in there if name not in learned]
    others = [name for name in structures.values if name not in {*there, *learned, *GLOBAL_INPUTS, "weight"}]
    if others:
        left.append(f"{', '.join(sorted(others))}: --properties NAME:intensive or NAME:extensive")
    if left:
        facts["not learned"] = ", ".join(left)
    given = [name for name in GLOBAL_INPUTS if name in structures.values]
    if given:
        uses = [name if name in inputs else f"{name} (not used: --inputs {name})" for name in given]
        facts["inputs"] = ", ".join(uses)
    if "weight" in structures.values:
        weights = np.nan_to_num(structures.values["weight"], nan=1.0)
        facts["weights"] = f"{weights.min():.3g} to {weights.max():.3g} of structures in the loss"
    return facts


def _sized(structures: Molecules, name: str) -> str:
    value = structures.values[name]
    if name == "energy":
        return f"energy ({np.mean(value / structures.sizes):.4g} eV an atom)"
    rms = np.sqrt(np.nanmean(np.square(value))) if np.isfinite(value).any() else np.nan
    return f"{name} (rms {rms:.3g} {UNITS_OF_LABELS.get(name, '')}".rstrip() + ")"
