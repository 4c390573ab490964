"""A chain of pendulums on one torsion wire: each hangs in gravity, neighbours twist the wire between them.

    V(θ) = Σ_i g_i (1 − cos θ_i) + ½ κ Σ_i (θ_{i+1} − θ_i)²
    −∂V/∂θ_i = −g_i sin θ_i + κ (θ_{i+1} − 2 θ_i + θ_{i−1})           (ends: one neighbour)

This is the Frenkel–Kontorova chain, whose continuum limit is the sine-Gordon equation. A hanging chain of
rigid rods has a kinetic energy that depends on the angles; twisting about one axis keeps H separable, so it
is the particle system of choice here: θ are the coordinates (d = 1), moments of inertia are the masses, p =
I θ̇ the momenta. Gravity singles out θ = 0, so nothing but θ → −θ and the shift of all angles by 2π is a
symmetry, and the order along the wire matters; both are told to a model by the attributes (g_i, i).

Shape letters: B batch, N pendulums, d = 1, T times.
Reference: Braun, Kivshar, "The Frenkel-Kontorova Model", Springer 2004, ch. 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.state import Particles, PhaseState
from lie_sim.systems.base import System, register_system
from lie_sim.systems.propagate import solve


@register_system
@dataclass(frozen=True)
class PendulumChain(System):
    """Torsion-coupled pendulums; attributes hold the gravity torque g_i and the site i along the wire.

    Distribution: I ~ U(0.5, 1.5), g ~ U(0.5, 1.5), θ₀ ~ N(0, 1), p₀ ~ N(0, 1): oscillations and full turns.

    Args:
        num_particles: N.
        dim: must be 1.
        stiffness: κ, torque per angle of the wire between neighbours.

    Example:
        >>> chain = PendulumChain(num_particles=2, stiffness=1.0)
        >>> attributes = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> particles = Particles(masses=torch.ones(1, 2), attributes=attributes)
        >>> chain.force(torch.tensor([[[0.0], [1.0]]]), particles).flatten().tolist()
        [1.0, -1.8414709568023682]
    """

    num_particles: int = 6
    dim: int = 1
    stiffness: float = 2.0
    name: ClassVar[str] = "pendulums"
    accuracy: ClassVar[float] = 1e-10
    attribute_names: ClassVar[tuple[str, ...]] = ("gravity", "site")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim != 1:
            raise ValueError(f"pendulums move in one angle each: dim must be 1, got {self.dim}")

    def default_times(self) -> Float[Tensor, " T"]:
        """201 points from 0 to 10: the small oscillations have periods from about 1 to 9."""
        return torch.linspace(0.0, 10.0, 201, dtype=torch.float64)

    def potential(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """Gravity and torsion energy of each chain, shape (B,)."""
        angle = q[..., 0]
        hanging = (_gravity(particles) * (1 - torch.cos(angle))).sum(-1)
        return hanging + 0.5 * self.stiffness * angle.diff(dim=1).square().sum(-1)

    def force(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B N d"]:
        """Torques −∂V/∂θ, shape (B, N, 1)."""
        angle = q[..., 0]
        twist = self.stiffness * angle.diff(dim=1)
        torque = -_gravity(particles) * torch.sin(angle)
        torque = torque + torch.nn.functional.pad(twist, (0, 1)) - torch.nn.functional.pad(twist, (1, 0))
        return torque[..., None]

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw chains, float64."""
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
        shape = (num_systems, self.num_particles)
        inertia, gravity = 0.5 + torch.rand((2, *shape), **options)
        q, p = torch.randn((2, *shape, 1), **options)
        site = torch.arange(self.num_particles, dtype=torch.float64).expand(shape)
        return PhaseState(q=q, p=p), Particles(masses=inertia, attributes=torch.stack([gravity, site], -1))

    def trajectory(
        self, state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
    ) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
        """Angles (not wrapped) and angular momenta at ``times``, each (B, T, N, 1)."""
        return solve(self.force, state, particles, times)


def _gravity(particles: Particles) -> Float[Tensor, "B N"]:
    if particles.attributes is None or particles.attributes.shape[-1] < 1:
        raise ValueError(
            "pendulums need particles.attributes of shape (B, N, 2) holding (g, site); there are none"
        )
    return particles.attributes[..., 0]
