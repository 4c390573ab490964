"""Hard top-k: the right ones, ties together, any order."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.pooling import hard_top_k, kept_count


@given(
    values=st.lists(st.integers(-4, 4), min_size=1, max_size=12), k=st.integers(1, 12), seed=st.integers(0, 9)
)
def test_it_commutes_with_permutations_even_where_scores_are_equal(
    values: list[int], k: int, seed: int
) -> None:
    z = torch.tensor([values], dtype=torch.float32)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    kept = hard_top_k(z, k)
    assert torch.equal(hard_top_k(z[:, order], k), kept[:, order])
    assert int(kept.sum()) >= min(k, len(values))
    kth = sorted(values, reverse=True)[min(k, len(values)) - 1]
    assert torch.equal(kept, z >= kth)


def test_rounding_does_not_separate_equal_scores() -> None:
    equal = torch.tensor([[0.1 + 0.2, 0.3, 0.0]], dtype=torch.float64)
    assert equal[0, 0] != equal[0, 1]
    assert hard_top_k(equal, 1).tolist() == [[True, True, False]]
    assert hard_top_k(torch.tensor([[0.3, 0.2999, 0.0]]), 1).tolist() == [[True, False, False]]


def test_padding_is_never_kept() -> None:
    z = torch.tensor([[1.0, 9.0, 2.0], [5.0, 5.0, 5.0]])
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert hard_top_k(z, torch.tensor([1, 1]), mask=mask).tolist() == [[False, False, True], [False] * 3]


def test_counts_round_up() -> None:
    assert kept_count(0.5, torch.tensor([0, 1, 2, 3])).tolist() == [0, 1, 1, 2]
    assert kept_count(0.1, torch.tensor([10, 30, 31])).tolist() == [1, 3, 4]  # 0.1 · 30 is above 3 in binary


@pytest.mark.parametrize("ratio", [0.0, -0.5, 1.5, float("nan")])
def test_impossible_shares_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio must be above 0"):
        kept_count(ratio, torch.tensor([3]))


def test_k_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        hard_top_k(torch.zeros(1, 3), 0)


def test_numbers_that_are_none_are_not_hidden() -> None:
    scores = torch.tensor([[1.0, math.nan, 3.0, 2.0], [1.0, math.inf, 3.0, 2.0], [1.0, -math.inf, 3.0, 2.0]])
    kept = hard_top_k(scores, 2)
    assert kept[0, 1]
    assert kept[1:].tolist() == [[False, True, True, False], [False, False, True, True]]
