"""The measurement of a symmetry: small for a model that has it, large for one that has not."""

from __future__ import annotations

import pytest
import torch

from lie_sim.experiments.symmetry import TOLERANCES, before_and_after, invariance_error
from lie_sim.models import FullyConnected, FullyConnectedConfig, LieTransformer
from lie_sim.state import Particles

BROKEN = 0.1  # of std(E)


@pytest.fixture
def system() -> tuple[torch.Tensor, Particles]:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(16, 6, 2, generator=generator, dtype=torch.float64)
    return q, Particles(masses=torch.ones(16, 6, dtype=torch.float64))


def test_a_broken_symmetry_is_seen(system: tuple[torch.Tensor, Particles]) -> None:
    torch.manual_seed(0)
    broken = FullyConnected(FullyConnectedConfig(num_particles=6)).double()
    exact = LieTransformer.default(dim=2).double()
    assert invariance_error(broken, "SE(2)", *system) > BROKEN
    assert invariance_error(exact, "SE(2)", *system) <= TOLERANCES[torch.float64]


def test_rows_name_model_and_dtype_and_judge(system: tuple[torch.Tensor, Particles]) -> None:
    torch.manual_seed(0)
    broken = FullyConnected(FullyConnectedConfig(num_particles=6)).double()
    exact = LieTransformer.default(dim=2).double()
    rows = before_and_after(exact, broken, ["T(2)", "SE(2)"], *system)
    found = {(row.symmetry, row.dtype, row.when): row.passed for row in rows}
    assert len(found) == len(rows) == 8
    failed = {key for key, passed in found.items() if not passed}
    assert failed == {("SE(2)", dtype, "after training") for dtype in ("float64", "float32")}
    assert next(exact.parameters()).dtype == torch.float64  # measured on copies
