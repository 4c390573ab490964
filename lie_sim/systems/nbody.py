"""Bodies that attract or repel as 1/r², with Plummer softening: gravity and electric charges.

    V(q) = c Σ_{i<j} w_i w_j / √(|q_i − q_j|² + ε²)
    F_i  = c w_i Σ_j w_j (q_i − q_j) / (|q_i − q_j|² + ε²)^{3/2}

Gravity has c = −G and w = mass; charges have c = +1 and w = charge. The softening length ε > 0 makes V
smooth where bodies meet, so trajectories can be computed to near machine precision
(:mod:`lie_sim.systems.propagate`).

Shape letters: B batch, N particles, d space dimension, T times.
References: Plummer, MNRAS 71 (1911) 460; Kipf et al., "Neural Relational Inference for Interacting
Systems", ICML 2018 (distribution of the charges); Hutchinson et al., "LieTransformer", ICML 2021, code
(star and planets).
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


def inverse_distance_energy(
    q: Float[Tensor, "B N d"], weights: Float[Tensor, "B N"], softening: float
) -> Float[Tensor, " B"]:
    """Σ_{i<j} w_i w_j / √(|q_i − q_j|² + ε²) of each system, shape (B,)."""
    i, j = torch.triu_indices(q.shape[1], q.shape[1], offset=1, device=q.device)
    squared = (q[:, i] - q[:, j]).square().sum(-1) + softening**2
    return (weights[:, i] * weights[:, j] * squared.rsqrt()).sum(-1)


def inverse_square_force(
    q: Float[Tensor, "B N d"], weights: Float[Tensor, "B N"], softening: float
) -> Float[Tensor, "B N d"]:
    """Minus the gradient of :func:`inverse_distance_energy`, shape (B, N, d); ε may be 0."""
    separation = q[:, :, None] - q[:, None, :]
    itself = torch.eye(q.shape[1], dtype=q.dtype, device=q.device)  # anything but 0: its separation is 0
    inverse = (separation.square().sum(-1) + softening**2 + itself).rsqrt()
    strength = weights[:, :, None] * weights[:, None, :] * inverse**3
    return (strength[..., None] * separation).sum(2)


@dataclass(frozen=True)
class _InverseSquare(System):
    """What gravity and charges have in common."""

    softening: float = 0.1
    accuracy: ClassVar[float] = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.softening <= 0:
            raise ValueError(f"softening must be positive (it bounds the force), got {self.softening}")

    def trajectory(
        self, state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
    ) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
        """Positions and momenta at ``times`` (monotonic), each (B, T, N, d), refined until converged."""
        return solve(self.force, state, particles, times)


@register_system
@dataclass(frozen=True)
class SoftenedGravity(_InverseSquare):
    """A heavy star and its planets, all attracting each other.

    The star (mass 50) rests at the origin; planets have m ~ U(0.1, 4.6), a distance ~ U(0.085, 0.935) in a
    random direction, and the speed of a circular orbit about the star, in a random direction across. The
    order of the bodies is random.

    Args:
        num_particles: N, the star included.
        dim: space dimension, 2 or 3.
        softening: ε, length.
        G: gravitational constant.

    Example:
        >>> system = SoftenedGravity(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> q, p = system.trajectory(state, particles, torch.linspace(0, 0.1, 3, dtype=torch.float64))
        >>> q.shape
        torch.Size([2, 3, 3, 2])
    """

    softening: float = 0.15
    G: float = 0.06
    name: ClassVar[str] = "gravity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_particles < 2 or self.dim < 2:
            raise ValueError(
                f"orbits need num_particles >= 2 and dim >= 2, got {self.num_particles} and {self.dim}"
            )

    def default_times(self) -> Float[Tensor, " T"]:
        """200 points from 0 to 2."""
        return torch.linspace(0.0, 2.0, 200, dtype=torch.float64)

    def potential(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """−G Σ m_i m_j / √(r² + ε²) of each system, shape (B,)."""
        return -self.G * inverse_distance_energy(q, particles.masses, self.softening)

    def force(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B N d"]:
        """−∂V/∂q in closed form, shape (B, N, d)."""
        return -self.G * inverse_square_force(q, particles.masses, self.softening)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw stars with planets, float64."""
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
        planets = (num_systems, self.num_particles - 1)
        star_mass = 50.0
        masses = 4.5 * torch.rand(planets, **options) + 0.1
        distance = 0.85 * torch.rand((*planets, 1), **options) + 0.085
        outward = _unit(torch.randn((*planets, self.dim), **options))
        across = torch.randn((*planets, self.dim), **options)
        across = _unit(across - (across * outward).sum(-1, keepdim=True) * outward)
        speed = (self.G * star_mass) ** 0.5 * distance * (distance**2 + self.softening**2) ** -0.75
        masses = torch.cat([masses.new_full((num_systems, 1), star_mass), masses], 1)
        at_rest = distance.new_zeros(num_systems, 1, self.dim)
        q = torch.cat([at_rest, distance * outward], 1)
        p = torch.cat([at_rest, speed * across], 1) * masses[..., None]
        order = torch.rand(masses.shape, **options).argsort(1)
        index = order[..., None].expand_as(q)
        return PhaseState(q=q.gather(1, index), p=p.gather(1, index)), Particles(
            masses=masses.gather(1, order)
        )


@register_system
@dataclass(frozen=True)
class SoftenedCharges(_InverseSquare):
    """Unit masses with charges ±1; like charges repel, opposite ones attract. Attributes hold the charge.

    q₀ ~ N(0, 1) per coordinate; velocities have a random direction and |v| = 0.5, as in the
    charged-particle benchmark of neural relational inference (there with a clipped force in place of the
    softening, and a box).

    Args:
        num_particles: N.
        dim: space dimension d.
        softening: ε, length.

    Example:
        >>> state, particles = SoftenedCharges().sample(2, generator=torch.Generator().manual_seed(0))
        >>> state.q.shape, particles.attributes.abs().unique().tolist()
        (torch.Size([2, 5, 3]), [1.0])
    """

    num_particles: int = 5
    dim: int = 3
    softening: float = 0.2
    name: ClassVar[str] = "charges"
    attribute_names: ClassVar[tuple[str, ...]] = ("charge",)

    def default_times(self) -> Float[Tensor, " T"]:
        """251 points from 0 to 5."""
        return torch.linspace(0.0, 5.0, 251, dtype=torch.float64)

    def potential(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """Σ c_i c_j / √(r² + ε²) of each system, shape (B,)."""
        return inverse_distance_energy(q, _charges(particles), self.softening)

    def force(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B N d"]:
        """−∂V/∂q in closed form, shape (B, N, d)."""
        return inverse_square_force(q, _charges(particles), self.softening)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw positions, directions of motion and charges, float64."""
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
        shape = (num_systems, self.num_particles)
        q = torch.randn((*shape, self.dim), **options)
        p = 0.5 * _unit(torch.randn((*shape, self.dim), **options))
        charges = 2.0 * (torch.rand((*shape, 1), **options) < 0.5).to(q) - 1.0
        return PhaseState(q=q, p=p), Particles(masses=q.new_ones(shape), attributes=charges)


def _charges(particles: Particles) -> Float[Tensor, "B N"]:
    if particles.attributes is None or particles.attributes.shape[-1] < 1:
        raise ValueError("charges need particles.attributes of shape (B, N, 1) holding ±1; there are none")
    return particles.attributes[..., 0]


def _unit(x: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
    return torch.nn.functional.normalize(x, dim=-1)
