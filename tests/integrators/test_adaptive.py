"""Adaptive leapfrog on Kepler orbits: order in ε, reversal, no drift, far fewer forces, and a variant that drifts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchdiffeq
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim import Hamiltonian, Particles
from lie_sim.errors import ConfigError, StepSizeError
from lie_sim.experiments.solar import SolarConfig
from lie_sim.integrators import (
    AdaptiveLeapfrog,
    Memory,
    advance,
    get_method,
    integrate,
    odeint,
    odeint_adjoint,
    register_torchdiffeq,
    unregister_torchdiffeq,
)
from lie_sim.models.base import EnergyModel
from lie_sim.rollout import Rollout
from lie_sim.systems import Springs

ORDER_TOLERANCE = 0.1  # on the slope of log(error) over a factor of 4 in ε
REVERSAL_ERROR = (
    1e-12  # of q, p, density and time: 2 × 300 steps of round-off through pericentres; measured: 6e-15
)
DRIFT = 1.2  # largest energy error of the last tenth of 1000 periods over that of the first; measured: 1.0000
GAIN = 10.0  # of the energy error over leapfrog's with as many forces at e = 0.9; measured: 87
PERIOD = 2 * math.pi
ECCENTRICITIES = (0.6, 0.9)


class Kepler:
    """H = |p|²/2 − 1/|q|; counts its forces."""

    def __init__(self) -> None:
        self.calls = 0

    def force(self, q: Tensor) -> Tensor:
        self.calls += 1
        return -q / q.square().sum(-1, keepdim=True) ** 1.5

    def velocity(self, p: Tensor) -> Tensor:
        return p


def pericentre(*eccentricities: float) -> tuple[Tensor, Tensor]:
    e = torch.tensor(eccentricities, dtype=torch.float64)
    zero = torch.zeros_like(e)
    q, p = (torch.stack(x, -1)[:, None] for x in ((1 - e, zero), (zero, ((1 + e) / (1 - e)).sqrt())))
    return q, p


def first_step(*eccentricities: float, share: float = 0.02) -> Tensor:
    """ε as a share of the time scale r^{3/2} at pericentre."""
    return share * (1 - torch.tensor(eccentricities, dtype=torch.float64)) ** 1.5


def energy(q: Tensor, p: Tensor) -> Tensor:
    return p.square().sum((-2, -1)) / 2 - 1 / q.norm(dim=-1).squeeze(-1)


def exact_positions(e: float, times: Tensor) -> Tensor:
    """From Kepler's equation E − e sin E = t, by Newton's method."""
    t = times.numpy()
    anomaly = t + e * np.sin(t)
    for _ in range(50):
        anomaly = anomaly - (anomaly - e * np.sin(anomaly) - t) / (1 - e * np.cos(anomaly))
    return torch.tensor(np.stack([np.cos(anomaly) - e, math.sqrt(1 - e * e) * np.sin(anomaly)], -1))


def kepler_control(q: Tensor, p: Tensor) -> Tensor:
    """G for steps ∝ r^{3/2}."""
    return -1.5 * (q * p).sum((1, 2)) / q.square().sum((1, 2))


@pytest.mark.parametrize("control", [None, kepler_control], ids=["default", "own"])
@pytest.mark.parametrize("e", ECCENTRICITIES)
def test_order_is_as_declared(e: float, control: object) -> None:
    method, times = AdaptiveLeapfrog(control=control), torch.linspace(0, 0.9 * PERIOD, 7, dtype=torch.float64)

    def error(share: float) -> float:
        q, p = pericentre(e)
        (found, _), _ = method.advance_until(
            Kepler(), q, p, times=times, step_size=first_step(e, share=share)
        )
        return float((found[:, 0, 0] - exact_positions(e, times)).norm())

    slope = math.log2(error(0.02) / error(0.005)) / 2
    assert abs(slope - method.order) < ORDER_TOLERANCE, f"slope {slope:.3f}"


def test_order_at_fixed_times_against_dop853() -> None:
    """Through odeint, positions and momenta, e = 0.6."""
    times = torch.tensor([0.0, 1.0, 2.5, 6.0], dtype=torch.float64)
    q, p = pericentre(0.6)

    def rate(_: float, z: np.ndarray) -> np.ndarray:
        return np.concatenate([z[2:], -z[:2] / (z[:2] @ z[:2]) ** 1.5])

    start = torch.cat([q, p]).flatten().numpy()
    solution = solve_ivp(rate, (0, 6), start, "DOP853", t_eval=times.numpy(), rtol=3e-14, atol=1e-15)

    def error(step: float) -> float:
        options = {"step_size": step}
        found = torch.cat(odeint(Kepler(), (q, p), times, method="adaptive_leapfrog", options=options), -1)
        return float((found[:, 0, 0] - torch.tensor(solution.y.T)).norm())

    slope = math.log2(error(0.005) / error(0.00125)) / 2
    assert abs(slope - 2) < ORDER_TOLERANCE, f"slope {slope:.3f}"


def reversal_error(*, pass_memory: bool) -> float:
    method, (q0, p0), epsilon = AdaptiveLeapfrog(), pericentre(*ECCENTRICITIES), first_step(*ECCENTRICITIES)
    q, p, memory = method.advance(Kepler(), q0, p0, step_size=epsilon, num_steps=300)
    back = memory if pass_memory else None
    q, p, memory = method.advance(Kepler(), q, p, step_size=-epsilon, num_steps=300, memory=back)
    if pass_memory:
        assert (
            float(torch.maximum((memory["density"] - 1).abs(), memory["time"].abs()).max()) < REVERSAL_ERROR
        )
    return float(torch.maximum((q - q0).abs().max(), (p - p0).abs().max()))


def test_step_back_undoes_step_forth_together_with_the_density() -> None:
    error = reversal_error(pass_memory=True)
    assert AdaptiveLeapfrog().reversible
    assert error < REVERSAL_ERROR, f"{error:.1e} > {REVERSAL_ERROR:.1e}"
    assert reversal_error(pass_memory=False) > 1e3 * REVERSAL_ERROR


def growth(errors: list[Tensor]) -> Tensor:
    """Largest error of the last tenth of a run over that of the first, of each system."""
    table = torch.stack(errors)
    tenth = len(table) // 10
    return table[-tenth:].amax(0) / table[:tenth].amax(0)


def test_energy_has_no_drift_over_a_thousand_periods() -> None:
    method, (q, p) = AdaptiveLeapfrog(control=kepler_control), pericentre(*ECCENTRICITIES)
    epsilon, start, errors = first_step(*ECCENTRICITIES, share=0.12), energy(q, p), []
    memory: Memory | None = None
    with torch.no_grad():
        while memory is None or float(memory["time"].min()) < 1000 * PERIOD:
            q, p, memory = method.advance(Kepler(), q, p, step_size=epsilon, num_steps=7, memory=memory)
            errors.append((energy(q, p) / start - 1).abs())
    assert bool((growth(errors) < DRIFT).all()), f"growth {growth(errors).tolist()}"


def test_drift_test_notices_steps_chosen_without_looking_back() -> None:
    """The same leapfrog with h = ε σ(q) of the point where the step begins, for a tenth of the time."""
    (q, p), epsilon = pericentre(*ECCENTRICITIES), first_step(*ECCENTRICITIES, share=0.08)
    scale, start, errors = q.norm(dim=-1) ** 1.5, energy(q, p), []
    force = Kepler().force(q)
    for step in range(8000):
        h = (epsilon * (q.norm(dim=-1) ** 1.5 / scale)[:, 0])[:, None, None]
        p = p + h / 2 * force
        q = q + h * p
        force = Kepler().force(q)
        p = p + h / 2 * force
        if step % 7 == 0:
            errors.append((energy(q, p) / start - 1).abs())
    assert bool((growth(errors) > 3 * DRIFT).all()), f"growth {growth(errors).tolist()}"


def test_eccentric_orbit_needs_far_fewer_forces_than_with_constant_steps() -> None:
    """Each reverse pass through the force is counted as one more force."""
    method, (q, p), dynamics = AdaptiveLeapfrog(), pericentre(0.9), Kepler()
    start, worst, memory = energy(q, p), 0.0, None
    epsilon = first_step(0.9, share=0.04)
    with torch.no_grad():
        while memory is None or float(memory["time"]) < 5 * PERIOD:
            q, p, memory = method.advance(dynamics, q, p, step_size=epsilon, num_steps=1, memory=memory)
            worst = max(worst, float((energy(q, p) / start - 1).abs()))
    steps = round(2 * dynamics.calls / 5)
    qs, ps = integrate(Kepler(), *pericentre(0.9), step_size=PERIOD / steps, num_steps=5 * steps)
    constant = float((energy(qs[0], ps[0]) / start - 1).abs().max())
    assert constant > GAIN * worst, f"constant steps {constant:.1e}, adaptive {worst:.1e}"


def test_one_force_per_step_and_one_more() -> None:
    dynamics = Kepler()
    AdaptiveLeapfrog().advance(dynamics, *pericentre(0.6), step_size=0.01, num_steps=20)
    assert dynamics.calls == 21


def test_no_graph_grows_where_nothing_asks_for_a_gradient() -> None:
    q, p, memory = AdaptiveLeapfrog().advance(Kepler(), *pericentre(0.6), step_size=0.01, num_steps=3)
    assert not any(x.requires_grad for x in (q, p, *memory.values()))


def test_steps_follow_the_time_of_free_fall() -> None:
    """The density follows |a|^{3/4}, that is r^{−3/2}, to the order of the step."""
    (q, p), memory = pericentre(0.9), None
    q, p, memory = AdaptiveLeapfrog(max_growth=1e6).advance(
        Kepler(), q, p, step_size=first_step(0.9, share=0.01), num_steps=300, memory=memory
    )
    expected = (0.1 / float(q.norm())) ** 1.5
    assert float(q.norm()) > 0.4
    assert float(memory["density"]) == pytest.approx(expected, rel=0.01)


def test_every_system_is_advanced_on_its_own() -> None:
    method, (q, p) = AdaptiveLeapfrog(), pericentre(0.3, 0.6, 0.9)
    epsilon = torch.tensor([0.02, 0.0, -0.001], dtype=torch.float64)
    together = method.advance(Kepler(), q, p, step_size=epsilon, num_steps=50)
    for i in range(3):
        alone = method.advance(
            Kepler(), q[i : i + 1], p[i : i + 1], step_size=float(epsilon[i]), num_steps=50
        )
        assert (together[0][i] - alone[0][0]).abs().max() < 1e-14
        assert (together[2]["time"][i] - alone[2]["time"][0]).abs() < 1e-14
    assert torch.equal(together[0][1], q[1])
    assert torch.equal(together[1][1], p[1])
    assert float(together[2]["time"][1]) == 0


def test_continued_run_is_the_uninterrupted_one() -> None:
    method, (q, p), memory = AdaptiveLeapfrog(), pericentre(*ECCENTRICITIES), None
    whole = method.advance(Kepler(), q, p, step_size=0.002, num_steps=90)
    for steps in (1, 30, 0, 59):
        q, p, memory = method.advance(Kepler(), q, p, step_size=0.002, num_steps=steps, memory=memory)
    assert memory is not None
    assert torch.equal(q, whole[0])
    assert torch.equal(p, whole[1])
    assert all(torch.equal(memory[key], whole[2][key]) for key in whole[2])


def test_states_at_given_times_do_not_depend_on_the_times_asked_before() -> None:
    method, (q, p) = AdaptiveLeapfrog(), pericentre(*ECCENTRICITIES)
    epsilon = first_step(*ECCENTRICITIES)
    times = torch.linspace(0, 4, 9, dtype=torch.float64)
    (whole_q, whole_p), _ = method.advance_until(Kepler(), q, p, times=times, step_size=epsilon)
    assert torch.equal(whole_q[0], q)
    memory, found = None, []
    for part in times.split(4):
        (at_q, at_p), (q, p, memory) = method.advance_until(
            Kepler(), q, p, times=part, step_size=epsilon, memory=memory
        )
        found.append((at_q, at_p))
    assert torch.equal(torch.cat([x for x, _ in found]), whole_q)
    assert torch.equal(torch.cat([x for _, x in found]), whole_p)


def test_times_may_differ_by_system_and_come_in_any_order() -> None:
    method, (q, p), epsilon = AdaptiveLeapfrog(), pericentre(*ECCENTRICITIES), first_step(*ECCENTRICITIES)
    times = torch.tensor([[2.0, 0.5], [1.0, 3.0]], dtype=torch.float64)
    (found, _), _ = method.advance_until(Kepler(), q, p, times=times, step_size=epsilon)
    for i, e in enumerate(ECCENTRICITIES):
        error = float((found[:, i, 0] - exact_positions(e, times[:, i])).abs().max())
        assert error < 5e-3, f"e = {e}: {error:.1e}"  # measured: 1.7e-4, 1.3e-3


def test_grid_is_followed_in_both_directions() -> None:
    grid = torch.linspace(5, 7, 6, dtype=torch.float64)
    q, p = pericentre(0.6)
    run = {"method": "adaptive_leapfrog", "options": {"step_size": 0.002}}
    qs, ps = odeint(Kepler(), (q, p), grid, **run)
    assert qs.shape == ps.shape == (6, 1, 1, 2)
    assert torch.equal(qs[0], q)
    back, _ = odeint(Kepler(), (qs[-1], ps[-1]), grid.flip(0), **run)
    assert (back.flip(0) - qs).abs().max() < 1e-3  # the steps differ, the motion does not; measured: 2.6e-5


def test_each_system_has_times_of_its_own_in_either_direction() -> None:
    q, p = pericentre(0.6, 0.6)
    t = torch.tensor([[1.0, 1.0], [2.0, 0.0], [2.5, -0.5]], dtype=torch.float64)
    options = {"step_size": torch.tensor([0.002, 0.001], dtype=torch.float64)}
    qs, ps = odeint(Kepler(), (q, p), t, method="adaptive_leapfrog", options=options)
    for i in range(2):
        alone = odeint(
            Kepler(),
            (q[i : i + 1], p[i : i + 1]),
            t[:, i],
            method="adaptive_leapfrog",
            options={"step_size": float(options["step_size"][i])},
        )
        assert (qs[:, i] - alone[0][:, 0]).abs().max() < 1e-14
        assert (ps[:, i] - alone[1][:, 0]).abs().max() < 1e-14
    assert (
        qs[1, 0] - qs[1, 1] * torch.tensor([1.0, -1.0])
    ).abs().max() < 1e-4  # the mirror image; measured: 8e-6


def test_long_run_over_many_times_is_interpolated_once_per_time() -> None:
    """More times than steps, and more steps than one look: every time is found, in order."""
    times = torch.linspace(0, 3, 1001, dtype=torch.float64)
    q, p = pericentre(0.6)
    qs, _ = odeint(Kepler(), (q, p), times, method="adaptive_leapfrog", options={"step_size": 0.005})
    assert (qs[:, 0, 0] - exact_positions(0.6, times)).abs().max() < 2e-3  # measured: 3e-4
    assert qs[:, 0, 0].diff(dim=0).norm(dim=-1).max() < 0.0061  # the largest speed is 2


def test_times_of_a_float32_run_are_kept_in_double() -> None:
    q, p = (x.float() for x in pericentre(0.6))
    _, _, memory = advance(Kepler(), q, p, step_size=0.01, num_steps=10, method="adaptive_leapfrog")
    assert memory["time"].dtype == torch.float64
    times = torch.tensor([0.0, 0.5], dtype=torch.float64)
    found, _ = odeint(Kepler(), (q, p), times, method="adaptive_leapfrog", options={"step_size": 0.002})
    exact, _ = odeint(
        Kepler(), pericentre(0.6), times, method="adaptive_leapfrog", options={"step_size": 0.002}
    )
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5  # measured: 2.3e-7


@pytest.mark.parametrize("door", [odeint, odeint_adjoint])
def test_gradients_through_odeint(door: Any, pair_potential: EnergyModel) -> None:
    """State, times, first step and a weight, against finite differences and each other."""
    weight = next(iter(pair_potential.parameters()))
    H = Hamiltonian(pair_potential).bind(Particles(masses=torch.tensor([[1.0, 2.0]]).double()))
    q, p = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()

    def run(q: Tensor, t: Tensor, step: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        method = get_method("adaptive_leapfrog", max_steps=8)  # not the 32 of one look
        found: tuple[Tensor, Tensor] = door(H, (q, p), t, method=method, options={"step_size": step})
        return found

    t = torch.tensor([0.1, 0.17, 0.25], dtype=torch.float64)
    inputs = [x.requires_grad_(True) for x in (q, t, torch.tensor([0.06], dtype=torch.float64))]
    assert torch.autograd.gradcheck(run, [*inputs, weight])
    assert torch.autograd.gradgradcheck(
        lambda q: run(q, t.detach(), inputs[2].detach(), weight)[0], inputs[0], atol=1e-4
    )


def test_inside_torchdiffeq_it_gives_the_same_numbers() -> None:
    q, p = pericentre(*ECCENTRICITIES)
    register_torchdiffeq()
    try:
        for t in (torch.linspace(0, 1, 4).double(), torch.linspace(1, -1, 3).double()):
            run = {"method": "adaptive_leapfrog", "options": {"step_size": 0.001}}
            theirs, ours = torchdiffeq.odeint(Kepler(), (q, p), t, **run), odeint(Kepler(), (q, p), t, **run)
            assert all((a - b).abs().max() < 1e-13 for a, b in zip(theirs, ours, strict=True))
        with pytest.raises(ValueError, match="needs the length of its first step"):
            torchdiffeq.odeint(Kepler(), (q, p), t, method="adaptive_leapfrog")
    finally:
        unregister_torchdiffeq()


def test_what_has_no_meaning_with_steps_of_its_own_is_refused() -> None:
    y0, t = pericentre(0.6), torch.tensor([0.0, 1.0], dtype=torch.float64)
    step = {"step_size": 0.01}
    for given, error, message in [
        ({}, ValueError, "needs the length of its first step"),
        ({"options": {"step_size": -0.1}}, ValueError, "step_size must be positive"),
        ({"options": step, "adjoint": "reversible"}, ValueError, 'has adjoint="autograd" only'),
        ({"options": step, "adjoint": "checkpoint"}, ValueError, 'has adjoint="autograd" only'),
        ({"options": step | {"fixed_point": True}}, ValueError, "without fixed_point"),
        ({"options": step | {"compile": True}}, TypeError, "compiled blocks are for splitting methods"),
        ({"options": step, "event_fn": lambda t, y: y[0][:, 0, 0]}, ValueError, "has no events"),
    ]:
        with pytest.raises(error, match=message):
            odeint(Kepler(), y0, t, method="adaptive_leapfrog", **given)
    with pytest.raises(ValueError, match="strictly increasing or decreasing"):
        odeint(Kepler(), y0, torch.tensor([0.0, 1.0, 0.5]), method="adaptive_leapfrog", options=step)
    with pytest.raises(ValueError, match="has times for 3 systems, but q holds 1"):
        odeint(Kepler(), y0, t[:, None].expand(2, 3), method="adaptive_leapfrog", options=step)
    with pytest.raises(ValueError, match="integrate gives states at multiples of step_size"):
        integrate(Kepler(), *y0, step_size=0.01, num_steps=10, method="adaptive_leapfrog")
    with pytest.raises(ValueError, match="Rollout gives states at multiples of step_size"):
        Rollout(Springs(), "adaptive_leapfrog", 0.01)
    with pytest.raises(ConfigError, match="the solar experiment gives states at multiples of step_size"):
        SolarConfig(method="adaptive_leapfrog")


def test_gradient_of_the_discrete_map() -> None:
    def run(q: Tensor, p: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        times = torch.tensor([0.02, 0.1], dtype=torch.float64)
        method = AdaptiveLeapfrog(max_steps=16)
        (at_q, _), (q, p, _) = method.advance_until(Kepler(), q, p, times=times, step_size=epsilon)
        return at_q, p

    inputs = [
        x.clone().requires_grad_(True) for x in (*pericentre(*ECCENTRICITIES), torch.tensor([0.03, 0.01]))
    ]
    inputs[2] = inputs[2].detach().double().requires_grad_(True)
    assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("graph", [False, True])
def test_learned_potential_with_padding_in_float32(pair_potential: EnergyModel, graph: bool) -> None:
    q, p = torch.randn(2, 1, 3, 2, generator=torch.Generator().manual_seed(0)).unbind()
    H = Hamiltonian(pair_potential.float()).bind(
        Particles(masses=torch.tensor([[1.0, 2.0, 0.0]]), mask=torch.tensor([[True, True, False]]))
    )
    method = AdaptiveLeapfrog()
    dynamics = method.dynamics(H)
    with torch.set_grad_enabled(graph):
        q, p, memory = method.advance(dynamics, q, p, step_size=0.05, num_steps=5)
    assert q.dtype == torch.float32
    assert q.requires_grad == graph
    assert bool(q.isfinite().all())
    assert float(memory["density"].detach()) != 1
    if graph:
        (gradient,) = torch.autograd.grad(q[:, :2].sum(), next(iter(pair_potential.parameters())))
        assert bool(gradient.isfinite().all())


def test_impossible_densities_are_reported() -> None:
    """A force that passes through 0 asks for a step without bound."""

    class Spring(Kepler):
        def force(self, q: Tensor) -> Tensor:
            return -q

    one = torch.ones(1, 1, 1, dtype=torch.float64)
    with pytest.raises(StepSizeError, match="not positive in 1 of 1 systems"):
        AdaptiveLeapfrog().advance(Spring(), one, 0 * one, step_size=0.1, num_steps=100)
    with pytest.raises(StepSizeError, match="in 10 steps"):
        AdaptiveLeapfrog(max_steps=10).advance_until(
            Kepler(), *pericentre(0.6), times=torch.ones(1), step_size=1e-3
        )


def test_force_that_hides_from_autograd_is_refused_and_a_constant_one_is_not() -> None:
    class Hidden(Kepler):
        def force(self, q: Tensor) -> Tensor:
            return super().force(q).detach()

    class Falling(Kepler):
        def force(self, q: Tensor) -> Tensor:
            return torch.full_like(q, -9.81)

    with pytest.raises(TypeError, match="takes for a constant"):
        AdaptiveLeapfrog().advance(Hidden(), *pericentre(0.6), step_size=0.01, num_steps=2)
    own = AdaptiveLeapfrog(control=kepler_control)
    own.advance(Hidden(), *pericentre(0.6), step_size=0.01, num_steps=2)
    _, _, memory = AdaptiveLeapfrog().advance(Falling(), *pericentre(0.6), step_size=0.01, num_steps=3)
    assert float(memory["density"]) == 1


def test_wrong_options_and_times_are_refused() -> None:
    for options, message in (
        ({"exponent": 0}, "exponent must be above 0"),
        ({"max_growth": 1}, "max_growth must be above 1"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"kappa": 1}, "its options are exponent, max_growth, control, max_steps"),
    ):
        with pytest.raises(ValueError, match=message):
            get_method("adaptive_leapfrog", **options)
    for step_size in (-0.01, 0.0):
        with pytest.raises(ValueError, match="must lead from the present time"):
            AdaptiveLeapfrog().advance_until(
                Kepler(), *pericentre(0.6), times=torch.ones(1), step_size=step_size
            )
