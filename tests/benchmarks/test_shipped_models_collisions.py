"""Structures in which atoms collide: one atom pushed, or hydrogens on the way to each other's places."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule

from lie_sim.data.structure_files import from_atoms


def test_atoms_come_nearer_than_in_any_molecule(script) -> None:
    starts = [molecule("C2H6")] * 40
    found = script("shipped_models").collisions(starts)
    assert len(found) == 80
    nearest = np.array([np.min(np.linalg.norm(distances(atoms), axis=-1)) for atoms in found])
    assert nearest[1::2].min() < 0.7, "pushed"
    assert nearest[1::2].min() > 0.45, "but not into each other"
    assert (nearest[::2] < 1.0).any(), "on the way"
    assert all((atoms.numbers == starts[0].numbers).all() for atoms in found)
    still = starts[0].get_all_distances()
    assert still[still > 0].min() > 1.0, "the molecule itself stays as it is"


def test_a_lone_atom_cannot_collide_and_two_are_only_pushed(script) -> None:
    found = script("shipped_models").collisions([Atoms("H"), molecule("CO")])
    assert [str(atoms.symbols) for atoms in found] == ["OC"]


def test_the_same_molecules_collide_alike_and_more_begin_with_them(script) -> None:
    models, starts = script("shipped_models"), [molecule("CH4"), molecule("C2H6")]
    few, more = models.collisions(starts), models.collisions([*starts, molecule("H2O")])
    assert len(more) == len(few) + 2
    for one, other in zip(few, more, strict=False):
        assert np.array_equal(one.positions, other.positions)


def test_collisions_count_less_and_a_stage_takes_the_first_frames(script, monkeypatch, tmp_path) -> None:
    models = script("shipped_models")
    waters = from_atoms([molecule("H2O") for _ in range(5)])
    monkeypatch.setattr(models, "frames", lambda keep, name: waters)
    stage = models.Stage(1, 0.1, parts=("train", "close"), most={"train": 2})
    weights = models.data_of(tmp_path, stage).values["weight"]
    assert np.array_equal(weights, [np.nan] * 2 + [models.WEIGHT_OF_COLLISIONS] * 5, equal_nan=True)
    assert "weight" not in models.data_of(tmp_path, models.Stage(1, 0.1, parts=("train",))).values


def distances(atoms: Atoms) -> np.ndarray:
    """Differences of all pairs, shape (P, 3)."""
    first, second = np.triu_indices(len(atoms), 1)
    return atoms.positions[first] - atoms.positions[second]
