"""Systems that something outside drives, so that their energy depends on time.

    V(q, t) = V₀(q) + Σ_a s_a(t) V_a(q),      ∂V/∂t = Σ_a ṡ_a(t) V_a(q)

    Duffing    V₀ = Σ ½ α x² + ¼ β x⁴,      V₁ = −Σ x,      s = Σ_k f_k cos(ω_k t + θ_k)
    springs    V₀ = ½ Σ_ij k_i k_j |q_i − q_j|²,      V₁ = V₀,      s likewise
    tide       V₀ = −G m₁ m₂ / √(r² + ε²) − ¼ τ Σ m_i |q_i|²,
               V_{1,2} = −¾ τ Σ m_i (x² − y², 2xy),      s = (cos 2Ωt, sin 2Ωt),      τ = G M / R³

The tide is the quadrupole of a distant body on a circle of radius R about the origin, in its plane:
½ τ m (|q|² − 3 (q·n)²) with n = (cos Ωt, sin Ωt). Trajectories are integrated in extended phase space.

Shape letters: B batch, N particles, d space dimension, T times, A drives.
References: Duffing, "Erzwungene Schwingungen", 1918; Murray, Dermott, "Solar system dynamics", 1999, §4.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.state import Particles, PhaseState
from lie_sim.systems.base import System, register_system
from lie_sim.systems.nbody import inverse_distance_energy, inverse_square_force
from lie_sim.systems.propagate import solve_driven
from lie_sim.systems.springs import Springs


@dataclass(frozen=True)
class DrivenSystem(System):
    """What driven systems have in common: a potential that is linear in known functions of time."""

    accuracy: ClassVar[float] = 1e-10

    @abstractmethod
    def static(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """V₀ of each system, shape (B,)."""

    @abstractmethod
    def couplings(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B A"]:
        """V_a of each system, shape (B, A)."""

    @abstractmethod
    def strengths(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A"]]:
        """s_a and ṡ_a at times t, shape (B, A) each."""

    def potential(
        self, q: Float[Tensor, "B N d"], particles: Particles, t: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " B"]:
        """V(q, t) of each system, shape (B,); t is 0 if None, one for all or one per system."""
        strengths, _ = self.strengths(_times(q, t))
        return self.static(q, particles) + (strengths.to(q) * self.couplings(q, particles)).sum(-1)

    def force(
        self, q: Float[Tensor, "B N d"], particles: Particles, t: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "B N d"]:
        """−∂V/∂q at time t, shape (B, N, d); with a graph of its own, if anything that enters has one."""
        held = [q, *([] if t is None else [t]), *(x for x in vars(particles).values() if x is not None)]
        keep = torch.is_grad_enabled() and any(x.requires_grad for x in held)
        with torch.enable_grad():
            x = q if keep and q.requires_grad else q.detach().requires_grad_(True)
            return -torch.autograd.grad(self.potential(x, particles, t).sum(), x, create_graph=keep)[0]

    def power(
        self, q: Float[Tensor, "B N d"], particles: Particles, t: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " B"]:
        """∂V/∂t, shape (B,)."""
        _, rates = self.strengths(_times(q, t))
        return (rates.to(q) * self.couplings(q, particles)).sum(-1)

    def energy(self, state: PhaseState, particles: Particles) -> Float[Tensor, " B"]:
        """H(q, p, t) of each system, shape (B,)."""
        return self.kinetic_energy(state.p, particles) + self.potential(state.q, particles, state.t)

    def trajectory(
        self, state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
    ) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
        """Positions and momenta at ``times`` after that of the state, each (B, T, N, d), refined until converged."""
        return solve_driven(self.force, state, particles, times)


def _times(q: Tensor, t: Tensor | None) -> Float[Tensor, " B"]:
    """Float64, as the phase of a late time has no digits in float32."""
    t = q.new_zeros(()) if t is None else t
    return t.to(q.device, torch.float64).expand(len(q))


@dataclass(frozen=True)
class _Waves(DrivenSystem):
    """Driven by a sum of waves, s(t) = Σ_k f_k cos(ω_k t + θ_k).

    Args:
        amplitudes: f.
        frequencies: ω, radians per unit of time.
        phases: θ, radians.
    """

    amplitudes: tuple[float, ...] = (1.2, 0.9)
    frequencies: tuple[float, ...] = (0.8, 0.8 * 5**0.5)
    phases: tuple[float, ...] = (0.3, 1.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.amplitudes) == len(self.frequencies) == len(self.phases) > 0:
            raise ValueError(
                "amplitudes, frequencies and phases must be as many, and at least one each; got "
                f"{self.amplitudes}, {self.frequencies} and {self.phases}"
            )

    def strengths(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
        """S and ṡ, shape (B, 1) each."""
        strength, rate = torch.zeros_like(t), torch.zeros_like(t)
        for f, omega, theta in zip(self.amplitudes, self.frequencies, self.phases, strict=True):
            phase = t * omega + theta
            strength, rate = strength + f * phase.cos(), rate - f * omega * phase.sin()
        return strength[:, None], rate[:, None]


@register_system
@dataclass(frozen=True)
class DrivenDuffing(_Waves):
    """Hardening oscillators that a sum of waves pushes; they do not see one another.

    Distribution: m = 1, x₀ ~ N(0, 1), p₀ ~ N(0, 1).

    Args:
        num_particles: N.
        dim: space dimension d; every coordinate is an oscillator.
        amplitudes: forces f.
        frequencies: ω, radians per unit of time; by default in the ratio √5.
        phases: θ, radians.
        alpha: linear stiffness.
        beta: cubic stiffness, not negative.

    Example:
        >>> duffing = DrivenDuffing(amplitudes=(1.0,), frequencies=(2.0,), phases=(0.0,))
        >>> particles, q = Particles(masses=torch.ones(1, 1)), torch.ones(1, 1, 1)
        >>> float(duffing.force(q, particles, torch.tensor(0.0)))  # −1 − 0.25 + 1
        -0.25
    """

    num_particles: int = 1
    dim: int = 1
    alpha: float = 1.0
    beta: float = 0.25
    name: ClassVar[str] = "driven_duffing"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0:
            raise ValueError(f"beta must not be negative, or nothing holds the oscillators: got {self.beta}")

    def default_times(self) -> Float[Tensor, " T"]:
        """401 points from 0 to 40: five periods of the slower wave."""
        return torch.linspace(0.0, 40.0, 401, dtype=torch.float64)

    def static(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """Σ ½ α x² + ¼ β x⁴, shape (B,)."""
        square = q.square()
        return (0.5 * self.alpha * square + 0.25 * self.beta * square.square()).flatten(1).sum(1)

    def couplings(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B 1"]:
        """−Σ x, shape (B, 1)."""
        return -q.flatten(1).sum(1, keepdim=True)

    def force(
        self, q: Float[Tensor, "B N d"], particles: Particles, t: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "B N d"]:
        """−α x − β x³ + s(t), shape (B, N, d)."""
        return self.strengths(_times(q, t))[0].to(q)[..., None] - q * (self.alpha + self.beta * q.square())

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw oscillators, float64."""
        shape = (num_systems, self.num_particles, self.dim)
        q, p = torch.randn((2, *shape), generator=generator, dtype=torch.float64)
        return PhaseState(q=q, p=p), Particles(masses=torch.ones(shape[:2], dtype=torch.float64))


@register_system
@dataclass(frozen=True)
class DrivenSprings(_Waves):
    """The particles of :class:`~lie_sim.systems.Springs`, all of whose springs a wave stiffens and softens.

    Args:
        num_particles: N.
        dim: space dimension d.
        amplitudes: f, as shares of the stiffness; their sum of sizes is below 1.
        frequencies: ω, radians per unit of time.
        phases: θ, radians.

    Example:
        >>> system = DrivenSprings(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> system.potential(state.q, particles, torch.tensor([0.0, 1.0])).shape
        torch.Size([2])
    """

    num_particles: int = 6
    dim: int = 2
    amplitudes: tuple[float, ...] = (0.3,)
    frequencies: tuple[float, ...] = (4.0,)
    phases: tuple[float, ...] = (0.0,)
    name: ClassVar[str] = "driven_springs"
    attribute_names: ClassVar[tuple[str, ...]] = ("k",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(abs(f) for f in self.amplitudes) >= 1:
            raise ValueError(f"springs that push at times: the amplitudes {self.amplitudes} sum to 1 or more")

    def _springs(self) -> Springs:
        return Springs(num_particles=self.num_particles, dim=self.dim)

    def default_times(self) -> Float[Tensor, " T"]:
        """500 points from 0 to 5, as of springs."""
        return self._springs().default_times()

    def static(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """Energy of the springs, shape (B,)."""
        return self._springs().potential(q, particles)

    def couplings(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B 1"]:
        """The same, shape (B, 1)."""
        return self._springs().potential(q, particles)[:, None]

    def force(
        self, q: Float[Tensor, "B N d"], particles: Particles, t: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "B N d"]:
        """That of the springs times 1 + s(t), shape (B, N, d)."""
        stiffness = 1 + self.strengths(_times(q, t))[0].to(q)
        return stiffness[..., None] * self._springs().force(q, particles)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw springs, float64."""
        return self._springs().sample(num_systems, generator=generator)


@register_system
@dataclass(frozen=True)
class TidalTwoBody(DrivenSystem):
    """Two bodies about each other, in the tide of a third that is far away and circles the origin.

    Distribution: m ~ U(0.5, 1.5), distances ~ U(0.8, 1.2), the speed of a circular orbit times U(0.9, 1.1), in a random
    direction and sense; the centre of mass rests at the origin.

    Args:
        num_particles: must be 2.
        dim: must be 2.
        G: gravitational constant.
        softening: ε, length.
        tide: τ = G M / R³ of the third body.
        rate: Ω, radians per unit of time.

    Example:
        >>> system = TidalTwoBody()
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> q, p = system.trajectory(state, particles, torch.linspace(0, 1, 3, dtype=torch.float64))
        >>> q.shape
        torch.Size([2, 3, 2, 2])
    """

    num_particles: int = 2
    dim: int = 2
    G: float = 1.0
    softening: float = 0.1
    tide: float = 0.05
    rate: float = 0.4
    name: ClassVar[str] = "tidal_two_body"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.num_particles, self.dim) != (2, 2):
            raise ValueError(f"two bodies in a plane: got num_particles={self.num_particles}, dim={self.dim}")
        if self.softening <= 0:
            raise ValueError(f"softening must be positive (it bounds the force), got {self.softening}")

    def default_times(self) -> Float[Tensor, " T"]:
        """301 points from 0 to 30: about four orbits, and two turns of the third body."""
        return torch.linspace(0.0, 30.0, 301, dtype=torch.float64)

    def static(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """Attraction, and the part of the tide that does not turn, shape (B,)."""
        attraction = -self.G * inverse_distance_energy(q, particles.masses, self.softening)
        return attraction - 0.25 * self.tide * (particles.masses * q.square().sum(-1)).sum(-1)

    def couplings(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B 2"]:
        """Quadrupole moments times −¾ τ, shape (B, 2)."""
        x, y = q.unbind(-1)
        moments = torch.stack([x.square() - y.square(), 2 * x * y], dim=-1)
        return -0.75 * self.tide * (particles.masses[..., None] * moments).sum(1)

    def force(
        self, q: Float[Tensor, "B N d"], particles: Particles, t: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, "B N d"]:
        """−∂V/∂q in closed form, shape (B, N, d)."""
        attraction = -self.G * inverse_square_force(q, particles.masses, self.softening)
        cosine, sine = self.strengths(_times(q, t))[0].to(q)[:, None].unbind(-1)
        x, y = q.unbind(-1)
        turning = torch.stack([cosine * x + sine * y, sine * x - cosine * y], dim=-1)
        return attraction + self.tide * particles.masses[..., None] * (0.5 * q + 1.5 * turning)

    def strengths(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B 2"], Float[Tensor, "B 2"]]:
        """(cos 2Ωt, sin 2Ωt) and its rate, shape (B, 2) each."""
        phase, rate = 2 * self.rate * t, 2 * self.rate
        cosine, sine = phase.cos(), phase.sin()
        return torch.stack([cosine, sine], -1), rate * torch.stack([-sine, cosine], -1)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw pairs of bodies, float64."""
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
        masses = 0.5 + torch.rand((num_systems, 2), **options)
        distance, factor, angle, sense = torch.rand((4, num_systems, 1), **options)
        distance, factor = 0.8 + 0.4 * distance, 0.9 + 0.2 * factor
        outward = torch.cat([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()], -1)
        across = torch.stack([-outward[:, 1], outward[:, 0]], -1) * torch.where(sense < 0.5, -1.0, 1.0)
        total = masses.sum(1, keepdim=True)
        speed = factor * (self.G * total).sqrt() * distance * (distance**2 + self.softening**2) ** -0.75
        share = torch.stack([masses[:, 1], -masses[:, 0]], 1)[..., None] / total[..., None]
        q, v = share * (distance * outward)[:, None], share * (speed * across)[:, None]
        return PhaseState(q=q, p=v * masses[..., None]), Particles(masses=masses)
