"""What the report of a potential shows: predictions against references, tables of errors, best and worst structures.

Units: errors of energies in meV of an atom, of forces in meV/Å.

Shape letters: M test structures, A atoms of all structures together, N atoms of one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from torch import nn

from lie_sim.data.molecules import Molecules
from lie_sim.experiments.molecule_drawing import bonds, colour
from lie_sim.models import AtomicPotential
from lie_sim.report import MoleculeView, Parity, Table
from lie_sim.report.molecule_view import MAX_ATOMS

FORCE_CLASSES = (0.0, 0.5, 1.0, 2.0, 4.0, float("inf"))
"""eV/Å; errors are also told by the size of the true force."""
WORST, BEST = 8, 4
"""Structures of each kind that are shown."""
_MILLI = 1000.0
Predictions = Mapping[str, tuple[np.ndarray, np.ndarray]]
Errors = Mapping[str, np.ndarray]
"""Predicted minus reference: ``energy`` (M,) in eV, and ``forces`` (A, 3) in eV/Å where there are any."""


def parity(module: nn.Module, found: Errors, test: Molecules) -> list[Parity]:
    """Energies of an atom without the reference energies of the elements, and force components."""
    true = (test.values["energy"] - references(module, test)) / test.sizes
    made = [
        Parity.measure(
            "energy",
            true,
            true + found["energy"] / test.sizes,
            unit="eV/atom",
            error_unit="meV/atom",
            error_scale=_MILLI,
            note="Without the reference energies of the elements.",
        )
    ]
    if "forces" in found:
        forces = test.values["forces"]
        predicted, name = forces + found["forces"], "force component"
        made.append(
            Parity.measure(name, forces, predicted, unit="eV/Å", error_unit="meV/Å", error_scale=_MILLI)
        )
    return made


def property_parity(
    predictions: Predictions,
    units: Mapping[str, tuple[str, float]],
    explained: Mapping[str, np.ndarray] | None = None,
) -> list[Parity]:
    """Predicted against reference values of every property; energies in eV, their errors in meV.

    Args:
        predictions: by name, predicted and reference values, flat.
        units: by name, that in which errors are told, and the unit of the data in it.
        explained: by name, what the composition explains, in the unit of the data: it would hide what is learned, and
            is left out.
    """
    made = []
    for name, (predicted, true) in predictions.items():
        if not true.size:
            continue
        unit, factor = units[name]
        known, note = (explained or {}).get(name), "Without what the composition explains."
        shift = np.zeros(len(true)) if known is None else known
        scale = _MILLI if unit == "meV" else 1.0
        x, y = ((each - shift) * factor / scale for each in (true, predicted))
        made.append(
            Parity.measure(
                name,
                x,
                y,
                unit="eV" if unit == "meV" else unit,
                error_unit=unit,
                error_scale=scale,
                note="" if known is None else note,
            )
        )
    return made


def mean_errors(predictions: Predictions) -> dict[str, float]:
    """Mean absolute error of every property, in the unit of the data."""
    return {
        name: float(np.abs(predicted - true).mean()) if true.size else float("nan")
        for name, (predicted, true) in predictions.items()
    }


def references(module: nn.Module, test: Molecules) -> np.ndarray:
    """Σ E₀ of the elements of every structure in eV, shape (M,)."""
    if not isinstance(module, AtomicPotential):
        return np.zeros(len(test))
    energies = module.reference_table.double().cpu().numpy()[list(test.elements)]
    total: np.ndarray = test.composition(test.elements) @ energies
    return total


def breakdown(found: Errors, test: Molecules, places: np.ndarray) -> list[Table]:
    """Tables of errors: by element and by the size of the true force if there are forces, and the worst structures."""
    tables = [_worst(found, test, places)]
    if "forces" not in found:
        return tables
    size = np.linalg.norm(test.values["forces"], axis=1)
    kinds = {"all": np.ones(len(size), dtype=bool)}
    kinds |= {chemical_symbols[z]: test.numbers == z for z in test.elements}
    sizes = {
        f"{low:g} to {high:g} eV/Å" if np.isfinite(high) else f"above {low:g} eV/Å": (size >= low)
        & (size < high)
        for low, high in itertools.pairwise(FORCE_CLASSES)
    }
    by_element = _force_table("Force errors by element", "element", kinds, found["forces"])
    by_size = _force_table("Force errors by size of the force", "reference force", sizes, found["forces"])
    return [by_element, by_size, *tables]


def _force_table(title: str, kind: str, chosen: Mapping[str, np.ndarray], off: np.ndarray) -> Table:
    rows: list[list[str | int | float | None]] = []
    for name, mask in chosen.items():
        if mask.any():
            mae, rmse = np.abs(off[mask]).mean(), np.sqrt(np.square(off[mask]).mean())
            rows.append([name, int(mask.sum()), _MILLI * float(mae), _MILLI * float(rmse)])
    columns = [kind, "atoms", "MAE, meV/Å", "RMSE, meV/Å"]
    return Table(
        columns, _rounded(rows), title=title, bar="MAE, meV/Å", note="MAE and RMSE are of force components."
    )


def _worst(found: Errors, test: Molecules, places: np.ndarray) -> Table:
    order = ranking(found, test)[:WORST]
    rows: list[list[str | int | float | None]] = []
    for k in order:
        energy = _MILLI * float(found["energy"][k] / test.sizes[k])
        row: list[str | int | float | None] = [f"{int(places[k])}: {formula(test, k)}", energy]
        if "forces" in found:
            row += [_MILLI * float(np.sqrt(np.square(_of(found["forces"], test, k)).mean()))]
            row += [_MILLI * float(np.linalg.norm(_of(found["forces"], test, k), axis=1).max())]
        rows.append(row)
    columns = ["structure", "energy, meV/atom", "force RMSE, meV/Å", "largest, meV/Å"][
        : 2 + 2 * ("forces" in found)
    ]
    note = "Numbers are places in the file, from 0; energies are predicted minus reference."
    return Table(
        columns,
        _rounded(rows),
        title="Worst structures",
        bar=columns[2] if "forces" in found else "",
        note=note,
    )


def ranking(found: Errors, test: Molecules) -> list[int]:
    """Test structures from the worst to the best: by their force errors, without forces by their energy error."""
    if "forces" not in found:
        size = np.abs(found["energy"] / test.sizes)
    else:
        square = np.square(found["forces"]).sum(1)
        size = np.add.reduceat(square, test.offsets[:-1]) / test.sizes
    order: list[int] = np.argsort(-np.where(np.isfinite(size), size, np.inf), kind="stable").tolist()
    return order


def views(found: Errors, test: Molecules, places: np.ndarray) -> list[MoleculeView]:
    """The worst and the best test structures that are small enough to be drawn."""
    order = [k for k in ranking(found, test) if test.sizes[k] <= MAX_ATOMS]
    worst = order[:WORST]
    best = order[len(worst) :][::-1][:BEST]
    shown = [("largest errors", k, f"worst {n}") for n, k in enumerate(worst, start=1)]
    shown += [("smallest errors", k, f"best {n}") for n, k in enumerate(best, start=1)]
    return [_view(found, test, k, group=group, rank=rank, place=int(places[k])) for group, k, rank in shown]


def _view(found: Errors, test: Molecules, k: int, *, group: str, rank: str, place: int) -> MoleculeView:
    numbers, positions = _of(test.numbers, test, k), _of(test.positions, test, k)
    error = _of(found["forces"], test, k) if "forces" in found else None
    facts = {
        "structure": f"{place} of the file",
        "energy error": f"{_milli(found['energy'][k] / test.sizes[k])} meV/atom",
    }
    label = f"{rank}: {formula(test, k)}"
    if error is not None:
        size = np.linalg.norm(error, axis=1)
        facts["force RMSE"] = f"{_milli(np.sqrt(np.square(error).mean()))} meV/Å"
        if np.isfinite(size).all():
            facts["largest force error"] = (
                f"{_milli(size.max())} meV/Å on {chemical_symbols[numbers[size.argmax()]]} {size.argmax()}"
            )
        label += f", force RMSE {facts['force RMSE']}"
    else:
        label += f", energy {facts['energy error']}"
    symbols = [chemical_symbols[z] for z in numbers]
    kinds = {chemical_symbols[z]: z for z in set(numbers.tolist())}
    return MoleculeView(
        label,
        group,
        symbols,
        positions,
        bonds(numbers, positions),
        force_error=error,
        facts=facts,
        colours={name: colour(z) for name, z in kinds.items()},
        radii={name: float(covalent_radii[z]) for name, z in kinds.items()},
    )


def formula(test: Molecules, k: int) -> str:
    """The sum formula in Hill's order.

    Example:
        >>> water = Molecules(
        ...     numbers=np.array([8, 1, 1]), positions=np.zeros((3, 3)), offsets=np.array([0, 3]),
        ...     cells=np.zeros((1, 3, 3)), pbc=np.zeros((1, 3), bool),
        ... )
        >>> formula(water, 0)
        'H2O'
    """
    from ase.formula import Formula

    text: str = Formula.from_list([chemical_symbols[z] for z in _of(test.numbers, test, k)]).format("hill")
    return text


def _of(values: np.ndarray, test: Molecules, k: int) -> np.ndarray:
    """The rows of one structure."""
    return values[test.offsets[k] : test.offsets[k + 1]]


def _milli(value: float) -> str:
    return f"{_MILLI * float(value):.3g}"


def _rounded(rows: list[list[str | int | float | None]]) -> list[list[str | int | float | None]]:
    """Three significant digits: the fourth is of no interest in an error."""
    return [[float(f"{cell:.3g}") if isinstance(cell, float) else cell for cell in row] for row in rows]
