"""Compiled evaluations against the usual ones: numbers, shapes that are shared, and what happens without a compiler."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import InputError

from lie_sim.calculators import LieTransformerCalculator, structures
from lie_sim.calculators.compiled import CompiledEvaluation
from lie_sim.calculators.evaluation import FEATURES, evaluated
from lie_sim.calculators.padding import padded, unpadded
from lie_sim.models import heads
from lie_sim.models.last_layer import LastLayer

SAME = 1e-12  # relative; measured: 4e-15 traced, 1e-14 compiled
EVERYTHING = {"heads": heads("charges", "dipole", "polarizability", gap="intensive"), "inputs": ("charge",)}


def crystal(seed: int = 0, shake: float = 0.1):
    atoms = bulk("Al", cubic=True) * (1, 1, 2)
    atoms.rattle(shake, seed=seed)
    return atoms


def agree(found, exact) -> float:
    pairs = [(found.energies, exact.energies), (found.forces, exact.forces)]
    pairs += [
        (found.properties[name][:, : value.shape[1]] if value.ndim > 1 else found.properties[name], value)
        for name, value in exact.properties.items()
    ]
    if exact.virials is not None:
        pairs.append((found.virials, exact.virials))
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)


@pytest.mark.parametrize("virials", [False, True])
def test_traced_operations_serve_other_numbers_than_they_were_traced_with(random_potential, virials) -> None:
    potential = random_potential(**EVERYTHING).requires_grad_(False)
    layer = LastLayer(potential)
    fast = CompiledEvaluation(potential, layer, backend="none")
    first = [molecule("CH3CH2OH"), crystal()][virials]
    second = [molecule("CH3OCH3"), crystal(1)][virials]  # other elements in other places
    for atoms in (first, second):
        atoms.info["charge"] = 1
        batch = structures([atoms], potential, dtype=torch.float64, list_pairs=virials)
        found, exact = fast(batch, virials=virials), evaluated(potential, layer, batch, virials=virials)
        assert set(found.properties) == {*EVERYTHING["heads"], FEATURES}
        assert agree(found, exact) < SAME
    assert len(fast.functions) == 1


def test_padding_changes_nothing(random_potential) -> None:
    potential = random_potential(**EVERYTHING).requires_grad_(False)
    for systems in (
        [molecule("H2O"), molecule("CH4"), molecule("CH3CH2OH")],
        [crystal(), crystal(1), molecule("H2O")],
    ):
        batch = structures(systems, potential, dtype=torch.float64)
        wide = padded(batch)
        assert wide.q.shape[0] == 4
        assert wide.q.shape[1] % 8 == 0
        exact = evaluated(potential, None, batch, virials=False)
        assert agree(unpadded(evaluated(potential, None, wide, virials=False), batch), exact) < SAME


def test_neighbours_that_come_and_go_share_a_function(potential) -> None:
    fast, counts = CompiledEvaluation(potential, None, backend="none"), set()
    for seed in range(6):
        batch = structures([crystal(seed, 0.3)], potential, dtype=torch.float64)
        counts.add(batch.neighbours.index.shape[-1])
        assert agree(fast(batch, virials=False), evaluated(potential, None, batch, virials=False)) < SAME
    assert len(counts) > 2
    assert len(fast.functions) == 1


def test_a_calculator_that_fails_to_compile_says_so_once_and_goes_on(potential, monkeypatch) -> None:
    def no_compiler(*arguments, **keywords):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    calculator = LieTransformerCalculator(potential, compile=True)
    with pytest.warns(RuntimeWarning, match=r"compile=True has no effect.*no C\+\+ compiler"):
        found = calculator.evaluate(molecule("H2O"))
    exact = LieTransformerCalculator(potential).evaluate(molecule("H2O"))
    assert (found["forces"] == exact["forces"]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.evaluate(molecule("CH4"))


def test_an_unknown_element_is_refused_as_usual(potential) -> None:
    fast = LieTransformerCalculator(potential, compile=True)
    with pytest.raises(InputError, match="does not know the element Xe"):
        fast.evaluate(Atoms("Xe"))


@pytest.mark.slow
def test_compiled_calculator_agrees_and_is_copied(random_potential) -> None:
    network = {"num_layers": 1, "width": 4, "num_heads": 1, "num_moments": 1, "kernel_hidden": 4}
    potential = random_potential(network=network)
    exact, fast = (LieTransformerCalculator(potential, compile=compile) for compile in (False, True))
    atoms = molecule("H2O")
    for seed in range(3):
        atoms.rattle(0.05, seed=seed)
        a, b = exact.evaluate(atoms), fast.evaluate(atoms)
        assert abs(a["energy"] - b["energy"]) < SAME * max(1, abs(a["energy"]))
        assert np.abs(a["forces"] - b["forces"]).max() < SAME * np.abs(a["forces"]).max()
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert not other._engine._runs[0].functions
    assert fast._engine._runs[0].functions
