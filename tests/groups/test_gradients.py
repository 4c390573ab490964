"""Automatic first and second gradients against finite differences, at the identity and elsewhere."""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from lie_sim.groups import group

NAMES = ["T(2)", "T(3)", "SO(2)", "SO(3)", "SE(2)", "SE(3)", "R>0xSO(2)"]
ANGLES = [0.0, 1e-3, 0.6, 0.64, 1.0, 2.0, math.pi - 1e-3]  # both sides of every switch of the series
STEP = 1e-6
ABSOLUTE, RELATIVE = 1e-6, 1e-5  # of central differences with that step


def algebra_at(name: str, angle: float, count: int = 2) -> torch.Tensor:
    """Elements of the algebra with a given rotation angle; all zero for the angle 0."""
    chosen = group(name)
    generator = torch.Generator().manual_seed(5)
    algebra = torch.randn(count, chosen.dim, generator=generator, dtype=torch.float64)
    if angle == 0.0:
        return torch.zeros_like(algebra)
    turning = {"SO(2)": slice(0, 1), "SE(2)": slice(0, 1), "SO(3)": slice(0, 3), "SE(3)": slice(0, 3)}
    part = turning.get(name, slice(1, 2) if name == "R>0xSO(2)" else slice(0, 0))
    algebra[:, part] *= angle / algebra[:, part].norm(dim=-1, keepdim=True)
    return algebra


def check(function: object, *inputs: torch.Tensor) -> None:
    leaves = tuple(x.detach().clone().requires_grad_() for x in inputs)
    assert gradcheck(function, leaves, eps=STEP, atol=ABSOLUTE, rtol=RELATIVE, fast_mode=True)
    assert gradgradcheck(function, leaves, eps=STEP, atol=1e2 * ABSOLUTE, rtol=1e2 * RELATIVE, fast_mode=True)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_exp_and_log(name: str, angle: float) -> None:
    chosen = group(name)
    algebra = algebra_at(name, angle)
    check(chosen.exp, algebra)
    check(chosen.log, chosen.exp(algebra))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_pair_feature_on_and_off_the_diagonal(name: str) -> None:
    chosen = group(name)
    u = chosen.random((2,), 0, dtype=torch.float64)
    check(chosen.relative_pose, u[:, None], u[None, :])


@pytest.mark.parametrize("name", [*NAMES, "O(2)", "O(3)", "E(3)", "T(2)xC4", "T(2)xD3"])
def test_gradients_of_action_adjoint_and_distance(name: str) -> None:
    chosen = group(name)
    u, v = chosen.random((2, 2), 0, dtype=torch.float64)
    x = torch.randn(2, chosen.space_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check(chosen.act, u, x)
    check(chosen.inverse, u)
    if name not in ("SO(2)", "R>0xSO(2)"):  # there it is constant
        check(chosen.adjoint, u)
    if name != "O(2)":  # the angle between these two is exactly π apart from rounding, or constant
        check(chosen.distance, u, v)


@pytest.mark.parametrize("name", ["SO(2)", "SO(3)", "R>0xSO(2)", "SE(3)"])
def test_gradients_of_section_and_orbit(name: str) -> None:
    chosen = group(name)
    x = torch.randn(4, chosen.space_dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    check(chosen.section, x)
    check(chosen.orbit_coordinates, x)
