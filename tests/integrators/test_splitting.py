"""Every claim of the coefficient table against a measurement, every measurement against a broken table."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim.integrators import SplittingMethod, get_method, integrate, splitting_methods

ORDER_TOLERANCE = 0.1  # on the slope of log(error) over a factor of 2 in the step
FINEST = {
    1: 1024,
    2: 256,
    4: 256,
    6: 48,
    8: 32,
}  # steps: asymptotic, and above round-off; measured: within 0.02
SYMPLECTIC_DEFECT = 1e-14  # measured: up to 3e-16
REVERSAL_ERROR = 1e-13  # 200 steps of round-off; measured: up to 4e-16
ALL = pytest.mark.parametrize("method", splitting_methods(), ids=lambda method: method.name)

START = ((0.3, -0.2), (0.1, 0.25))
DURATION = 8.0


class HenonHeiles:
    """V = (x² + y²)/2 + x²y − y³/3, unit mass; q has the shape (B, 1, 2)."""

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x - 2 * x * y, -y - x.square() + y.square()], -1)

    def velocity(self, p: Tensor) -> Tensor:
        return p


def henon_heiles_rate(_: float, z: np.ndarray) -> np.ndarray:
    x, y, px, py = z
    return np.array([px, py, -x - 2 * x * y, -y - x * x + y * y])


@pytest.fixture(scope="module")
def truth() -> Tensor:
    solution = solve_ivp(
        henon_heiles_rate, (0, DURATION), [*START[0], *START[1]], "DOP853", rtol=3e-14, atol=1e-15
    )
    return torch.tensor(solution.y[:, -1])


def start() -> tuple[Tensor, Tensor]:
    q, p = (torch.tensor(part, dtype=torch.float64).reshape(1, 1, 2) for part in START)
    return q, p


def final_error(method: SplittingMethod, num_steps: int, truth: Tensor) -> float:
    q, p = integrate(
        HenonHeiles(),
        *start(),
        step_size=DURATION / num_steps,
        num_steps=num_steps,
        method=method,
        save_every=num_steps,
    )
    return float((torch.cat([q[0, -1], p[0, -1]]).flatten() - truth).norm())


def order_slope(method: SplittingMethod, truth: Tensor, finest: int | None = None) -> float:
    finest = finest or FINEST[method.order]
    return math.log2(final_error(method, finest // 2, truth) / final_error(method, finest, truth))


def mutated(method: SplittingMethod, **coefficients: tuple[float, ...]) -> SplittingMethod:
    """A method with other coefficients, past the constructor's check of their sum."""
    broken = copy.copy(method)
    for name, values in coefficients.items():
        object.__setattr__(broken, name, values)
    vars(broken).pop("stages", None)
    return broken


def with_added(values: tuple[float, ...], index: int, amount: float) -> tuple[float, ...]:
    return tuple(value + amount * (i == index) for i, value in enumerate(values))


@ALL
def test_order_is_as_declared(method: SplittingMethod, truth: Tensor) -> None:
    slope = order_slope(method, truth)
    assert abs(slope - method.order) < ORDER_TOLERANCE, (
        f"{method.name}: slope {slope:.3f}, declared {method.order}"
    )


@ALL
@pytest.mark.parametrize("kind", ["kicks", "drifts"])
def test_order_test_notices_any_broken_coefficient(kind: str, method: SplittingMethod, truth: Tensor) -> None:
    change = 1e-2 if method.order == 1 else 1e-3
    for index in range(len(getattr(method, kind))):
        broken = mutated(method, **{kind: with_added(getattr(method, kind), index, change)})
        assert order_slope(broken, truth) < method.order - ORDER_TOLERANCE, (
            f"{kind}[{index}] of {method.name}"
        )


@pytest.mark.parametrize("name", ["yoshida4", "pefrl"])
def test_order_test_notices_a_change_in_the_sixth_digit(name: str, truth: Tensor) -> None:
    method = get_method(name)
    broken = mutated(method, kicks=with_added(method.kicks, 0, 1e-6))
    finest = 1024
    assert abs(order_slope(method, truth, finest) - 4) < ORDER_TOLERANCE
    assert order_slope(broken, truth, finest) < 4 - ORDER_TOLERANCE


@pytest.mark.parametrize("name", ["yoshida4", "pefrl"])
def test_order_test_notices_a_consistent_but_wrong_table(name: str, truth: Tensor) -> None:
    """Coefficients that still sum to 1 and read the same backwards give order 2."""
    method = get_method(name)
    kicks = with_added(with_added(method.kicks, 0, 0.05), len(method.kicks) - 1, 0.05)
    inner = range(1, len(kicks) - 1)
    for index in inner:
        kicks = with_added(kicks, index, -0.1 / len(inner))
    slope = order_slope(replace(method, kicks=kicks), truth, finest=1024)
    assert abs(slope - 2) < ORDER_TOLERANCE, f"slope {slope:.3f}"


def test_pefrl_is_far_more_accurate_than_yoshida4_for_the_same_work(truth: Tensor) -> None:
    work = 384
    errors = {
        name: final_error(get_method(name), work // get_method(name).forces_per_step, truth)
        for name in ("pefrl", "yoshida4")
    }
    assert errors["pefrl"] < errors["yoshida4"] / 50, errors


def jacobian(step: object) -> Tensor:
    z = torch.tensor([*START[0], *START[1]], dtype=torch.float64)
    return torch.autograd.functional.jacobian(step, z)


def symplectic_defect(jacobian: Tensor) -> float:
    omega = torch.kron(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), torch.eye(2)).double()
    return float((jacobian.T @ omega @ jacobian - omega).abs().max())


@ALL
def test_step_is_symplectic(method: SplittingMethod) -> None:
    def step(z: Tensor) -> Tensor:
        q, p = z.reshape(2, 1, 1, 2).unbind()
        q, p = integrate(HenonHeiles(), q, p, step_size=0.3, num_steps=2, method=method)
        return torch.cat([q[0, -1], p[0, -1]]).flatten()

    defect = symplectic_defect(jacobian(step))
    assert method.symplectic
    assert defect < SYMPLECTIC_DEFECT, f"{defect:.1e} > {SYMPLECTIC_DEFECT:.1e}"


def test_symplecticity_test_notices_rk4() -> None:
    def rate(z: Tensor) -> Tensor:
        q, p = z.reshape(2, 1, 1, 2).unbind()
        return torch.cat([p.flatten(), HenonHeiles().force(q).flatten()])

    def step(z: Tensor, h: float = 0.3) -> Tensor:
        k1 = rate(z)
        k2 = rate(z + h / 2 * k1)
        k3 = rate(z + h / 2 * k2)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(z + h * k3))

    assert symplectic_defect(jacobian(step)) > 1e6 * SYMPLECTIC_DEFECT


def reversal_error(method: SplittingMethod) -> float:
    q0, p0 = start()
    q, p = integrate(HenonHeiles(), q0, p0, step_size=0.1, num_steps=100, method=method, save_every=100)
    q, p = integrate(
        HenonHeiles(), q[:, -1], p[:, -1], step_size=-0.1, num_steps=100, method=method, save_every=100
    )
    return float(torch.maximum((q[:, -1] - q0).abs().max(), (p[:, -1] - p0).abs().max()))


@ALL
def test_step_back_undoes_step_forth_where_declared(method: SplittingMethod) -> None:
    if not method.reversible:
        assert method.stages[0].is_kick != method.stages[-1].is_kick  # does not read the same backwards
        return
    error = reversal_error(method)
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"


def test_reversal_test_notices_an_asymmetric_method() -> None:
    assert reversal_error(get_method("symplectic_euler")) > 1e6 * REVERSAL_ERROR


def test_as_many_kicks_as_drifts_work_too() -> None:
    euler = get_method("symplectic_euler")
    assert euler.forces_per_step == 1
    assert not euler.first_same_as_last


def test_published_coefficients() -> None:
    """Values typed from the papers, not computed as in the table."""
    assert get_method("yoshida4").drifts == pytest.approx(
        (1.3512071919596578, -1.7024143839193153, 1.3512071919596578)
    )
    pefrl = get_method("pefrl")
    assert get_method("velocity_verlet") is get_method("leapfrog")
    assert pefrl.drifts[:2] == (0.1786178958448091, -0.06626458266981849)
    assert pefrl.kicks[1] == -0.2123418310626054


def test_names_are_unique_and_every_method_has_a_source() -> None:
    names = [method.name for method in splitting_methods()]
    assert len(set(names)) == len(names)
    assert all(
        get_method(method.name) is method and len(method.citation) > 20 for method in splitting_methods()
    )


def test_wrong_tables_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kicks must sum to 1, got 1\.000001"):
        replace(get_method("leapfrog"), kicks=(0.5, 0.500001))
    with pytest.raises(ValueError, match="does not read the same backwards, so it is not reversible"):
        SplittingMethod("ruth3", 3, (7 / 24, 3 / 4, -1 / 24), (2 / 3, -2 / 3, 1.0), "")
    with pytest.raises(ValueError, match="must alternate"):
        SplittingMethod("bad", 2, kicks=(0.5, 0.25, 0.25), drifts=(1.0,), citation="")
    with pytest.raises(ValueError, match="leapfrog has no option omega; it has no options of its own"):
        get_method("leapfrog", omega=2.0)
    with pytest.raises(
        ValueError, match=r"unknown method 'verlet'; choose one of symplectic_euler, leapfrog, "
    ):
        get_method("verlet")
