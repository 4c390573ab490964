"""The solar system: DE421 as jplephem reads it, Newton against it, and the untrained baselines."""

import numpy as np
import pytest
import torch

from lie_sim.state import Particles, PhaseState
from lie_sim.systems import SolarSystem
from lie_sim.systems.baselines import circular_orbits, constant_velocity, leapfrog
from lie_sim.systems.solar import BODIES, FIRST_DAY, LAST_DAY, julian_date
from lie_sim.units import GM_SUN, SPEED_OF_LIGHT

EPHEMERIS = 1e-13  # AU; the largest coordinate is 40 AU
NEWTON = 1e-5  # relative acceleration, all bodies
PLANETS = 3e-7  # the same without the Sun: relativity, and Earth and Moon as one


@pytest.fixture(scope="module")
def system() -> SolarSystem:
    return SolarSystem()


@pytest.fixture(scope="module")
def decades(system: SolarSystem):
    return system.ephemeris("1980-01-01", "2020-01-01", step_days=20.0)


def test_ephemeris_agrees_with_jplephem(system: SolarSystem) -> None:
    jplephem, de421 = pytest.importorskip("jplephem"), pytest.importorskip("de421")
    ours = system.ephemeris(FIRST_DAY, LAST_DAY, step_days=997.3)
    theirs = jplephem.Ephemeris(de421)
    velocity = ours.p / ours.particles.masses[0, :, None]
    for k, body in enumerate(BODIES):
        q, v = theirs.position_and_velocity(body, ours.days.numpy())
        assert np.abs(q.T / theirs.AU - ours.q[:, k].numpy()).max() < EPHEMERIS, body
        assert np.abs(v.T / theirs.AU - velocity[:, k].numpy()).max() < EPHEMERIS, body


def test_newton_reproduces_the_accelerations(system: SolarSystem, decades) -> None:
    particles = system.particles().expand(len(decades.q))
    newton = system.force(decades.q, particles) / particles.masses[..., None]
    error = (newton - decades.acceleration).norm(dim=-1) / decades.acceleration.norm(dim=-1)
    worst = dict(zip(BODIES, error.amax(0).tolist(), strict=True))
    assert max(worst.values()) < NEWTON, worst
    assert max(value for body, value in worst.items() if body != "sun") < PLANETS, worst
    relativity = 3 * GM_SUN / SPEED_OF_LIGHT**2 / 0.387  # of Mercury, which Newton must miss
    assert 0.5 * relativity < worst["mercury"] < 2 * relativity


def test_accelerations_are_the_derivative_of_the_velocities(system: SolarSystem) -> None:
    fine = system.ephemeris("2000-01-01", "2000-01-02", step_days=0.5)
    velocity = fine.p / fine.particles.masses[0, :, None]
    difference = (velocity[2] - velocity[0]) / 1.0
    error = (difference - fine.acceleration[1]).norm(dim=-1) / fine.acceleration[1].norm(dim=-1)
    assert error[1:].max() < 1e-3  # O(h²): Mercury turns by 0.04 in half a day


def test_masses_are_the_ephemeris_constants_in_full_precision(system: SolarSystem) -> None:
    masses = dict(zip(BODIES, system.particles().masses[0].tolist(), strict=True))
    assert masses["sun"] == 1.0
    assert masses["jupiter"] == pytest.approx(2.82534584085505e-07 / GM_SUN, rel=1e-15)
    assert 1 / masses["jupiter"] == pytest.approx(1047.3486, abs=1e-4)  # IAU
    assert 1 / masses["earthmoon"] == pytest.approx(328900.56, abs=0.02)  # IAU


def test_momentum_is_zero_in_the_barycentric_frame(decades) -> None:
    total = decades.p.sum(1).norm(dim=-1)
    assert total.max() < 1e-5 * decades.p.norm(dim=-1).max()  # the rest is in asteroids and relativity


def test_newtonian_trajectory_follows_the_ephemeris_for_a_season(system: SolarSystem) -> None:
    season = system.ephemeris("2000-01-01", "2000-04-01", step_days=13.0)
    q, _ = system.trajectory(season.state(), season.particles, season.times())
    assert (q[0] - season.q).norm(dim=-1).max() < 5e-7  # AU: Mercury's perihelion, 43″ a century


def test_baselines_come_in_the_expected_order(system: SolarSystem) -> None:
    month = system.ephemeris("2000-01-01", "2000-01-31")
    arguments = (month.state(), month.particles)
    newton, _ = leapfrog(system, *arguments, dt=0.25, num_steps=120, every=4)
    assert newton.shape == (1, 31, 10, 3)
    predictions = [
        newton,
        circular_orbits(*arguments, month.times()),
        constant_velocity(*arguments, month.times()),
    ]
    errors = [float((x[0, :, 1:] - month.q[:, 1:]).norm(dim=-1).square().mean().sqrt()) for x in predictions]
    assert errors[0] < 1e-2 * errors[1] < 1e-2 * errors[2], errors
    for x in predictions:
        assert torch.allclose(x[0, 0], month.q[0], atol=1e-13)


def test_circular_orbit_is_exact_for_a_circle_about_a_moving_sun() -> None:
    particles = Particles(masses=torch.tensor([[1.0, 1e-3]], dtype=torch.float64))
    drift = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    q = torch.tensor([[[1.0, 0, 0], [1.0, 0, 2.0]]], dtype=torch.float64)
    v = torch.stack([drift, drift + torch.tensor([0.0, 0.6, 0.0], dtype=torch.float64)])[None]
    times = torch.tensor([0.0, torch.pi / 0.6], dtype=torch.float64)  # half a turn: ω = 0.6/2
    orbit = circular_orbits(PhaseState(q=q, p=v * particles.masses[..., None]), particles, times)
    quarter = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64) + times[1] * drift
    assert (orbit[0, 1, 1] - quarter).abs().max() < 1e-12  # π/0.6 · 0.3 = π/2
    assert (orbit[0, 1, 0] - (q[0, 0] + times[1] * drift)).abs().max() < 1e-12


def test_fewer_bodies_in_another_order() -> None:
    system = SolarSystem.of("jupiter", "sun")
    states, particles = system.sample(4, generator=torch.Generator().manual_seed(0))
    assert states.q.shape == (4, 2, 3)
    assert bool((particles.masses[:, 1] == 1).all())
    distance = (states.q[:, 0] - states.q[:, 1]).norm(dim=-1)
    assert bool(((distance > 4.9) & (distance < 5.5)).all())


def test_wrong_dates_and_bodies_are_explained(system: SolarSystem) -> None:
    assert julian_date("1969-06-28") == 2440400.5  # the epoch of DE421
    with pytest.raises(ValueError, match='must look like "1980-01-31"'):
        julian_date("1. 1. 2000")
    with pytest.raises(ValueError, match="covers Julian dates"):
        system.ephemeris("2199-01-01", "2201-01-01")
    with pytest.raises(ValueError, match="end must not precede start"):
        system.ephemeris("2001-01-01", "2000-01-01")
    with pytest.raises(ValueError, match="unknown bodies vulcan"):
        SolarSystem.of("sun", "vulcan")
    with pytest.raises(ValueError, match="number of bodies, 10"):
        SolarSystem(num_particles=3)
