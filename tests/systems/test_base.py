"""The registry of systems, and what every system must satisfy."""

import pytest
import torch

from lie_sim.state import PhaseState
from lie_sim.systems import DrivenSystem, System, build_system, system_names

ROUNDING = 1e-12
GRADIENT = 1e-11  # relative: closed form against automatic differentiation


@pytest.mark.parametrize("name", system_names())
class TestEverySystem:
    def sample(self, name: str, num_systems: int = 3):
        system = build_system(name)
        return system, *system.sample(num_systems, generator=torch.Generator().manual_seed(1))

    def test_options_rebuild_it(self, name: str) -> None:
        system = build_system(name)
        assert build_system(system.name, **system.options()) == system

    def test_sample_has_the_declared_shapes(self, name: str) -> None:
        system, state, particles = self.sample(name)
        assert state.q.shape == (3, system.num_particles, system.dim)
        assert state.q.dtype == state.p.dtype == particles.masses.dtype == torch.float64
        columns = 0 if particles.attributes is None else particles.attributes.shape[-1]
        assert columns == len(system.attribute_names)

    def test_sample_depends_on_the_seed_only(self, name: str) -> None:
        system, state, _ = self.sample(name)
        _, again, _ = self.sample(name)
        other, _ = system.sample(3, generator=torch.Generator().manual_seed(2))
        assert torch.equal(state.p, again.p)
        assert not torch.equal(state.p, other.p)

    def test_force_is_minus_the_gradient_of_the_potential(self, name: str) -> None:
        system, state, particles = self.sample(name)
        force = system.force(state.q, particles)
        error = (force - System.force(system, state.q, particles)).abs().max() / force.abs().max()
        assert error < GRADIENT

    def test_short_trajectory_obeys_the_equations_of_motion(self, name: str) -> None:
        system, state, particles = self.sample(name)
        h = 1e-3 * float(system.default_times()[1])
        times = torch.tensor([0.0, h, 2 * h], dtype=torch.float64)
        q, p = system.trajectory(state, particles, times)
        middle = PhaseState(q=q[:, 1], p=p[:, 1])
        velocity = (q[:, 2] - q[:, 0]) / (2 * h) - middle.p / particles.masses[..., None]
        now = {"t": times[1]} if isinstance(system, DrivenSystem) else {}
        rate = (p[:, 2] - p[:, 0]) / (2 * h) - system.force(middle.q, particles, **now)
        assert velocity.abs().max() < 1e-5 * (middle.p / particles.masses[..., None]).abs().max()  # O(h²)
        assert rate.abs().max() < 1e-5 * system.force(middle.q, particles).abs().max()

    def test_trajectory_conserves_energy(self, name: str) -> None:
        system, state, particles = self.sample(name)
        if isinstance(system, DrivenSystem):
            return  # its energy changes by the work of the drive: test_driven.py
        times = system.default_times()[:20]
        q, p = system.trajectory(state, particles, times)
        start, end = (system.energy(PhaseState(q=q[:, k], p=p[:, k]), particles) for k in (0, -1))
        assert ((end - start) / start).abs().max() < 1e-10


def test_unknown_names_and_options_are_explained() -> None:
    with pytest.raises(ValueError, match=r"unknown system 'sprngs'; choose one of .*springs"):
        build_system("sprngs")
    with pytest.raises(
        ValueError, match="springs has no option stiffness; its options are num_particles, dim"
    ):
        build_system("springs", stiffness=1.0)
    with pytest.raises(ValueError, match="at least 1"):
        build_system("springs", num_particles=0)
