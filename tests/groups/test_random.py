"""Random elements: moments of the Haar measure, seeds, generators."""

import pytest
import torch

from lie_sim.groups import FiniteGroup, group

COUNT = 20_000
SIGMAS = 5.0  # of the sampling error; the seeds are fixed, so a passing test keeps passing


def within(sample: torch.Tensor, expected: float, deviation: float) -> None:
    error = (sample.mean(0) - expected).abs().max().item()
    limit = SIGMAS * deviation / len(sample) ** 0.5
    assert error <= limit, f"mean is off by {error:.2e} > {limit:.2e}"


@pytest.mark.parametrize("name", ["SO(2)", "SO(3)", "O(2)", "O(3)", "C5", "D4", "T", "O", "I"])
def test_first_and_second_moments_are_those_of_the_haar_measure(name: str) -> None:
    chosen = group(name)
    u = chosen.random((COUNT,), 0, dtype=torch.float64)
    n = chosen.space_dim
    within(u, 0.0, n**-0.5)  # E[u] = 0 and E[u_ij²] = 1/n: no invariant vector, one invariant quadratic form
    squares = torch.einsum("bi,bj->bij", u[:, :, 0], u[:, :, 0]) - torch.eye(n, dtype=u.dtype) / n
    within(squares, 0.0, 0.5)


def test_angle_of_so3_has_the_density_one_minus_cos() -> None:
    angle = group("SO(3)").distance(*group("SO(3)").random((2, COUNT), 0, dtype=torch.float64))
    within(angle.cos(), -0.5, 0.5)
    within((2 * angle).cos(), 0.0, 0.71)


@pytest.mark.parametrize("name", ["O(2)", "O(3)", "E(3)", "D4"])
def test_half_of_the_elements_are_improper(name: str) -> None:
    u = group(name).random((COUNT,), 0, dtype=torch.float64)
    within(torch.linalg.det(u), 0.0, 1.0)


def test_translations_and_scalings_have_the_stated_size() -> None:
    t = group("T(3)").random((COUNT,), 0, scale=2.0, dtype=torch.float64)[:, :3, 3]
    within(t.square(), 4.0, 4.0 * 2**0.5)
    log = group("R>0xSO(2)").log(group("R>0xSO(2)").random((COUNT,), 0, scale=0.5, dtype=torch.float64))
    within(log[:, 0].square(), 0.25, 0.25 * 2**0.5)


@pytest.mark.parametrize(("name", "angles"), [("SO(3)", 1), ("O(3)", 2), ("SE(2)", 1)])
def test_stabiliser_samples_are_uniform(name: str, angles: int) -> None:
    chosen = group(name)
    kept = chosen.stabiliser_random((COUNT,), 0, dtype=torch.float64)
    block = kept[:, 1:3, 1:3] if chosen.space_dim == 3 else kept[:, :2, :2]
    within(block, 0.0, 0.71)
    within(torch.linalg.det(block), 1.0 if angles == 1 else 0.0, 1e-9 if angles == 1 else 1.0)


def test_all_elements_of_a_finite_group_are_equally_likely() -> None:
    chosen = group("I")
    assert isinstance(chosen, FiniteGroup)
    counts = torch.bincount(chosen.index_of(chosen.random((COUNT,), 0)), minlength=60)
    chi2 = ((counts - COUNT / 60) ** 2 / (COUNT / 60)).sum().item()
    assert chi2 < 59 + SIGMAS * (2 * 59) ** 0.5


@pytest.mark.parametrize("name", ["SE(3)", "E(2)", "T(3)xI", "R>0xSO(2)", "O(3)"])
def test_seeds_and_generators(name: str) -> None:
    chosen = group(name)
    generator = torch.Generator().manual_seed(3)
    first, second = chosen.random((4,), generator), chosen.random((4,), generator)
    assert torch.equal(first, chosen.random((4,), 3))
    assert not torch.equal(first, second)
    assert chosen.random((2,), 3, dtype=torch.float64).dtype == torch.float64
