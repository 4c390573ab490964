"""Conformal quantiles: the exact rank, the guarantee by repetition, groups of scores, and too few of them."""

from __future__ import annotations

import numpy as np
import pytest

from lie_sim.calculators.conformal import conformal_quantile

TRIALS = 4000
NOISE = 0.012  # three standard errors of a mean of so many coverages, each of standard deviation < 0.25


@pytest.mark.parametrize(
    ("count", "coverage", "rank"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.9, 90), (100, 0.5, 51)]
)
def test_rank_is_that_of_the_formula(count: int, coverage: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(scores, coverage) == rank


@pytest.mark.parametrize("count", [9, 25])
def test_new_scores_are_covered_at_the_stated_rate_even_by_few_held_out_ones(count: int) -> None:
    random = np.random.default_rng(1)
    scores = random.exponential(size=(TRIALS, count + 1)) ** 2
    covered = np.mean([row[-1] <= conformal_quantile(row[:-1], 0.9) for row in scores])
    exact = np.ceil((count + 1) * 0.9) / (count + 1)
    assert abs(covered - exact) < NOISE, f"{covered:.3f}, should be {exact:.3f}"
    naive = np.mean([row[-1] <= np.quantile(row[:-1], 0.9) for row in scores])
    assert naive < exact - NOISE, (
        "the plain quantile covers too little: the test could not tell the two apart"
    )


def test_a_random_atom_of_a_new_structure_is_covered_although_atoms_of_one_structure_are_alike() -> None:
    random, count, covered = np.random.default_rng(2), 20, []
    for _ in range(TRIALS):
        sizes = random.choice([1, 30], count + 1)
        groups = [
            (3.0 if size == 1 else 1.0) * np.exp(random.normal()) * random.exponential(size=size)
            for size in sizes
        ]
        covered.append(np.mean(groups[-1] <= conformal_quantile(groups[:-1], 0.8)))
    rate = float(np.mean(covered))
    assert 0.8 - NOISE < rate < 0.8 + 1 / (count + 1) + NOISE, f"{rate:.3f}"


def test_what_cannot_be_covered_is_refused() -> None:
    with pytest.raises(ValueError, match=r"coverage of 0\.9 needs at least 9 held-out structures, got 8"):
        conformal_quantile(np.ones(8), 0.9)
    with pytest.raises(ValueError, match="between 0 and 1, got 90"):
        conformal_quantile(np.ones(8), 90)
    with pytest.raises(ValueError, match="a score is NaN"):
        conformal_quantile(np.array([1.0, np.nan]), 0.5)
