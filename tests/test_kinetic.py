"""Velocity and kinetic energy by hand, and that padding without mass leaves values and gradients finite."""

from __future__ import annotations

import pytest
import torch

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.integrators import SystemDynamics, integrate
from lie_sim.kinetic import Velocity, kinetic_energy, velocity
from lie_sim.state import Particles
from lie_sim.systems import Springs

ROUNDING = 1e-12


def padded(pad_mass: float = 0.0):
    """Two real particles of masses 2 and 4, and one that the mask leaves out."""
    p = torch.tensor([[[2.0, 0.0], [4.0, 4.0], [7.0, 7.0]]], dtype=torch.float64, requires_grad=True)
    masses = torch.tensor([[2.0, 4.0, pad_mass]], dtype=torch.float64, requires_grad=True)
    return p, masses, torch.tensor([[True, True, False]])


@pytest.mark.parametrize("pad_mass", [0.0, 3.0])
def test_values_by_hand(pad_mass):
    p, masses, mask = padded(pad_mass)
    expected = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    assert torch.equal(velocity(p, masses, mask), expected)
    assert kinetic_energy(p, masses, mask).item() == 5.0
    real = (p[:, :2], masses[:, :2])
    assert torch.equal(velocity(*real), expected[:, :2])
    assert kinetic_energy(*real).item() == 5.0


def test_velocity_is_the_gradient_of_the_energy_and_padding_has_none():
    p, masses, mask = padded()
    by_p, by_mass = torch.autograd.grad(kinetic_energy(p, masses, mask).sum(), (p, masses))
    torch.testing.assert_close(by_p, velocity(p, masses, mask), rtol=ROUNDING, atol=0)
    assert by_mass.tolist() == [[-0.5, -1.0, 0.0]]  # −|p|²/(2m²)
    by_p, by_mass = torch.autograd.grad(velocity(p, masses, mask).sum(), (p, masses))
    assert by_p[0, :, 0].tolist() == [0.5, 0.25, 0.0]
    assert by_mass.tolist() == [[-0.5, -0.5, 0.0]]  # −Σ p/m²


@pytest.mark.parametrize("momentum", [0.0, 7.0])
def test_all_dynamics_leave_padding_at_rest(momentum):
    p, masses, mask = (x.detach() for x in padded())
    p[:, 2] = momentum
    attributes = torch.tensor([[[1.0], [1.0], [0.0]]], dtype=torch.float64)
    particles = Particles(masses=masses, mask=mask, attributes=attributes)
    springs, learned = (
        Springs(num_particles=3),
        Hamiltonian(LieTransformer.default(num_attributes=1).double()),
    )
    for dynamics in (learned.bind(particles), SystemDynamics(springs, particles)):
        assert torch.equal(dynamics.velocity(p), velocity(p, masses, mask))
    assert springs.kinetic_energy(p, particles).item() == 5.0
    assert learned.kinetic_energy(p, particles).item() == 5.0
    q, _ = integrate(learned.bind(particles), torch.zeros_like(p) + p, p, step_size=0.1, num_steps=2)
    assert q.isfinite().all()


def test_kept_inverse_masses_are_those_of_the_masses_now():
    """1/m is kept between calls; what is changed in place, or wants a gradient, must not meet an old one."""
    p, masses, mask = (x.detach() for x in padded())
    keep = Velocity(masses, mask)
    for _ in range(2):
        assert torch.equal(keep(p), velocity(p, masses, mask))
    masses[0, 0] = 4.0
    assert keep(p)[0, 0].tolist() == [0.5, 0.0]
    assert keep(p[..., :1]).shape == (1, 3, 1)
    mask[0, 1] = False
    assert torch.equal(keep(p), velocity(p, masses, mask))
    masses.requires_grad_(True)
    (slope,) = torch.autograd.grad(keep(p).sum(), masses)
    assert slope.tolist() == [[-0.125, 0.0, 0.0]]  # −Σ p/m²


def test_what_is_not_finite_in_padding_stays_there():
    p, masses, mask = (x.detach() for x in padded())
    p[0, 2] = torch.nan
    assert Velocity(masses, mask)(p)[0, 2].tolist() == [0.0, 0.0]


def test_inverse_masses_made_under_inference_mode_can_be_differentiated_with():
    _, masses, _ = (x.detach() for x in padded(3.0))
    keep = Velocity(masses)
    with torch.inference_mode():
        keep(torch.ones(1, 3, 2, dtype=torch.float64))
    p = torch.ones(1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.grad(keep(p).sum(), p)[0][0, 0, 0].item() == 0.5
    with torch.inference_mode():
        inside = Velocity(torch.full((1, 3), 2.0))
        assert inside(torch.ones(1, 3, 2))[0, 0, 0].item() == 0.5
