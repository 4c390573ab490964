"""Methods on Lie groups: exact where the velocity is constant, of the declared order elsewhere, never off the group."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import lie_sim.integrators.lie_algebra as lie_algebra
import lie_sim.integrators.lie_group as lie_group
from lie_sim.groups import SE2, SE3, SO2, SO3, Cyclic, LieGroup, ScaledRotation2, Translation, rotations
from lie_sim.integrators import (
    CommutatorFree,
    Method,
    MuntheKaas,
    RigidBodyDynamics,
    advance,
    get_method,
    integrate,
)
from lie_sim.systems import FreeRigidBody, HeavyTop, RigidBodySystem

ORDER_TOLERANCE = 0.1  # on the slope of log(error) over a factor of 4 in the step, above round-off
ROUND_OFF = 1e-13  # some hundred rounding errors; measured: up to 3e-15
EQUIVARIANCE_ERROR = 1e-12  # 100 steps; measured: up to 2e-15
GROUP_DEFECT = 2e-15  # one rounding error, whatever the time; measured: up to 2e-16, without the return 6e-15
GENERIC = [get_method(n) for n in ("lie_euler", "crouch_grossman3", "rkmk4", "commutator_free4")]
SPLITTINGS = [get_method(n) for n in ("rigid_body_splitting", "rigid_body_splitting4")]
FINEST = {1: 512, 2: 128, 3: 64, 4: 64}
LIE = pytest.mark.parametrize("method", GENERIC, ids=lambda method: method.name)
ALL = pytest.mark.parametrize("method", [*GENERIC, *SPLITTINGS], ids=lambda method: method.name)
GROUPS = pytest.mark.parametrize(
    "group", [SO2(), SO3(), SE2(), SE3(), ScaledRotation2(), Translation(2)], ids=lambda group: group.name
)
BODIES: list[RigidBodySystem] = [FreeRigidBody(), HeavyTop(weight=1.5, centre=(0.6, 0.0, 0.8))]


class Driven:
    """A velocity and a momentum that depend on both g and μ in no special way."""

    def __init__(self, group: LieGroup, k: int = 2) -> None:
        self.group = group
        generator = torch.Generator().manual_seed(4)
        rows, m = group.dim + k, group.matrix_size**2 + k
        self.weights = torch.randn(rows, m, generator=generator, dtype=torch.float64) / math.sqrt(m)

    def rates(self, g: Tensor, mu: Tensor) -> Tensor:
        return torch.sin(torch.cat([g.flatten(-2), mu], dim=-1) @ self.weights.to(mu).T)

    def algebra_velocity(self, g: Tensor, mu: Tensor) -> Tensor:
        return self.rates(g, mu)[..., : self.group.dim]

    def momentum_rate(self, g: Tensor, mu: Tensor) -> Tensor:
        return self.rates(g, mu)[..., self.group.dim :]

    def start(self) -> tuple[Tensor, Tensor]:
        return self.group.random((1,), 0, dtype=torch.float64), torch.tensor([[0.4, -0.7]]).double()


class Steady:
    """A constant velocity."""

    def __init__(self, group: LieGroup) -> None:
        self.group = group
        self.velocity = torch.linspace(-0.8, 1.1, group.dim, dtype=torch.float64)

    def algebra_velocity(self, g: Tensor, mu: Tensor) -> Tensor:
        return self.velocity.expand(*mu.shape[:-1], -1)

    def momentum_rate(self, g: Tensor, mu: Tensor) -> Tensor:
        return torch.ones_like(mu)


def started(problem: Any) -> tuple[Any, Tensor, Tensor]:
    """Dynamics and initial state."""
    if isinstance(problem, RigidBodySystem):
        g, mu = problem.sample(1, generator=torch.Generator().manual_seed(0))
        return RigidBodyDynamics.from_system(problem), g, mu
    return problem, *problem.start()


def truth(problem: Any, duration: float) -> Tensor:
    """DOP853 on the entries of the matrix: nothing of the methods or of exp is used."""
    dynamics, g, mu = started(problem)
    m = g.shape[-1]

    def rate(_: float, z: np.ndarray) -> np.ndarray:
        u, v = torch.tensor(z[: m * m]).reshape(1, m, m), torch.tensor(z[m * m :])[None]
        with torch.no_grad():
            turned = u @ dynamics.group.hat(dynamics.algebra_velocity(u, v))
            return torch.cat([turned.flatten(), dynamics.momentum_rate(u, v).flatten()]).numpy()

    begin = torch.cat([g.flatten(), mu.flatten()]).numpy()
    solution = solve_ivp(rate, (0, duration), begin, "DOP853", rtol=3e-14, atol=1e-15)
    return torch.tensor(solution.y[:, -1])


@pytest.fixture(scope="module")
def truths() -> dict[str, tuple[Any, Tensor]]:
    problems = [*BODIES, Driven(SE3())]
    names = ["free body", "heavy top", "driven"]
    return {name: (problem, truth(problem, 2.0)) for name, problem in zip(names, problems, strict=True)}


def final_error(method: Method, num_steps: int, problem: Any, expected: Tensor) -> float:
    dynamics, g, mu = started(problem)
    with torch.no_grad():
        g, mu, _ = advance(dynamics, g, mu, step_size=2.0 / num_steps, num_steps=num_steps, method=method)
    return float((torch.cat([g.flatten(), mu.flatten()]) - expected).norm())


def order_slope(method: Method, problem: Any, expected: Tensor) -> float:
    finest = FINEST[method.order]
    coarse, fine = (final_error(method, n, problem, expected) for n in (finest // 4, finest))
    return math.log2(coarse / fine) / 2


@ALL
@pytest.mark.parametrize("name", ["free body", "heavy top"])
def test_order_is_as_declared_for_rigid_bodies(name: str, method: Method, truths: Any) -> None:
    slope = order_slope(method, *truths[name])
    assert abs(slope - method.order) < ORDER_TOLERANCE, (
        f"{method.name}: slope {slope:.3f}, declared {method.order}"
    )


@LIE
def test_order_is_as_declared_on_se3(method: Method, truths: Any) -> None:
    slope = order_slope(method, *truths["driven"])
    assert abs(slope - method.order) < ORDER_TOLERANCE, (
        f"{method.name}: slope {slope:.3f}, declared {method.order}"
    )


@pytest.mark.parametrize("name", ["free body", "heavy top", "driven"])
def test_order_test_notices_exponentials_in_the_wrong_order(name: str, truths: Any) -> None:
    method = get_method("commutator_free4")
    *stages, result = method.products
    slope = order_slope(replace(method, products=(*stages, result[::-1])), *truths[name])
    assert slope < method.order - 5 * ORDER_TOLERANCE, f"slope {slope:.3f}"


@pytest.mark.parametrize("sign", [0, -1], ids=["no commutator", "wrong sign"])
def test_order_test_notices_wrong_commutators(
    sign: int, truths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = lie_algebra.inverse_dexp
    monkeypatch.setattr(lie_group, "inverse_dexp", lambda c, u, xi: right(c, sign * u, xi))
    slope = order_slope(get_method("rkmk4"), *truths["heavy top"])
    assert slope < 4 - 5 * ORDER_TOLERANCE, f"slope {slope:.3f}"


@pytest.mark.parametrize("index", range(3))
def test_order_test_notices_a_changed_weight(index: int, truths: Any) -> None:
    method = get_method("crouch_grossman3")
    *stages, result = method.products
    other = (index + 1) % 3
    changed = [list(weights) for weights in result]
    changed[index][index] += 1e-3
    changed[other][other] -= 1e-3
    broken = replace(method, products=(*stages, tuple(map(tuple, changed))))
    assert order_slope(broken, *truths["free body"]) < 3 - 5 * ORDER_TOLERANCE


@LIE
@GROUPS
def test_constant_velocity_is_exact(group: LieGroup, method: Method) -> None:
    steady = Steady(group)
    g, mu = group.random((2,), 0, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    later, momentum, _ = advance(steady, g, mu, step_size=0.1, num_steps=20, method=method)
    exact = group.compose(g, group.exp(2.0 * steady.velocity))
    assert (later - exact).abs().max() < ROUND_OFF * exact.abs().max()
    assert (momentum - 2.0).abs().max() < ROUND_OFF


@GROUPS
def test_bracket_is_the_commutator_of_matrices(group: LieGroup) -> None:
    u, v = torch.randn(2, 5, group.dim, dtype=torch.float64)
    x, y = group.hat(u), group.hat(v)
    found = group.hat(lie_algebra.bracket(lie_algebra.structure_constants(group, u), u, v))
    assert (found - (x @ y - y @ x)).abs().max() < ROUND_OFF


def test_inverse_dexp_is_the_right_jacobian_up_to_fourth_order() -> None:
    u, xi = torch.randn(2, 3, dtype=torch.float64)
    constants = lie_algebra.structure_constants(SO3(), u)

    def error(scale: float) -> float:
        exact = rotations.so3_left_jacobian_inverse(-scale * u) @ xi
        return float((lie_algebra.inverse_dexp(constants, scale * u, xi) - exact).norm())

    assert abs(math.log2(error(0.1) / error(0.05)) - 4) < ORDER_TOLERANCE


@ALL
def test_left_multiplication_commutes_with_the_free_motion(method: Method) -> None:
    body = FreeRigidBody()
    g, mu = body.sample(4, generator=torch.Generator().manual_seed(0))
    turn = SO3().random((), 3, dtype=torch.float64)
    moved, same, _ = advance(body, turn @ g, mu, step_size=0.05, num_steps=100, method=method)
    later, momentum, _ = advance(body, g, mu, step_size=0.05, num_steps=100, method=method)
    error = (moved - turn @ later).abs().max().item()
    assert error < EQUIVARIANCE_ERROR, f"{error:.1e} > {EQUIVARIANCE_ERROR:.1e}"
    assert torch.equal(same, momentum)


def defect(rotation: Tensor) -> float:
    return float((rotation.mT @ rotation - torch.eye(3, dtype=rotation.dtype)).abs().max())


def after(method: Method, num_steps: int, dtype: torch.dtype = torch.float64) -> Tensor:
    body = FreeRigidBody()
    g, mu = body.sample(4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return advance(body, g.to(dtype), mu.to(dtype), step_size=0.02, num_steps=num_steps, method=method)[0]


@ALL
def test_rotations_stay_rotations(method: Method) -> None:
    """The defect does not depend on the number of steps; 1e5 steps were measured once: up to 3.3e-16."""
    error = defect(after(method, 300))
    assert error < GROUP_DEFECT, f"{error:.1e} > {GROUP_DEFECT:.1e}"
    single = after(method, 100, torch.float32)
    assert single.dtype == torch.float32
    assert defect(single) < 2e-15 * 2**29


def test_rotations_drift_off_without_the_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lie_group, "back_to_group", lambda group, g, moved: g)
    assert defect(after(get_method("commutator_free4"), 500)) > 2 * GROUP_DEFECT  # grows as the root of time


def test_return_to_the_group_goes_to_the_nearest_rotation() -> None:
    r = SO3().random((8,), 0, dtype=torch.float64)
    disturbed = r + 1e-7 * torch.randn(8, 3, 3, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(disturbed)
    assert (lie_algebra.orthogonalised(disturbed) - u @ vh).abs().max() < ROUND_OFF


@ALL
def test_systems_of_a_batch_do_not_see_each_other(method: Method) -> None:
    top = BODIES[1]
    g, mu = top.sample(3, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([0.05, 0.0, -0.03], dtype=torch.float64)
    later, momentum, _ = advance(top, g, mu, step_size=steps, num_steps=10, method=method)
    for b, h in enumerate(steps.tolist()):
        one = slice(b, b + 1)
        alone = advance(top, g[one], mu[one], step_size=h, num_steps=10, method=method)
        assert (later[one] - alone[0]).abs().max() < ROUND_OFF
        assert (momentum[one] - alone[1]).abs().max() < ROUND_OFF
    assert torch.equal(later[1], g[1])  # a step of length 0
    assert torch.equal(momentum[1], mu[1])


@LIE
@GROUPS
def test_step_of_length_zero_changes_nothing(group: LieGroup, method: Method) -> None:
    driven = Driven(group)
    g, mu = driven.start()
    g = g.clone()
    g[..., :2, :2] += 1e-9  # off the group: not even this is corrected
    for h in (0.0, torch.zeros(1)):
        later, momentum, _ = advance(driven, g, mu, step_size=h, num_steps=3, method=method)
        assert torch.equal(later, g)
        assert torch.equal(momentum, mu)


@ALL
def test_resumed_run_is_the_same_to_the_bit(method: Method) -> None:
    top = BODIES[1]
    g, mu = top.sample(2, generator=torch.Generator().manual_seed(0))
    whole = advance(top, g, mu, step_size=0.05, num_steps=10, method=method)
    first = advance(top, g, mu, step_size=0.05, num_steps=4, method=method)
    rest = advance(top, *first[:2], step_size=0.05, num_steps=6, method=method, memory=first[2])
    assert torch.equal(whole[0], rest[0])
    assert torch.equal(whole[1], rest[1])
    assert whole[2].keys() == rest[2].keys()


@ALL
def test_gradient_is_that_of_the_steps(method: Method) -> None:
    top = BODIES[1]
    g, mu = top.sample(1, generator=torch.Generator().manual_seed(0))
    inertia = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def end(g: Tensor, mu: Tensor, h: Tensor, inertia: Tensor) -> tuple[Tensor, Tensor]:
        dynamics = RigidBodyDynamics(top.potential, inertia=inertia)
        return advance(dynamics, g, mu, step_size=h, num_steps=2, method=method)[:2]

    inputs = (g, mu, torch.tensor([0.1], dtype=torch.float64), inertia)
    assert torch.autograd.gradcheck(end, tuple(x.clone().requires_grad_(True) for x in inputs))


def test_what_cannot_be_integrated_is_refused() -> None:
    method = get_method("rkmk4")
    body = FreeRigidBody()
    g, mu = body.sample(2, generator=torch.Generator().manual_seed(0))

    def run(dynamics: Any, g: Tensor = g, mu: Tensor = mu) -> None:
        advance(dynamics, g, mu, step_size=0.1, num_steps=1, method=method)

    with pytest.raises(TypeError, match=r"object has no algebra_velocity and momentum_rate and group"):
        run(object())
    with pytest.raises(TypeError, match=r"C4 is finite: it has no Lie algebra"):
        run(Steady(Cyclic(4)))
    with pytest.raises(ValueError, match=r"g of shape \(B, …, 4, 4\); got \(2, 3, 3\)"):
        run(Steady(SE3()))
    with pytest.raises(ValueError, match=r"shape \(2, 'k'\); got \(1, 3\)"):
        run(body, g, mu[:1])
    wrong = Steady(SO3())
    wrong.velocity = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"SO\(3\) expects algebra coordinates"):
        run(wrong)
    wrong = Steady(SO3())
    wrong.momentum_rate = lambda g, mu: mu[:1]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="momentum_rate must have the shape of mu"):
        run(wrong)


@pytest.mark.parametrize("method", ["rkmk4", "commutator_free4", "rigid_body_splitting"])
def test_elements_that_are_not_of_the_group_are_refused(method: str) -> None:
    """A stretched rotation stayed stretched, and nothing said so."""
    top = HeavyTop()
    g, mu = top.sample(2, generator=torch.Generator().manual_seed(0))
    run = partial(integrate, top, p=mu, step_size=0.01, num_steps=1, method=method)
    with pytest.raises(ValueError, match=r"elements of SO\(3\): \|RᵀR − I\| is 0.21, more than 0.001"):
        run(q=g * 1.1)
    with pytest.raises(ValueError, match="one has determinant −1: it mirrors"):
        run(q=-g)
    rounded = torch.round(g, decimals=6)
    assert run(q=rounded)[0].isfinite().all()


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to 1, got 0\.5"):
        CommutatorFree("bad", 1, products=((), ((0.5,),)), citation="")
    with pytest.raises(ValueError, match="stages before it only"):
        CommutatorFree("bad", 1, products=(((0.5,),), ((1.0,),)), citation="")
    with pytest.raises(ValueError, match="two commutators are enough up to order 4"):
        MuntheKaas("bad", 5, table=((), (1.0,)), citation="")


def test_declared_facts() -> None:
    for method in GENERIC:
        assert (method.symplectic, method.reversible, method.stochastic) == (False, False, False)
        assert len(method.citation) > 20
        assert method.options() == {}
