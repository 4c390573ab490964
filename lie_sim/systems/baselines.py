"""What a learned model of the solar system has to beat: three predictions that need no training.

- constant velocity:  q(t) = q₀ + v₀ t
- circular orbits:    each planet turns about the Sun at its initial distance, in its initial plane, at its
  initial angular speed h/r²; the Sun moves uniformly
- Newton, leapfrog:   p += h/2 F(q),  q += h p/m,  p += h/2 F(q), at a fixed step h (order 2, symplectic)

Shape letters: B batch, N bodies, d = 3, T times.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.state import Particles, PhaseState
from lie_sim.systems.base import System


def constant_velocity(
    state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
) -> Float[Tensor, "B T N d"]:
    """Positions of bodies that feel no force, shape (B, T, N, d).

    Example:
        >>> state = PhaseState(q=torch.zeros(1, 1, 3), p=torch.ones(1, 1, 3))
        >>> particles = Particles(masses=torch.full((1, 1), 2.0))
        >>> constant_velocity(state, particles, torch.tensor([4.0])).flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    velocity = state.p / particles.masses[..., None]
    return state.q[:, None] + times[:, None, None] * velocity[:, None]


def circular_orbits(
    state: PhaseState, particles: Particles, times: Float[Tensor, " T"], *, central: int = 0
) -> Float[Tensor, "B T N 3"]:
    """Positions on circles about body ``central``, which itself moves uniformly, shape (B, T, N, 3)."""
    velocity = state.p / particles.masses[..., None]
    centre, drift = state.q[:, central : central + 1], velocity[:, central : central + 1]
    radius_vector, relative = state.q - centre, velocity - drift
    radius = radius_vector.norm(dim=-1, keepdim=True)
    normal = torch.linalg.cross(radius_vector, relative, dim=-1)
    momentum = normal.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(radius.dtype).tiny
    rate = momentum / radius.square().clamp(min=tiny)
    ahead = torch.linalg.cross(normal, radius_vector, dim=-1) / momentum.clamp(min=tiny)  # ⟂ r, as long
    angle = rate[:, None] * times[:, None, None]
    orbit: Tensor = radius_vector[:, None] * torch.cos(angle) + ahead[:, None] * torch.sin(angle)
    return orbit + centre[:, None] + times[:, None, None] * drift[:, None]


def leapfrog(
    system: System, state: PhaseState, particles: Particles, *, dt: float, num_steps: int, every: int = 1
) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
    """Positions and momenta of the true force at a fixed step, the initial state included.

    Args:
        system: gives the force.
        state: at time 0.
        particles: what the bodies are.
        dt: step.
        num_steps: steps to take.
        every: keep one state in so many, so T = num_steps // every + 1.
    """
    q, p, force = state.q, state.p, system.force(state.q, particles)
    inverse_mass = 1 / particles.masses[..., None]
    qs, ps = [q], [p]
    for step in range(1, num_steps + 1):
        p = p + 0.5 * dt * force
        q = q + dt * p * inverse_mass
        force = system.force(q, particles)
        p = p + 0.5 * dt * force
        if step % every == 0:
            qs.append(q)
            ps.append(p)
    return torch.stack(qs, 1), torch.stack(ps, 1)
