"""Driven systems: forces and powers are derivatives, trajectories are right, and the energy changes by the power."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenDuffing, DrivenSprings, DrivenSystem, Springs, TidalTwoBody, build_system

SYSTEMS = [
    DrivenDuffing(),
    DrivenDuffing(num_particles=3, dim=2),
    DrivenSprings(num_particles=3),
    TidalTwoBody(),
]


def start(system: DrivenSystem, count: int = 3) -> tuple[PhaseState, Particles]:
    state, particles = system.sample(count, generator=torch.Generator().manual_seed(0))
    return PhaseState(
        q=state.q, p=state.p, t=torch.tensor([0.0, 0.7, 11.0], dtype=torch.float64)[:count]
    ), particles


@pytest.mark.parametrize("system", SYSTEMS, ids=repr)
def test_force_and_power_are_derivatives(system: DrivenSystem) -> None:
    state, particles = start(system)
    assert state.t is not None
    q, t = state.q.clone().requires_grad_(True), state.t.clone().requires_grad_(True)
    energy = system.potential(q, particles, t)
    dq, dt = torch.autograd.grad(energy.sum(), (q, t))
    assert torch.allclose(system.force(state.q, particles, state.t), -dq, atol=1e-12)
    assert torch.allclose(system.power(state.q, particles, state.t), dt, atol=1e-12)
    assert float(dt.abs().max()) > 1e-3
    assert gradcheck(lambda x, s: system.force(x, particles, s), (q, t))


@pytest.mark.parametrize("system", SYSTEMS, ids=repr)
def test_the_energy_changes_by_the_power_of_the_drive(system: DrivenSystem) -> None:
    state, particles = start(system)
    assert state.t is not None
    times = torch.linspace(0, 0.4, 41, dtype=torch.float64)
    q, p = system.trajectory(state, particles, times)
    shown = state.t[:, None] + times
    energies, powers = (
        torch.stack([f(k) for k in range(len(times))], dim=1)
        for f in (
            lambda k: system.energy(PhaseState(q[:, k], p[:, k], shown[:, k]), particles),
            lambda k: system.power(q[:, k], particles, shown[:, k]),
        )
    )
    # Simpson's rule
    weights = torch.ones(len(times), dtype=torch.float64)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    work = (powers * weights).sum(1) * (times[1] - times[0]) / 3
    assert torch.allclose(energies[:, -1] - energies[:, 0], work, atol=1e-7)
    assert float(work.abs().max()) > 1e-3


def test_a_driven_harmonic_oscillator_moves_as_its_formula_says() -> None:
    omega, f = 0.6, 1.3
    duffing = DrivenDuffing(amplitudes=(f,), frequencies=(omega,), phases=(0.0,), alpha=1.0, beta=0.0)
    times = torch.linspace(0, 20, 21, dtype=torch.float64)
    begun = torch.tensor([2.0], dtype=torch.float64)
    factor = f / (1 - omega**2)
    x0, p0 = factor * math.cos(omega * 2), -factor * omega * math.sin(omega * 2)
    x, y = torch.tensor([x0, p0], dtype=torch.float64).reshape(2, 1, 1, 1)
    masses = torch.ones(1, 1, dtype=torch.float64)
    q, p = duffing.trajectory(PhaseState(x, y, begun), Particles(masses=masses), times)
    expected = factor * (omega * (times + 2)).cos()
    assert float((q[0, :, 0, 0] - expected).abs().max()) < 1e-10
    assert float((p[0, :, 0, 0] + factor * omega * (omega * (times + 2)).sin()).abs().max()) < 1e-10


def test_without_a_drive_springs_are_springs() -> None:
    still = DrivenSprings(num_particles=3, amplitudes=(0.0,))
    state, particles = start(still)
    times = torch.linspace(0, 0.5, 5, dtype=torch.float64)
    exact = Springs(num_particles=3).trajectory(state, particles, times)
    for mine, theirs in zip(still.trajectory(state, particles, times), exact, strict=True):
        assert float((mine - theirs).abs().max()) < 1e-9


def test_the_tide_is_that_of_a_body_far_away() -> None:
    """Of the exact attraction by a body at R, what is beyond its pull on the centre, to leading order in 1/R."""
    far, rate, t = 1e3, 0.4, 1.7
    system = TidalTwoBody(tide=0.05, rate=rate)
    state, particles = start(system, 1)
    here = far * torch.tensor([math.cos(rate * t), math.sin(rate * t)], dtype=torch.float64)
    pull = 0.05 * far**3 * particles.masses[..., None]
    exact = pull * ((here - state.q) / (here - state.q).norm(dim=-1, keepdim=True) ** 3 - here / far**3)
    calm = TidalTwoBody(tide=0.0, rate=rate)
    found = system.force(state.q, particles, torch.tensor(t)) - calm.force(
        state.q, particles, torch.tensor(t)
    )
    assert torch.allclose(found, exact, rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize("system", SYSTEMS, ids=repr)
def test_a_system_is_made_again_from_its_options(system: DrivenSystem) -> None:
    assert build_system(system.name, **system.options()) == system
    plain = {name: list(x) if isinstance(x, tuple) else x for name, x in system.options().items()}
    assert build_system(system.name, **plain) == system


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("driven_duffing", {"frequencies": (1.0,)}, "must be as many"),
        ("driven_duffing", {"beta": -1.0}, "beta must not be negative"),
        ("driven_springs", {"amplitudes": (1.5,)}, "sum to 1 or more"),
        ("tidal_two_body", {"num_particles": 3}, "two bodies in a plane"),
        ("tidal_two_body", {"softening": 0.0}, "softening must be positive"),
    ],
)
def test_impossible_options(name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build_system(name, **options)
