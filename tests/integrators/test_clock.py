"""Driven systems: every method keeps its order and what it conserves, and nobody needs to know of the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lie_sim.integrators import (
    Clocked,
    DrivenDynamics,
    Method,
    SystemDynamics,
    integrate,
    methods,
    odeint,
    odeint_adjoint,
)
from lie_sim.integrators.clock import is_driven
from lie_sim.rollout import Rollout, rollout
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenDuffing, TidalTwoBody

DUFFING, TIDE = DrivenDuffing(), TidalTwoBody()
ELSEWHERE = ("nose_hoover_chain", "rattle", "lie_euler", "crouch_grossman3", "rkmk4", "commutator_free4")
"""Of constant temperature, with constraints, or of other spaces, as those of rigid bodies."""
METHODS = [
    method
    for method in methods()
    if not (method.stochastic or method.adaptive or method.name in ELSEWHERE or "rigid" in method.name)
]


def start(system: Any = DUFFING, count: int = 2) -> tuple[PhaseState, Particles]:
    state, particles = system.sample(count, generator=torch.Generator().manual_seed(0))
    return PhaseState(state.q, state.p, torch.tensor([0.0, 3.3], dtype=torch.float64)[:count]), particles


def exact(system: Any, until: float) -> tuple[Tensor, Tensor]:
    state, particles = start(system)
    q, p = system.trajectory(state, particles, torch.tensor([0.0, until], dtype=torch.float64))
    return q[:, -1], p[:, -1]


def end(method: Method, system: Any, step: float, until: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """q, p, and the change of H + p_t."""
    state, particles = start(system)
    assert state.t is not None
    clock = Clocked(DrivenDynamics(system, particles), state.t)
    q, p = clock.start(state.q, state.p)
    before = clock.energy(PhaseState(q, p))
    steps = round(until / step)
    q, p = (
        x[:, -1]
        for x in integrate(clock, q, p, step_size=step, num_steps=steps, save_every=steps, method=method)
    )
    return q[:, :-1], p[:, :-1], clock.energy(PhaseState(q, p)) - before


@pytest.mark.parametrize("system", [DUFFING, TIDE], ids=["duffing", "tide"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_method_keeps_its_order(method: Method, system: Any) -> None:
    q, _ = exact(system, 1.0)
    step = {1: 0.02, 2: 0.02, 4: 0.05, 6: 0.125}.get(method.order, 0.2)
    errors, changes = [], []
    for h in (step, step / 2):
        found, _, change = end(method, system, h)
        errors.append(float((found - q).abs().max()))
        changes.append(float(change.abs().max()))
    assert errors[1] < 1e-10 or errors[0] / errors[1] > 2**method.order * 0.6
    assert changes[1] < 1e-10 or changes[0] / changes[1] > 2**method.order * 0.6


def test_most_methods_were_tested() -> None:
    names = {method.name for method in METHODS}
    splittings = {"symplectic_euler", "leapfrog", "yoshida4", "pefrl", "blanes_moan6", "kahan_li8"}
    assert splittings | {"implicit_midpoint_h", "gauss4", "tao2"} <= names


def test_odeint_starts_at_the_first_time_and_hides_the_clock() -> None:
    state, particles = start()
    system, y0 = DrivenDynamics(DUFFING, particles), (state.q, state.p)
    t = torch.linspace(5.0, 9.0, 9, dtype=torch.float64)
    begun = PhaseState(state.q, state.p, torch.full((2,), 5.0, dtype=torch.float64))
    expected = [x.transpose(0, 1) for x in DUFFING.trajectory(begun, particles, t - 5.0)]
    for func in (system, system.vector_field):
        found = odeint(func, y0, t, method="kahan_li8", options={"step_size": 0.1})
        assert [tuple(x.shape) for x in found] == [(9, 2, 1, 1)] * 2
        assert max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)) < 1e-9
    theirs = odeint(system, y0, t, method="dopri8", rtol=1e-9, atol=1e-11)
    assert max(float((a - b).abs().max()) for a, b in zip(theirs, expected, strict=True)) < 1e-5


def test_every_system_may_have_its_own_times() -> None:
    state, particles = start()
    assert state.t is not None
    t = state.t + torch.linspace(0, 2, 5, dtype=torch.float64)[:, None]
    found = odeint(
        DrivenDynamics(DUFFING, particles),
        (state.q, state.p),
        t,
        method="kahan_li8",
        options={"step_size": 0.1},
    )
    q, p = exact(DUFFING, 2.0)
    assert float((found[0][-1] - q).abs().max()) < 1e-9
    assert float((found[1][-1] - p).abs().max()) < 1e-9


def test_events_see_time_and_particles() -> None:
    state, particles = start()
    t = torch.tensor([0.0, 20.0], dtype=torch.float64)
    shapes = set()

    def crosses(t: Tensor, y: tuple[Tensor, Tensor]) -> Tensor:
        shapes.add(tuple(y[0].shape[1:]))
        return y[0][:, 0, 0] - 0.5

    options = {"step_size": 0.05}
    times, (q, _) = odeint(
        DrivenDynamics(DUFFING, particles),
        (state.q, state.p),
        t,
        method="pefrl",
        options=options,
        event_fn=crosses,
    )
    assert shapes == {(1, 1)}
    assert bool(times.isfinite().all())
    assert float((q[-1, :, 0, 0] - 0.5).abs().max()) < 1e-6


@pytest.mark.parametrize("adjoint", ["checkpoint", "reversible"])
def test_gradients_in_constant_memory_are_those_of_autograd(adjoint: str) -> None:
    state, particles = start()
    t = torch.linspace(1.0, 3.0, 3, dtype=torch.float64)
    system = DrivenDynamics(DUFFING, particles)
    how: dict[str, Any] = {"method": "leapfrog", "options": {"step_size": 0.05}}
    gradients = []
    for way in ("autograd", adjoint):
        q, p = state.q.clone().requires_grad_(True), state.p.clone().requires_grad_(True)
        found = odeint(system, (q, p), t, adjoint=way, **how)
        gradients.append(torch.autograd.grad(found[0][-1].square().sum() + found[1][1].sum(), (q, p)))
    for mine, theirs in zip(*gradients, strict=True):
        assert float((mine - theirs).abs().max()) < 1e-9
    by_name = odeint_adjoint(system, (q, p), t, **how)
    assert by_name[0].requires_grad


def test_float32_keeps_the_time_of_a_late_start() -> None:
    """At t = 10⁶ numbers of float32 are 0.06 apart; the clock counts from the origin."""
    late = 1e6
    state, particles = start()
    begun = PhaseState(state.q, state.p, torch.full((2,), late, dtype=torch.float64))
    reference = DUFFING.trajectory(begun, particles, torch.tensor([0.0, 4.0], dtype=torch.float64))[0][:, -1]
    single = PhaseState(state.q.float(), state.p.float(), begun.t)
    found = rollout(
        DUFFING, single, particles.to(dtype=torch.float32), step_size=0.01, num_steps=400, save_every=10
    )
    assert found.q.dtype == torch.float32
    assert float((found.q[:, -1] - reference).abs().max()) < 1e-3


@pytest.mark.parametrize("method", ["leapfrog", "gauss4"])
def test_a_rollout_has_no_clock_in_its_frames_and_watches_h_plus_work(method: str) -> None:
    state, particles = start(TIDE)
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    q, p = TIDE.trajectory(state, particles, times)
    run = Rollout(TIDE, method, 0.005 if method == "leapfrog" else 0.025)
    blocks: list[Any] = []
    steps = round(1 / run.step_size)
    found = run.run(state, steps, particles=particles, save_every=steps // 4, on_frames=blocks.append)
    frames = torch.cat([block.q for block in blocks], dim=1)
    assert frames.shape == (2, 5, 2, 2)
    assert float((frames - q).abs().max()) < 1e-3
    assert found.state.q.shape == (2, 2, 2)
    assert state.t is not None
    assert found.state.t is not None
    assert torch.allclose(found.state.t, state.t + 1.0)
    energy = TIDE.energy(PhaseState(q[:, -1], p[:, -1], state.t + 1.0), particles)
    assert torch.allclose(blocks[-1].energy[:, -1], energy, atol=1e-3)
    assert float((energy - TIDE.energy(state, particles)).abs().max()) > 1e-3, "the drive does no work"
    assert float(found.drift.max()) < 1e-4


def test_a_driven_rollout_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    state, particles = start()
    options: dict[str, Any] = {"particles": particles, "save_every": 5}
    whole = Rollout(DUFFING, "leapfrog", 0.02, frames_per_block=3)
    expected: list[Any] = []
    whole.run(state, 200, on_frames=expected.append, **options)
    whole.run(state, 80, directory=tmp_path, **options)
    later: list[Any] = []
    whole.run(state, 200, directory=tmp_path, on_frames=later.append, **options)
    every = torch.cat([block.q for block in expected], dim=1)
    assert torch.equal(
        torch.cat([block.q for block in later], dim=1), every[:, -sum(b.q.shape[1] for b in later) :]
    )
    assert len(later) < len(expected)
    with pytest.raises(Exception, match="start differs"):
        whole.run(PhaseState(state.q, state.p), 200, directory=tmp_path, **options)


def test_a_bath_leaves_the_clock_alone() -> None:
    state, particles = start()
    for method in ("baoab", "csvr", "nose_hoover_chain"):
        found = Rollout(DUFFING, method, 0.05).run(state, 20, particles=particles)
        assert found.state.t is not None
        assert bool(found.state.q.isfinite().all())
    clock = Clocked(DrivenDynamics(DUFFING, particles))
    q, _ = integrate(clock, *clock.start(state.q, state.p), step_size=0.05, num_steps=20, method="baoab")
    assert float((q[:, -1, -1, 0] - 1.0).abs().max()) < 1e-12
    assert clock.masses.tolist() == [[1.0, float("inf")]] * 2


def test_padding_is_nothing_to_the_clock() -> None:
    two = DrivenDuffing(num_particles=2)
    state, particles = start(two)
    mask = torch.tensor([[True, False], [True, True]])
    padded = Particles(masses=particles.masses, mask=mask)
    assert Clocked(DrivenDynamics(two, padded)).masses.tolist() == [
        [1.0, 0.0, float("inf")],
        [1.0, 1.0, float("inf")],
    ]
    q = rollout(two, state, padded, step_size=0.05, num_steps=10).q
    assert float((q[0, -1, 1] - q[0, 0, 1]).abs().max()) == 0.0


def test_what_depends_on_time_is_not_integrated_without_it() -> None:
    state, particles = start()
    system = DrivenDynamics(DUFFING, particles)
    assert is_driven(system)
    assert is_driven(system.vector_field)
    assert not is_driven(Clocked(system))
    with pytest.raises(TypeError, match=r"depends on time, which \(q, p\) do not hold: .* Clocked"):
        integrate(system, state.q, state.p, step_size=0.1, num_steps=1)
    with pytest.raises(TypeError, match="depends on time: use DrivenDynamics"):
        SystemDynamics(DUFFING, particles)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="adaptive_leapfrog is for systems that do not depend on time"):
        odeint(system, (state.q, state.p), t, method="adaptive_leapfrog", options={"step_size": 0.1})
    with pytest.raises(ValueError, match="compiled code is for systems that do not"):
        odeint(system, (state.q, state.p), t, method="leapfrog", options={"step_size": 0.1, "compile": True})
    with pytest.raises(ValueError, match="compile=True is for systems that do not"):
        Rollout(DUFFING, "leapfrog", 0.1, compile=True).run(state, 1, particles=particles)
