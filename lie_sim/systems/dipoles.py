"""Rigid bodies that attract and turn each other: softened gravity between centres, softened dipoles on the bodies.

    V = Σ_{i<j} [ −a/ρ + s² (u_i·u_j / ρ³ − 3 (u_i·r)(u_j·r) / ρ⁵) ],   r = x_i − x_j,   ρ² = |r|² + ε²,   u_i = R_i χ

V depends on the poses relative to each other only, so the total momentum and angular momentum are conserved.

Shape letters: B batch, N bodies.
Reference: Allen, Germano, "Expressions for forces and torques in molecular simulations using rigid bodies",
Mol. Phys. 104 (2006) 3225.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.systems.rigid_body import (
    Momenta,
    Poses,
    RigidBodySystem,
    Triple,
    check_direction,
    normal_numbers,
    random_rotations,
)


@dataclass(frozen=True)
class SoftDipoles(RigidBodySystem):
    """N bodies that carry dipoles and attract each other, all of it softened: no pair energy is infinite.

    Distribution: R uniform, x ~ N(0, 1), π and p ~ N(0, ¼), the total p zero.

    Args:
        inertia: principal moments of every body.
        num_bodies: N.
        mass: of every body.
        attraction: a, energy × length.
        moment: s, strength of the dipoles.
        softening: ε, a length.
        dipole: χ, direction of the dipole along the body axes; of length 1.

    Example:
        >>> system = SoftDipoles(num_bodies=3)
        >>> g, mu = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> g.shape, mu.shape, system.wrench(g).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 3, 6]), torch.Size([2, 3, 6]))
    """

    num_bodies: int = 3
    mass: float = 1.0
    attraction: float = 1.0
    moment: float = 0.5
    softening: float = 0.5
    dipole: Triple = (0.6, 0.0, 0.8)
    name: ClassVar[str] = "soft_dipoles"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_direction("dipole", self.dipole)
        if self.num_bodies < 1 or not (self.mass > 0 and self.softening > 0):
            raise ValueError(
                "num_bodies must be at least 1, mass and softening positive; got "
                f"{self.num_bodies}, {self.mass} and {self.softening}"
            )

    @property
    def body_mass(self) -> float | None:
        """Mass of every body."""
        return self.mass

    def kinetic_energy(self, mu: Momenta) -> Float[Tensor, " B"]:
        """Σ (½ Σ π²/I + |p|²/(2m)) of each system, shape (B,)."""
        moving = mu[..., 3:].square().sum((-2, -1)) / (2 * self.mass)
        return self.spin_energy(mu).sum(-1) + moving

    def potential(self, g: Poses) -> Float[Tensor, " B"]:
        """Attraction and dipole energy of each system, shape (B,)."""
        first, second = torch.triu_indices(self.num_bodies, self.num_bodies, 1, device=g.device)
        axis = g[..., :3, :3] @ g.new_tensor(self.dipole)
        r = g[..., first, :3, 3] - g[..., second, :3, 3]
        rho = (r.square().sum(-1) + self.softening**2).sqrt()
        u, v = axis[..., first, :], axis[..., second, :]
        radial = (u * r).sum(-1) * (v * r).sum(-1)
        turning = (u * v).sum(-1) / rho**3 - 3 * radial / rho**5
        return (self.moment**2 * turning - self.attraction / rho).sum(-1)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[Poses, Momenta]:
        """Draw poses (B, N, 4, 4) and momenta (B, N, 6), float64."""
        shape = (num_systems, self.num_bodies)
        g = torch.zeros((*shape, 4, 4), dtype=torch.float64, device=generator.device)
        g[..., :3, :3] = random_rotations(shape, generator)
        g[..., :3, 3] = normal_numbers((*shape, 3), generator)
        g[..., 3, 3] = 1.0
        spin, push = (0.5 * normal_numbers((*shape, 3), generator) for _ in range(2))
        return g, torch.cat([spin, push - push.mean(-2, keepdim=True)], dim=-1)
