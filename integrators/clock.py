"""Time as a coordinate: a driven system becomes one that is not, and every method can advance it.

    q̂ = (q, τ),   p̂ = (p, p_t),      Ĥ(q̂, p̂) = T(p) + p_t + V(q, t₀ + τ)
    velocity      dq/dt = ∂T/∂p,      dτ/dt = 1
    force         dp/dt = −∂V/∂q,     dp_t/dt = −∂V/∂t

Ĥ is separable and conserved, and p_t begins at 0: it is minus what the drive has done. Time is a further row of
(q, p), the clock: τ is its first coordinate, p_t its first momentum, and the others are 0. The origin t₀ is kept apart,
so that τ stays small and keeps its digits in float32.

Shape letters: B batch, N particles, M = N + 1 with the clock, d space dimension.
Reference: Hairer, Lubich, Wanner, "Geometric Numerical Integration", Springer 2006, §VIII.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.state import PhaseState


@runtime_checkable
class Driven(Protocol):
    """What depends on time: a bound :class:`~lie_sim.driven.DrivenHamiltonian`, say."""

    def force_and_power(self, q: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """−∂V/∂q, of the shape of q, and ∂V/∂t, shape (B,), at times t, shape (B,)."""

    def velocity(self, p: Tensor) -> Tensor:
        """∂T/∂p, of the shape of p."""

    def kinetic_energy(self, p: Tensor) -> Tensor:
        """T, shape (B,)."""

    def energy(self, state: PhaseState) -> Tensor:
        """H at the time of the state, shape (B,)."""


class Clocked:
    """A driven system with its clock, for methods that know nothing of time.

    Args:
        system: with its particles.
        origin: t₀, one for all or one per system, shape (B,); float64 keeps the digits of late times.

    Example:
        >>> from lie_sim.systems import DrivenDuffing
        >>> from lie_sim.integrators import Clocked, DrivenDynamics, integrate
        >>> duffing = DrivenDuffing()
        >>> state, particles = duffing.sample(2, generator=torch.Generator().manual_seed(0))
        >>> system = Clocked(DrivenDynamics(duffing, particles))
        >>> q, p = integrate(system, *system.start(state.q, state.p), step_size=0.01, num_steps=100)
        >>> q.shape, bool((q[:, -1, -1, 0] - 1.0).abs().max() < 1e-12)
        (torch.Size([2, 101, 2, 1]), True)
    """

    separable = True

    def __init__(self, system: Driven, origin: Float[Tensor, "..."] | float = 0.0) -> None:
        self.system = system
        self.begun = torch.as_tensor(origin, dtype=torch.float64)
        self.origin = self.begun

    def start(self, q: Float[Tensor, "B N d"], p: Float[Tensor, "B N d"]) -> tuple[Tensor, Tensor]:
        """(q, p) with a clock that shows τ = 0 and p_t = 0, each of shape (B, N + 1, d)."""
        clock = torch.zeros_like(q[:, :1])
        return torch.cat([q, clock], dim=1), torch.cat([p, torch.zeros_like(clock)], dim=1)

    def rewound(self, q: Float[Tensor, "B M d"]) -> Float[Tensor, "B M d"]:
        """Positions with τ = 0; for whoever has moved the origin there."""
        return torch.cat([q[:, :-1], torch.zeros_like(q[:, -1:])], dim=1)

    def stripped(self, found: Any) -> Any:
        """What ``odeint`` returns, without the row of the clock: (q, p), or the times of events and (q, p)."""
        if isinstance(found[1], tuple):
            return found[0], self.stripped(found[1])
        return found[0][..., :-1, :], found[1][..., :-1, :]

    def without_clock(self, event_fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """An event function that sees the particles only."""
        return lambda t, state: event_fn(t, tuple(x[..., :-1, :] for x in state))

    @property
    def masses(self) -> Float[Tensor, "B M"]:
        """Masses, for methods that need them: the clock has an infinite one, which no bath can move."""
        owner: Any = self.system
        if callable(getattr(owner, "particle_masses", None)):
            masses, particles = owner.particle_masses(), owner._particles
        else:
            particles = owner.particles
            masses = particles.masses
        masses = masses if particles.mask is None else torch.where(particles.mask, masses, 0.0)
        return torch.nn.functional.pad(masses, (0, 1), value=torch.inf)

    def times(self, q: Float[Tensor, "B M d"]) -> Float[Tensor, " B"]:
        """t₀ + τ, shape (B,), float64."""
        return self.origin.to(q.device) + q[:, -1, 0].double()

    def force(self, q: Float[Tensor, "B M d"]) -> Float[Tensor, "B M d"]:
        """−∂Ĥ/∂q̂, shape (B, N + 1, d)."""
        force, power = self.system.force_and_power(q[:, :-1], self.times(q))
        return torch.cat([force, _row(-power.to(force.dtype), force)], dim=1)

    def velocity(self, p: Float[Tensor, "B M d"]) -> Float[Tensor, "B M d"]:
        """∂Ĥ/∂p̂, shape (B, N + 1, d)."""
        velocity = self.system.velocity(p[:, :-1])
        return torch.cat([velocity, _row(torch.ones_like(p[:, -1, 0]), velocity)], dim=1)

    def kinetic_energy(self, p: Float[Tensor, "B M d"]) -> Float[Tensor, " B"]:
        """T of the particles, without p_t, shape (B,)."""
        return self.system.kinetic_energy(p[:, :-1])

    def energy(self, state: PhaseState) -> Float[Tensor, " B"]:
        """Ĥ = H + p_t, which is conserved, shape (B,); of a state with its clock."""
        return self.energy_at(state.q, state.p) + state.p[:, -1, 0]

    def energy_at(self, q: Float[Tensor, "B M d"], p: Float[Tensor, "B M d"]) -> Float[Tensor, " B"]:
        """H at the time that the clock shows, shape (B,)."""
        return self.system.energy(PhaseState(q=q[:, :-1], p=p[:, :-1], t=self.times(q)))

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(dq̂/dt, dp̂/dt); ``t`` is not used, as the clock shows it."""
        return self.velocity(state[1]), self.force(state[0])


def _row(first: Float[Tensor, " B"], like: Float[Tensor, "B N d"]) -> Float[Tensor, "B 1 d"]:
    """One more row: a first entry and zeros."""
    row = first[:, None, None]
    return torch.nn.functional.pad(row, (0, like.shape[-1] - 1))


def is_driven(candidate: Any) -> bool:
    """Whether something depends on time and has no clock yet.

    Example:
        >>> is_driven(object())
        False
    """
    return not isinstance(candidate, Clocked) and isinstance(owner_of(candidate), Driven)


def owner_of(candidate: Any) -> Any:
    """The system of a method such as ``H.vector_field``; anything else as it is."""
    return getattr(candidate, "__self__", candidate)
