"""How :meth:`Calibration.fit` compares a model with held-out structures.

Shape letters: M structures, N atoms, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor

from lie_sim.calculators.calibration import Calibration
from lie_sim.calculators.conformal import conformal_quantile
from lie_sim.calculators.conversion import structures
from lie_sim.calculators.from_data import atoms_of
from lie_sim.calculators.linear_posterior import posterior_factor
from lie_sim.calculators.many import packed
from lie_sim.data.molecules import Molecules
from lie_sim.data.structure_files import from_atoms
from lie_sim.descriptions import fingerprint
from lie_sim.models.last_layer import LastLayer
from lie_sim.warning import warn

if TYPE_CHECKING:
    from lie_sim.calculators.calculator import LieTransformerCalculator

USUAL = 0.99
"""Share of the held-out structures that are not uncertain."""
ATOMS_AT_ONCE = 512
ANOTHER_ZERO, ALIKE, FEWEST_TO_FIT = 0.1, 3.0, 2
"""eV/atom, and multiple of what is left, from which errors that follow the composition are said; and structures for
each element from which they are looked for."""


def fitted(
    calculator: LieTransformerCalculator,
    held_out: Molecules | Sequence[Atoms],
    *,
    coverage: float,
    known: Molecules | Sequence[Atoms] | None,
    forces: bool,
    most_with_forces: int | None,
    ridge: float,
    seed: int,
) -> Calibration:
    """See :meth:`Calibration.fit`."""
    if most_with_forces is not None and most_with_forces < 1:
        raise ValueError(
            f"most_with_forces must be 1 or more, got {most_with_forces}; forces=False leaves them out"
        )
    data = _labelled(held_out)
    source, factor = "ensemble", None
    if len(calculator.models) == 1:
        source = "last_layer"
        seen = known
        if seen is None:
            order = np.random.default_rng(seed).permutation(len(data))
            seen, data = data[order[: len(data) // 2]], data[order[len(data) // 2 :]]
        features = features_of(calculator, atoms_of(seen) if isinstance(seen, Molecules) else seen)
        factor = posterior_factor(features, ridge)
    elif known is not None:
        raise ValueError(
            "known structures are for the last layer of one model: an ensemble does not need them"
        )
    forces = forces and "forces" in data.values
    bare = _uncalibrated(calculator, source, factor, coverage=coverage, forces=forces, count=len(data))
    found = _compared(bare, data)
    if not forces:
        return found
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:most_with_forces])
    return replace(found, **_of_forces(bare, data[chosen], coverage))


def _labelled(held_out: Molecules | Sequence[Atoms]) -> Molecules:
    data = held_out if isinstance(held_out, Molecules) else from_atoms(list(held_out))
    energies = data.values.get("energy")
    if energies is None or not np.isfinite(energies).all():
        raise ValueError(
            "every held-out structure needs a reference energy: info['REF_energy'], or the results of a calculator"
        )
    return data


def features_of(calculator: LieTransformerCalculator, systems: Sequence[Atoms]) -> Tensor:
    """Features of whole systems before the last layer, float64 on the CPU, shape (M, D)."""
    potential = calculator.potentials[0]
    layer, rows = LastLayer(potential), dict[int, Tensor]()
    for places in packed([len(atoms) for atoms in systems], ATOMS_AT_ONCE):
        some = [systems[place] for place in places]
        batch = structures(some, potential, dtype=calculator.torch_dtype, device=calculator.torch_device)
        with torch.no_grad(), layer.watched():
            potential(batch.q, batch.particles, batch.neighbours)
            rows |= dict(zip(places, layer.features(batch.particles).double().cpu(), strict=True))
    return torch.stack([rows[place] for place in range(len(systems))])


def _uncalibrated(
    calculator: LieTransformerCalculator,
    source: str,
    factor: Tensor | None,
    *,
    coverage: float,
    forces: bool,
    count: int,
) -> LieTransformerCalculator:
    """The same models with deviations as they are: every scale is 1, every limit infinite."""
    as_they_are = Calibration(
        source=source,
        models=tuple(fingerprint(each) for each in calculator.models),
        coverage=coverage,
        energy_scale=1.0,
        energy_quantile=1.0,
        energy_limit=float("inf"),
        forces_scale=float(forces),
        forces_quantile=1.0,
        forces_limit=float("inf"),
        num_structures=count,
        factor=factor,
    )
    options = {name: calculator.parameters[name] for name in ("device", "dtype", "skin")}
    return type(calculator)(
        calculator.models[0],
        ensemble=calculator.models[1:],
        calibration=as_they_are,
        on_uncertain="ignore",
        **options,
    )


def _compared(bare: LieTransformerCalculator, data: Molecules) -> Calibration:
    calibration = bare.calibration
    assert calibration is not None
    names = ["energy", "energy_std"]
    found = bare.predict_many(atoms_of(data), properties=names, max_atoms=ATOMS_AT_ONCE)
    errors = data.values["energy"] - np.array([each["energy"] for each in found])
    sigma = np.array([each["energy_std"] for each in found])
    warn_of_another_zero(errors, data)
    changes: dict[str, Any] = {
        "energy_scale": _scale(errors, sigma),
        "energy_quantile": _finite(conformal_quantile(_ratio(errors, sigma), calibration.coverage)),
        "energy_limit": _usual(sigma / data.sizes),
    }
    return replace(calibration, **changes)


def warn_of_another_zero(errors: np.ndarray, data: Molecules) -> None:
    """Large errors that are all sums over the elements are no errors of the model.

    Args:
        errors: reference minus predicted energies in eV, shape (M,).
        data: the structures.
    """
    counts = data.composition(data.elements).astype(float)
    if len(data) < FEWEST_TO_FIT * counts.shape[1]:
        return
    shifts, *_ = np.linalg.lstsq(counts, errors, rcond=None)
    rest = np.abs(errors - counts @ shifts) / data.sizes
    if np.abs(errors / data.sizes).mean() > max(ANOTHER_ZERO, ALIKE * rest.mean()):
        told = ", ".join(
            f"{chemical_symbols[z]} {x:+.3g}" for z, x in zip(data.elements, shifts, strict=True)
        )
        warn(
            f"most of the errors of the energies is a number for every element ({told} eV), with "
            f"{rest.mean():.2g} eV/atom left: are the reference energies of another level of theory, or counted from "
            "another zero, than the data of its training? lie_sim.training.fine_tuned fits them"
        )


def _of_forces(bare: LieTransformerCalculator, data: Molecules, coverage: float) -> dict[str, Any]:
    names = ["forces", "forces_std"]
    found = bare.predict_many(atoms_of(data), properties=names, max_atoms=ATOMS_AT_ONCE)
    errors = [
        data.values["forces"][data.offsets[k] : data.offsets[k + 1]] - each["forces"]
        for k, each in enumerate(found)
    ]
    sigma = [each["forces_std"] for each in found]
    lengths = [np.linalg.norm(each, axis=1) for each in sigma]
    scores = [_ratio(np.linalg.norm(e, axis=1), s) for e, s in zip(errors, lengths, strict=True)]
    return {
        "forces_scale": _scale(np.concatenate(errors), np.concatenate(sigma)),
        "forces_quantile": _finite(conformal_quantile(scores, coverage)),
        "forces_limit": _usual(np.array([each.max() for each in lengths])),
    }


def _ratio(errors: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """|error|/σ; 0 where both are 0, infinite where only σ is."""
    size = np.abs(errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size == 0, 0.0, size / sigma)


def _scale(errors: np.ndarray, sigma: np.ndarray) -> float:
    return _finite(float(np.sqrt(np.square(errors).mean() / max(np.square(sigma).mean(), 1e-300))))


def _usual(values: np.ndarray) -> float:
    return float(np.quantile(values, USUAL, method="higher"))


def _finite(value: float) -> float:
    if not np.isfinite(value) or value > 1e100:
        raise ValueError(
            "the deviations of the held-out structures are 0 although their errors are not: are the models of the "
            "ensemble the same?"
        )
    return value
