"""Springs: the reference's energy and distribution, solved exactly."""

import time

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from lie_sim.state import Particles, PhaseState
from lie_sim.systems import Springs, System
from lie_sim.systems.springs import normal_modes

ROUNDING = 1e-12  # float64, sums of about a hundred terms of size up to 1e3
INTEGRATOR = 2e-11  # what DOP853 at rtol 1e-13 reaches over t = 5
SAMPLING = 0.05  # relative, of a standard deviation over 3000 systems of unequal stiffness


def sample(num_systems: int, seed: int = 0, **options: int) -> tuple[Springs, PhaseState, Particles]:
    system = Springs(**options)
    return system, *system.sample(num_systems, generator=torch.Generator().manual_seed(seed))


def test_energy_sums_over_ordered_pairs() -> None:
    system = Springs(num_particles=2, dim=1)
    particles = Particles(masses=torch.ones(1, 2), attributes=torch.tensor([[[2.0], [3.0]]]))
    q = torch.tensor([[[0.0], [0.5]]])
    assert system.potential(q, particles).item() == pytest.approx(2 * 3 * 0.25)  # ½ · 2 pairs · k k r²
    assert system.force(q, particles).flatten().tolist() == pytest.approx([6.0, -6.0])


def test_force_is_minus_the_gradient() -> None:
    system, state, particles = sample(20, dim=3)
    error = (system.force(state.q, particles) - System.force(system, state.q, particles)).abs().max()
    assert error < ROUNDING


def test_trajectory_agrees_with_numerical_integration() -> None:
    system, state, particles = sample(2)
    times = torch.tensor([0.0, 0.01, 1.7, 5.0], dtype=torch.float64)
    q, p = system.trajectory(state, particles, times)
    for b in range(2):
        mass, k = particles.masses[b, :, None].numpy(), particles.attributes[b].numpy()

        def rate(_: float, z: np.ndarray, mass: np.ndarray = mass, k: np.ndarray = k) -> np.ndarray:
            x, y = z.reshape(2, 6, 2)
            force = -2 * k * (k[:, 0, None] * (x[:, None] - x[None]).transpose(2, 1, 0)).sum(1).T
            return np.concatenate([(y / mass).ravel(), force.ravel()])

        start = state.flatten()[b].numpy()
        z = solve_ivp(rate, (0, 5), start, method="DOP853", t_eval=times.numpy(), rtol=1e-13, atol=1e-14).y
        expected = z.T.reshape(4, 2, 6, 2)
        assert np.abs(expected[:, 0] - q[b].numpy()).max() < INTEGRATOR * 10
        assert np.abs(expected[:, 1] - p[b].numpy()).max() < INTEGRATOR * 10


def test_initial_state_comes_back_exactly_and_time_runs_both_ways() -> None:
    system, state, particles = sample(10)
    q, p = system.trajectory(state, particles, torch.tensor([0.0, 3.0], dtype=torch.float64))
    assert (q[:, 0] - state.q).abs().max() < ROUNDING
    assert (p[:, 0] - state.p).abs().max() < ROUNDING
    back = PhaseState(q=q[:, 1], p=p[:, 1])
    q, _ = system.trajectory(back, particles, torch.tensor([-3.0], dtype=torch.float64))
    assert (q[:, 0] - state.q).abs().max() < ROUNDING


def test_energy_and_momentum_are_conserved() -> None:
    system, state, particles = sample(50)
    q, p = system.trajectory(state, particles, torch.linspace(0.0, 50.0, 7, dtype=torch.float64))
    energies = torch.stack([system.energy(PhaseState(q=q[:, k], p=p[:, k]), particles) for k in range(7)])
    assert ((energies - energies[0]) / energies[0]).abs().max() < ROUNDING
    momentum = p.sum(2)
    assert (momentum - momentum[:, :1]).abs().max() < ROUNDING * 10
    centre = (particles.masses[:, None, :, None] * q).sum(2)
    drifted = centre[:, :1] + torch.linspace(0.0, 50.0, 7, dtype=torch.float64)[:, None] * momentum[:, :1]
    assert (centre - drifted).abs().max() < ROUNDING * 100  # positions reach 100


def test_free_and_nearly_free_particles_move_straight() -> None:
    system, state, particles = sample(4)
    times = torch.tensor([5.0], dtype=torch.float64)
    for k in (0.0, 1e-9):
        loose = Particles(masses=particles.masses, attributes=torch.full_like(particles.attributes, k))
        q, p = system.trajectory(state, loose, times)
        straight = state.q + 5 * state.p / particles.masses[..., None]
        assert (q[:, 0] - straight).abs().max() < ROUNDING * 10
        assert (p[:, 0] - state.p).abs().max() < ROUNDING


def test_motion_is_equivariant_under_rotation_and_permutation() -> None:
    system, state, particles = sample(5)
    times = torch.tensor([2.0], dtype=torch.float64)
    q, _ = system.trajectory(state, particles, times)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turned, _ = system.trajectory(PhaseState(q=state.q @ turn.mT, p=state.p @ turn.mT), particles, times)
    assert (turned - q @ turn.mT).abs().max() < ROUNDING * 10
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    shuffled = Particles(masses=particles.masses[:, order], attributes=particles.attributes[:, order])
    permuted, _ = system.trajectory(PhaseState(q=state.q[:, order], p=state.p[:, order]), shuffled, times)
    assert (permuted - q[:, :, order]).abs().max() < ROUNDING * 10


def test_chunked_solution_equals_single_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    system, state, particles = sample(5)
    times = torch.linspace(0, 1, 3, dtype=torch.float64)
    whole, _ = system.trajectory(state, particles, times)
    monkeypatch.setattr("lie_sim.systems.springs._CHUNK", 2)
    parts, _ = system.trajectory(state, particles, times)
    assert (whole - parts).abs().max() < ROUNDING


def test_distribution_is_the_benchmarks() -> None:
    system, state, particles = sample(5000)
    assert 0.1 <= particles.masses.min() < 0.11
    assert 3.09 < particles.masses.max() < 3.1
    assert particles.masses.mean().item() == pytest.approx(1.6, abs=0.02)
    assert particles.attributes.mean().item() == pytest.approx(2.5, abs=0.03)
    assert state.q.std().item() == pytest.approx(0.4, abs=0.005)
    assert state.p.std().item() == pytest.approx(0.6, abs=0.007)
    assert state.p.mean(0).abs().max() < ROUNDING  # the mean over systems vanishes …
    assert state.p.sum(1).std().item() == pytest.approx(
        0.6 * 6**0.5, rel=0.03
    )  # … that over particles does not
    q, p = system.trajectory(state, particles, torch.linspace(0, 5, 50, dtype=torch.float64))
    assert q.std().item() == pytest.approx(0.61, rel=SAMPLING)  # reference, measured: 0.62, 2.73, 3.90
    assert p.std().item() == pytest.approx(2.73, rel=SAMPLING)
    assert torch.cat([q, p]).var().item() == pytest.approx(3.90, rel=2 * SAMPLING)


def test_stiffest_mode_and_exact_zero_mode() -> None:
    _, _, particles = sample(1000)
    omega_squared, modes = normal_modes(particles)
    assert bool((omega_squared[:, 0] == 0).all())
    assert 0.35 < float(omega_squared.max().sqrt()) * 5 / 499 < 0.45  # ω·dt; reference, measured: 0.41
    assert (modes.mT @ modes - torch.eye(6)).abs().max() < ROUNDING


def test_smaller_samples_are_prefixes_of_larger_ones() -> None:
    _, small, few = sample(7)
    _, large, many = sample(5003)
    assert torch.equal(small.p, large.p[:7])
    assert torch.equal(few.masses, many.masses[:7])


def test_generation_is_fast() -> None:
    """10,000 systems × 500 points take well under 10 CPU-seconds; a tenth of a tenth is run here."""
    system, state, particles = sample(200)
    system.trajectory(state, particles, system.default_times())
    start = time.process_time()
    system.trajectory(state, particles, system.default_times())
    assert time.process_time() - start < 1.0  # 0.1 when idle; fourth-order integration needs 7


def test_missing_spring_constants_are_explained() -> None:
    with pytest.raises(ValueError, match="holding k"):
        Springs().potential(torch.zeros(1, 6, 2), Particles(masses=torch.ones(1, 6)))
    with pytest.raises(ValueError, match="num_systems must be at least 1"):
        Springs().sample(0, generator=torch.Generator())
