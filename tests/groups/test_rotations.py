"""SO(2), SO(3), SE(2), SE(3): round trips up to π, and agreement with independent formulas."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from lie_sim.groups import group, matrix_from_quaternion, quaternion_from_matrix
from lie_sim.groups.rotations import (
    so2_left_jacobian,
    so2_left_jacobian_inverse,
    so3_exp,
    so3_left_jacobian,
    so3_left_jacobian_inverse,
    so3_log,
)
from lie_sim.groups.series import angle_ratio, cosc, half_cot, sinc, sincc

DTYPES = [torch.float32, torch.float64]
ROUND_TRIP = {torch.float32: 1e-5, torch.float64: 1e-10}  # required; the largest entries are about π
SERIES = {torch.float32: 5e-7, torch.float64: 2e-15}  # relative, a few units in the last place
EXPONENTIAL = 1e-12  # float64, against scipy and torch.matrix_exp
ANGLES = [0.0, 1e-30, 1e-8, 1e-4, 1e-2, 0.1, 0.5, 0.6, 0.65, 0.99, 1.01, 1.9, 2.1, 3.0]
NEAR_PI = [math.pi - gap for gap in (1e-2, 1e-3, 2e-4, 1e-4)]


def rotation_vectors(angle: float, dtype: torch.dtype) -> torch.Tensor:
    """200 random axes and all signed sums of basis vectors, times an angle."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    corners = corners[corners.norm(dim=-1) > 0]
    axes = torch.cat([torch.randn(200, 3, generator=generator, dtype=torch.float64), corners])
    return (angle * axes / axes.norm(dim=-1, keepdim=True)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", ANGLES + NEAR_PI)
@pytest.mark.parametrize("name", ["SO(2)", "SE(2)", "SO(3)", "SE(3)", "R>0xSO(2)"])
def test_log_inverts_exp_for_angles_up_to_pi(name: str, angle: float, dtype: torch.dtype) -> None:
    chosen = group(name)
    if chosen.space_dim == 3:
        turn = rotation_vectors(angle, dtype)
    else:
        turn = torch.tensor([[angle], [-angle]], dtype=dtype)
    extra = torch.randn(len(turn), chosen.dim - turn.shape[-1], generator=torch.Generator().manual_seed(1))
    order = [extra.to(dtype), turn] if name == "R>0xSO(2)" else [turn, extra.to(dtype)]
    algebra = torch.cat(order, dim=-1)
    error = (chosen.log(chosen.exp(algebra)) - algebra).abs().max().item()
    assert error <= ROUND_TRIP[dtype], f"{error:.2e} > {ROUND_TRIP[dtype]} at angle {angle}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_inverts_log_for_half_turns(dtype: torch.dtype) -> None:
    half_turns = so3_exp(rotation_vectors(math.pi, dtype))
    error = (so3_exp(so3_log(half_turns)) - half_turns).abs().max().item()
    assert error <= ROUND_TRIP[dtype], f"{error:.2e}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_rotations_keep_their_relative_accuracy(dtype: torch.dtype) -> None:
    v = rotation_vectors(1e-6, dtype)
    relative = ((so3_log(so3_exp(v)) - v).norm(dim=-1) / 1e-6).max().item()
    assert relative <= 10 * torch.finfo(dtype).eps, f"{relative:.2e}"


@pytest.mark.parametrize("angle", ANGLES + NEAR_PI)
def test_exp_and_log_agree_with_scipy(angle: float) -> None:
    v = rotation_vectors(angle, torch.float64)
    truth = Rotation.from_rotvec(v.numpy())
    assert np.abs(so3_exp(v).numpy() - truth.as_matrix()).max() <= EXPONENTIAL
    assert np.abs(so3_log(torch.from_numpy(truth.as_matrix())).numpy() - truth.as_rotvec()).max() <= 1e-11


def test_quaternion_and_matrix_are_inverse_and_w_is_not_negative() -> None:
    quaternion = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    found = quaternion_from_matrix(matrix_from_quaternion(quaternion))
    assert (found[:, 0] >= 0).all()
    expected = quaternion * quaternion[:, :1].sign()
    assert (found - expected).abs().max() <= EXPONENTIAL


@pytest.mark.parametrize("angle", ANGLES + NEAR_PI + [math.pi])
def test_left_jacobians_have_their_inverses(angle: float) -> None:
    v = rotation_vectors(angle, torch.float64)
    product = so3_left_jacobian(v) @ so3_left_jacobian_inverse(v)
    assert (product - torch.eye(3, dtype=torch.float64)).abs().max() <= EXPONENTIAL
    theta = torch.tensor([angle, -angle], dtype=torch.float64)
    product = so2_left_jacobian(theta) @ so2_left_jacobian_inverse(theta)
    assert (product - torch.eye(2, dtype=torch.float64)).abs().max() <= EXPONENTIAL


def references(theta: float) -> list[float]:
    """The four functions of θ by their own Taylor series in exact integers, independent of the switch."""
    terms = range(40)
    x = theta * theta
    return [math.fsum((-x) ** k / math.factorial(2 * k + offset) for k in terms) for offset in (1, 2, 3)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("theta", [0.0, 0.1, 0.9999, 1.0001, 1.9999, 2.0001, 3.0, math.pi])
def test_coefficients_on_both_sides_of_their_switch(theta: float, dtype: torch.dtype) -> None:
    x = torch.tensor(theta, dtype=dtype).square()
    exact = references(math.sqrt(x.item()))
    for function, truth in zip([sinc, cosc, sincc], exact, strict=True):
        error = abs(function(x).item() - truth)
        assert error <= SERIES[dtype], f"{function.__name__}: {error:.1e}"
    if theta > 0:
        half = math.sqrt(x.item()) / 2
        truth = (math.sin(half) - half * math.cos(half)) / (math.sin(half) * 4 * half * half)
        slack = 1e-13 if theta < 1 else SERIES[dtype]  # the plain formula itself cancels for small angles
        assert abs(half_cot(x).item() - truth) <= max(slack, SERIES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("s2", [0.0, 1e-20, 0.05, 0.0999999, 0.1000001, 0.5, 1.0])
def test_angle_ratio_is_twice_the_arcsine_over_its_argument(s2: float, dtype: torch.dtype) -> None:
    x = torch.tensor(s2, dtype=dtype)
    s = math.sqrt(x.item())
    truth = 2 * math.asin(min(s, 1.0)) / s if s else 2.0
    found = angle_ratio(x, (1 - x).clamp_min(0).sqrt()).item()
    assert abs(found - truth) <= 4 * SERIES[dtype], f"{abs(found - truth):.1e}"


@pytest.mark.parametrize(
    "name", ["SO(2)", "SO(3)", "SE(2)", "SE(3)", "R>0xSO(2)", "T(3)", "O(3)", "T(2)xC4", "E(2)"]
)
def test_exp_is_the_matrix_exponential_of_hat(name: str) -> None:
    chosen = group(name)
    generator = torch.Generator().manual_seed(0)
    algebra = torch.randn(100, chosen.dim, generator=generator, dtype=torch.float64)
    error = (chosen.exp(algebra) - torch.matrix_exp(chosen.hat(algebra))).abs().max().item()
    assert error <= EXPONENTIAL, f"{error:.2e}"
