"""What is labelled next: the most uncertain structures, no two of them alike."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.calculators.selection import difference, most_uncertain

ROUNDING = 1e-9


def rattled(seed: int, size: float = 0.1) -> Atoms:
    atoms = molecule("CH3OH")
    atoms.rattle(size, seed=seed)
    return atoms


@given(seed=st.integers(0, 1000))
def test_the_difference_is_of_shapes(seed: int) -> None:
    """Rotations, translations and permutations of equal atoms are none; other shapes are."""
    one = rattled(seed)
    rng = np.random.default_rng(seed)
    other = one.copy()
    other.rotate(rng.uniform(0, 360), rng.normal(size=3))
    other.translate(rng.normal(size=3))
    other = other[rng.permutation(len(other))]
    assert difference(one, other) < ROUNDING
    assert difference(one, rattled(seed + 1)) > 1e-3


def test_through_the_walls_of_a_crystal() -> None:
    copper = bulk("Cu", cubic=True)
    wrapped = copper.copy()
    wrapped.positions += 1.3
    wrapped.wrap()
    assert difference(copper, wrapped) < ROUNDING


@given(
    scores=st.lists(st.floats(0, 5) | st.just(float("nan")), min_size=1, max_size=12),
    count=st.integers(1, 5),
    alike=st.integers(1, 4),
    least=st.floats(0, 2),
)
def test_chosen_are_the_most_uncertain_of_their_kind(
    scores: list[float], count: int, alike: int, least: float
) -> None:
    systems = [rattled(k % alike) for k in range(len(scores))]
    chosen = most_uncertain(scores, systems, count=count, distinct=0.01, least=least)
    assert len(chosen) <= min(count, alike)
    taken = [scores[place] for place in chosen]
    assert taken == sorted(taken, reverse=True)
    for kind in {place % alike for place in chosen}:
        best = max(score for k, score in enumerate(scores) if k % alike == kind and score == score)
        assert best in taken
        assert best >= least


def test_impossible_choices() -> None:
    with pytest.raises(ValueError, match="count must be positive"):
        most_uncertain([1.0], [molecule("H2O")], count=0)
