"""Gravity and charges: energies by hand, orbits in closed form, an independent integrator, symmetries."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from lie_sim.state import Particles, PhaseState
from lie_sim.systems import SoftenedCharges, SoftenedGravity

ROUNDING = 1e-12
INTEGRATOR = 1e-10  # DOP853 at rtol 1e-13 and the closest encounters
SYSTEMS = [SoftenedGravity(num_particles=4), SoftenedCharges(num_particles=4)]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_trajectory_agrees_with_an_independent_integrator(system) -> None:
    state, particles = system.sample(1, generator=torch.Generator().manual_seed(0))
    times = system.default_times()[:101:50]
    q, p = system.trajectory(state, particles, times)
    mass, shape = particles.masses[0, :, None].numpy(), (2, *state.q.shape[1:])

    def rate(_: float, z: np.ndarray) -> np.ndarray:
        x, y = z.reshape(shape)
        return np.concatenate(
            [(y / mass).ravel(), system.force(torch.from_numpy(x)[None], particles).numpy().ravel()]
        )

    end, start = float(times[-1]), state.flatten()[0].numpy()
    z = solve_ivp(rate, (0, end), start, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1].reshape(shape)
    assert np.abs(z[0] - q[0, -1].numpy()).max() < INTEGRATOR * max(1, q.abs().max())
    assert np.abs(z[1] - p[0, -1].numpy()).max() < INTEGRATOR * max(1, p.abs().max())


def test_two_equal_masses_turn_on_a_circle() -> None:
    system = SoftenedGravity(num_particles=2, softening=0.3, G=2.0)
    radius = 0.5
    rate = math.sqrt(
        2.0 / ((2 * radius) ** 2 + 0.3**2) ** 1.5 * 2
    )  # m r ω² = G m² 2r / (4r² + ε²)^{3/2}, m = 1
    q = torch.tensor([[[radius, 0.0], [-radius, 0.0]]], dtype=torch.float64)
    p = torch.tensor([[[0.0, radius * rate], [0.0, -radius * rate]]], dtype=torch.float64)
    times = torch.linspace(0, 3, 31, dtype=torch.float64)
    particles = Particles(masses=torch.ones(1, 2, dtype=torch.float64))
    motion, _ = system.trajectory(PhaseState(q=q, p=p), particles, times)
    exact = radius * torch.stack([torch.cos(rate * times), torch.sin(rate * times)], -1)
    assert (motion[0, :, 0] - exact).abs().max() < 1e-11


def test_energies_by_hand() -> None:
    q = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
    masses = torch.tensor([[2.0, 5.0]])
    gravity = SoftenedGravity(num_particles=2, softening=4.0, G=0.5)
    assert gravity.potential(q, Particles(masses=masses)).item() == pytest.approx(-0.5 * 2 * 5 / 5)
    charged = Particles(masses=masses, attributes=torch.tensor([[[1.0], [-1.0]]]))
    charges = SoftenedCharges(num_particles=2, dim=2, softening=4.0)
    assert charges.potential(q, charged).item() == pytest.approx(-1 / 5)
    assert charges.force(q, charged)[0, 0, 0] > 0  # opposite charges attract
    alike = Particles(masses=masses, attributes=torch.ones(1, 2, 1))
    assert charges.force(q, alike)[0, 0, 0] < 0


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.name)
def test_force_turns_with_the_bodies_and_sums_to_zero(system) -> None:
    state, particles = system.sample(5, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(
        torch.randn(system.dim, system.dim, generator=torch.Generator().manual_seed(1)).double()
    )[0]
    force = system.force(state.q, particles)
    moved = system.force(state.q @ turn.mT + 3.0, particles)
    assert (moved - force @ turn.mT).abs().max() < ROUNDING * force.abs().max()
    assert force.sum(1).abs().max() < ROUNDING * force.abs().max()


def test_distributions() -> None:
    state, particles = SoftenedGravity().sample(500, generator=torch.Generator().manual_seed(0))
    star = particles.masses == 50
    assert bool((star.sum(1) == 1).all())
    assert star.any(0).all()  # the order of the bodies is random
    assert state.q[star].abs().max() == 0
    distance = state.q[~star].norm(dim=-1)
    assert distance.min() >= 0.085
    assert distance.max() <= 0.935
    assert (state.q[~star] * state.p[~star]).sum(-1).abs().max() < 10 * ROUNDING  # motion across the radius
    state, particles = SoftenedCharges().sample(500, generator=torch.Generator().manual_seed(0))
    assert particles.attributes.mean().abs() < 0.1
    assert (state.p.norm(dim=-1) - 0.5).abs().max() < ROUNDING


def test_wrong_options_are_explained() -> None:
    with pytest.raises(ValueError, match="softening must be positive"):
        SoftenedCharges(softening=0.0)
    with pytest.raises(ValueError, match="num_particles >= 2 and dim >= 2"):
        SoftenedGravity(dim=1)
    with pytest.raises(ValueError, match="holding ±1"):
        SoftenedCharges().force(torch.zeros(1, 5, 3), Particles(masses=torch.ones(1, 5)))
