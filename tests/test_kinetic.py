"""Velocity and kinetic energy by hand, and that padding without mass leaves values and gradients finite."""

from __future__ import annotations

import pytest
import torch

from lie_sim import Hamiltonian, LieTransformer
from lie_sim.integrators import SystemDynamics, integrate
from lie_sim.kinetic import kinetic_energy, velocity
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
