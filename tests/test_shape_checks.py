"""The suite's own net: signatures are verified in every test, but not in every turn of a loop."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from jaxtyping import TypeCheckError

from lie_sim.lifting import compress
from tests.conftest import VERIFIED


@pytest.mark.parametrize("turn", range(2))
def test_the_first_calls_are_verified(turn: int) -> None:
    del turn  # the second one finds the checks on again
    with pytest.raises(TypeCheckError):
        compress(torch.arange(3))
    for _ in range(VERIFIED):
        compress(torch.zeros(3))
    assert jaxtyping.config.jaxtyping_disable
    assert compress(torch.arange(3)).shape == (3,)
