"""The torsion chain: one pendulum's period, small oscillations, symmetries."""

import math

import pytest
import torch
from scipy.special import ellipk

from lie_sim.state import Particles, PhaseState
from lie_sim.systems import PendulumChain

ACCURACY = 1e-10


def chain(num: int) -> Particles:
    site = torch.arange(num, dtype=torch.float64)
    attributes = torch.stack([torch.ones(num, dtype=torch.float64), site], -1)[None]
    return Particles(masses=torch.ones(1, num, dtype=torch.float64), attributes=attributes)


def test_single_pendulum_has_the_elliptic_period() -> None:
    amplitude = torch.tensor(2.5, dtype=torch.float64)
    period = 4 * float(ellipk(float(torch.sin(amplitude / 2) ** 2)))
    state = PhaseState(q=amplitude.reshape(1, 1, 1), p=torch.zeros(1, 1, 1, dtype=torch.float64))
    times = torch.tensor([0.0, period / 4, period], dtype=torch.float64)
    q, _ = PendulumChain(num_particles=1).trajectory(state, chain(1), times)
    assert q[0, :, 0, 0].tolist() == pytest.approx([2.5, 0.0, 2.5], abs=ACCURACY)


def test_small_normal_mode_oscillates_at_its_frequency() -> None:
    """Two pendulums in antiphase: ω² = g + 2κ."""
    small = 1e-7
    state = PhaseState(
        q=small * torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64),
        p=torch.zeros(1, 2, 1, dtype=torch.float64),
    )
    times = torch.tensor([1.3], dtype=torch.float64)
    q, _ = PendulumChain(num_particles=2, stiffness=2.0).trajectory(state, chain(2), times)
    expected = math.cos(math.sqrt(5.0) * 1.3)
    assert (q[0, 0, :, 0] / small).tolist() == pytest.approx([expected, -expected], abs=1e-9)  # sin θ ≈ θ


def test_whole_turns_and_reflections_change_nothing() -> None:
    system = PendulumChain()
    state, particles = system.sample(3, generator=torch.Generator().manual_seed(0))
    force = system.force(state.q, particles)
    assert (system.force(state.q + 2 * torch.pi, particles) - force).abs().max() < ACCURACY
    assert (system.force(-state.q, particles) + force).abs().max() == 0
    assert (system.force(state.q + 1.0, particles) - force).abs().max() > 0.1  # gravity is there


def test_wrong_use_is_explained() -> None:
    with pytest.raises(ValueError, match="dim must be 1"):
        PendulumChain(dim=2)
    with pytest.raises(ValueError, match=r"holding \(g, site\)"):
        PendulumChain().force(torch.zeros(1, 6, 1), Particles(masses=torch.ones(1, 6)))
