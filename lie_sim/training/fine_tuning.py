"""Training that goes on from a model which knows other data: another level of theory, or other molecules.

    E₀(Z) ← E₀(Z) + δ(Z)    with Σ_Z n_kZ δ(Z) ≈ E_k − Ê_k, by least squares of least norm

Levels of theory differ most in the energies of the atoms, by hundreds of eV, and little in the bonds between them; so
the network stays as it is and the differences of the atoms are fitted before the training begins.

Shape letters: M structures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from lie_sim.data.molecules import Molecules
from lie_sim.elements import symbols
from lie_sim.models import AtomicPotential
from lie_sim.models.atomic_config import REFERENCES_PER_ELEMENT, HeadConfig
from lie_sim.training.molecules import errors

MOST_STRUCTURES, OF_AN_ELEMENT = 2000, 100
"""Structures that the differences of the atoms are fitted to, and such with a rare element besides."""
_DIGITS = 6


def fine_tuned(
    potential: AtomicPotential, molecules: Molecules, *, heads: Mapping[str, HeadConfig] | None = None
) -> AtomicPotential:
    """A copy of a potential with reference energies that suit other data, to be trained on them.

    Elements that the data lack keep their reference energies. A head that the potential has keeps its weights and
    its constants: only energies are fitted to the zero of the data. Dtype and device are those of the potential.

    Args:
        potential: the model to begin with; it stays as it is.
        molecules: the training data, with energies.
        heads: properties that the new potential tells; None for those of the old one.

    Raises:
        ValueError: the potential has no energy, does not know an element or reads what the data lack, or the data
            have no energies.

    Example:
        >>> from lie_sim import load_model
        >>> from lie_sim.data.structure_files import from_atoms
        >>> from ase.build import molecule
        >>> waters = [molecule("H2O", info={"REF_energy": -2081.0})]  # the zero of another level of theory
        >>> ours = fine_tuned(load_model("organic-gfn2"), from_atoms(waters))
        >>> error = errors(ours, from_atoms(waters), cutoff=ours.cutoff, inputs=())["energy"]  # eV
        >>> bool(abs(error[0]) < 1e-3)
        True
    """
    old = potential.config
    if not potential.has_energy:
        raise ValueError(
            f"the model to start from has no energy: it was taught {', '.join(potential.properties)}"
        )
    lacking = [name for name in old.inputs if name not in molecules.values]
    if lacking:
        raise ValueError(
            f"the model to start from reads {', '.join(lacking)}, which the structures do not say"
        )
    unknown = sorted(set(molecules.elements) - set(old.elements))
    if unknown:
        raise ValueError(
            f"the model to start from does not know {symbols(unknown)}, only {symbols(old.elements)}: "
            "begin with a new model"
        )
    wanted = old.heads if heads is None else heads
    chosen = {
        name: _head(old.heads.get(name), head, molecules, old.elements) for name, head in wanted.items()
    }
    made = AtomicPotential(replace(old, reference_energies=_references(potential, molecules), heads=chosen))
    made = made.to(next(potential.parameters()))
    _copy_weights(potential, made)
    return made


def _references(potential: AtomicPotential, molecules: Molecules) -> tuple[float, ...]:
    """Reference energies of all elements of the potential, in eV."""
    old = potential.config
    known = _sample(molecules)
    off = errors(potential, known, cutoff=potential.cutoff, inputs=old.inputs)["energy"]
    counts = known.composition(known.elements).astype(float)
    shift, *_ = np.linalg.lstsq(counts, -off, rcond=None)
    found = dict(zip(old.elements, old.reference_energies or (0.0,) * len(old.elements), strict=True))
    for element, each in zip(known.elements, shift.tolist(), strict=True):
        found[element] = round(found[element] + each, _DIGITS)
    return tuple(found.values())


def _sample(molecules: Molecules) -> Molecules:
    """Structures with an energy, some of every element and not too many."""
    energies = molecules.values.get("energy", np.full(len(molecules), np.nan))
    known = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(energies)))
    if not len(known):
        raise ValueError("no structure has an energy: the reference energies cannot be fitted")
    has = molecules.composition(molecules.elements)[known] > 0
    of_elements = [known[has[:, column]][:OF_AN_ELEMENT] for column in range(has.shape[1])]
    return molecules[np.unique(np.concatenate([known[:MOST_STRUCTURES], *of_elements]))]


def _head(
    old: HeadConfig | None, new: HeadConfig, molecules: Molecules, elements: tuple[int, ...]
) -> HeadConfig:
    """A head of the same kind stays as it is; references of a new one are 0 for elements that the data lack."""
    if old is not None and old.kind == new.kind:
        return old
    if not new.references:
        return new
    known = molecules.elements
    blocks = np.zeros((REFERENCES_PER_ELEMENT[new.kind], len(elements)))
    blocks[:, [elements.index(z) for z in known]] = np.reshape(new.references, (-1, len(known)))
    return replace(new, references=tuple(blocks.flatten().tolist()))


def _copy_weights(old: AtomicPotential, new: AtomicPotential) -> None:
    """All that both have; new heads, and the moments of the last block that they read, begin untrained.

    Those moments are further rows of a weight, after the rows that make the features.
    """
    theirs, weights = old.state_dict(), new.state_dict()
    with torch.no_grad():
        for name, weight in weights.items():
            if name in theirs and weight.shape[1:] == theirs[name].shape[1:]:
                rows = min(len(weight), len(theirs[name]))
                weight[:rows] = theirs[name][:rows]
