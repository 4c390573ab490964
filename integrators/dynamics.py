"""What a splitting method needs of a system: the force at given positions, the velocity at given momenta.

    dq/dt = v(p) = ∂T/∂p,      dp/dt = F(q) = −∂V/∂q

A bound :class:`~lie_sim.hamiltonian.Hamiltonian` is such a system; :class:`SystemDynamics` makes one of a
ground-truth :class:`~lie_sim.systems.System`.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.driven import DrivenHamiltonian
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.kinetic import Velocity
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import DrivenSystem, System


@runtime_checkable
class SeparableDynamics(Protocol):
    """Anything with a force that depends on q alone and a velocity that depends on p alone."""

    def force(self, q: Tensor) -> Tensor:
        """−∂V/∂q, of the shape of q."""

    def velocity(self, p: Tensor) -> Tensor:
        """∂T/∂p, of the shape of p."""


class SystemDynamics:
    """A ground-truth system together with its particles, ready to be integrated.

    Unlike ``System.force``, the force can be differentiated even where the system has no closed form for it.

    Args:
        system: energy and force.
        particles: masses and parameters, shape (B, N, ·).

    Example:
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> dynamics = SystemDynamics(system, particles)
        >>> dynamics.force(state.q).shape, dynamics.velocity(state.p).shape
        (torch.Size([2, 3, 2]), torch.Size([2, 3, 2]))
    """

    separable = True

    def __init__(self, system: System, particles: Particles) -> None:
        if isinstance(system, DrivenSystem):
            raise TypeError(f"{type(system).__name__} depends on time: use DrivenDynamics")
        self.system = system
        self.particles = particles
        self._velocity = Velocity(particles.masses, particles.mask)
        self._closed_form = type(system).force is not System.force

    def force(self, q: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
        """−∂V/∂q, shape (B, N, d)."""
        if self._closed_form or not torch.is_grad_enabled():
            return self.system.force(q, self.particles)
        x = q if q.requires_grad else q.detach().requires_grad_(True)
        return -torch.autograd.grad(self.system.potential(x, self.particles).sum(), x, create_graph=True)[0]

    def velocity(self, p: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
        """p/m, shape (B, N, d); 0 for particles that the mask leaves out."""
        return self._velocity(p)

    def energy(self, state: PhaseState) -> Float[Tensor, " B"]:
        """H(q, p) of each system, shape (B,)."""
        return self.system.energy(state, self.particles)

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(dq/dt, dp/dt), as solvers of torchdiffeq want it; ``t`` is not used."""
        q, p = state
        return self.velocity(p), self.force(q)

    __call__ = vector_field


class DrivenDynamics:
    """A ground-truth system that depends on time, together with its particles; a clock makes it integrable.

    Args:
        system: energy, force and power.
        particles: masses and parameters, shape (B, N, ·).

    Example:
        >>> from lie_sim.systems import DrivenSprings
        >>> system = DrivenSprings(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> force, power = DrivenDynamics(system, particles).force_and_power(state.q, torch.zeros(2))
        >>> force.shape, power.shape
        (torch.Size([2, 3, 2]), torch.Size([2]))
    """

    separable = True

    def __init__(self, system: DrivenSystem, particles: Particles) -> None:
        self.system = system
        self.particles = particles
        self._velocity = Velocity(particles.masses, particles.mask)

    def force_and_power(
        self, q: Float[Tensor, "B N d"], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B N d"], Float[Tensor, " B"]]:
        """−∂V/∂q, shape (B, N, d), and ∂V/∂t, shape (B,), at times t, shape (B,)."""
        return self.system.force(q, self.particles, t), self.system.power(q, self.particles, t)

    def velocity(self, p: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
        """p/m, shape (B, N, d); 0 for particles that the mask leaves out."""
        return self._velocity(p)

    def kinetic_energy(self, p: Float[Tensor, "B N d"]) -> Float[Tensor, " B"]:
        """Σ |p|²/(2m) of each system, shape (B,)."""
        return self.system.kinetic_energy(p, self.particles)

    def energy(self, state: PhaseState) -> Float[Tensor, " B"]:
        """H at the time of the state, shape (B,)."""
        return self.system.energy(state, self.particles)

    def vector_field(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """(dq/dt, dp/dt) at time t, as solvers of torchdiffeq want it."""
        q, p = state
        return self.velocity(p), self.system.force(q, self.particles, t)

    __call__ = vector_field


def check_rate(name: str, rate: Tensor, like: Tensor) -> None:
    """Refuse a force or velocity that has another shape than what it changes: it would be broadcast in silence.

    Raises:
        TypeError: the shapes differ.

    Example:
        >>> check_rate("force(q)", torch.zeros(2, 3), torch.zeros(2, 3))
    """
    if rate.shape != like.shape:
        raise TypeError(
            f"{name} must have the shape of its argument, {tuple(like.shape)}; got {tuple(rate.shape)}"
        )


def _has_its_own_equations(owner: object) -> bool:
    """Whether a subclass of ours changes the right-hand side as a whole, which splitting never calls."""
    if isinstance(owner, DrivenHamiltonian):
        return type(owner).vector_field is not DrivenHamiltonian.vector_field
    if isinstance(owner, Hamiltonian):
        same = type(owner).vector_field is Hamiltonian.vector_field
        return not same or type(owner).forward is not Hamiltonian.forward
    return isinstance(owner, SystemDynamics) and type(owner).vector_field is not SystemDynamics.vector_field


def separable_dynamics(candidate: object) -> SeparableDynamics:
    """Check that ``candidate`` can be split, before anything is computed with it.

    Args:
        candidate: an object with ``force(q)`` and ``velocity(p)``, or its method ``vector_field`` or
            ``forward``.

    Raises:
        TypeError: it is not separable, lacks one of the two functions, or is a Hamiltonian with a vector field
            of its own, which splitting would ignore.
    """
    owner = candidate
    if getattr(candidate, "__name__", "") in ("vector_field", "forward"):
        owner = getattr(candidate, "__self__", candidate)
    name = type(owner).__name__
    if callable(getattr(owner, "force_and_power", None)):
        raise TypeError(
            f"{name} depends on time, which (q, p) do not hold: use odeint, Rollout or simulate, or give it a clock, "
            "Clocked(system)"
        )
    if getattr(owner, "separable", True) is False:
        raise TypeError(
            f"splitting methods need a separable energy H = T(p) + V(q), which {name} does not have: its "
            "force would depend on p as well; use a solver of torchdiffeq, as in "
            'odeint(H.vector_field, (q, p), t, method="dopri5")'
        )
    if _has_its_own_equations(owner):
        raise TypeError(
            f"{name} replaces vector_field or forward, which a splitting method never calls: what it adds "
            "(damping, say) would be ignored. Override force and velocity, or integrate vector_field with one of "
            "torchdiffeq's methods"
        )
    missing = [part for part in ("force", "velocity") if not callable(getattr(owner, part, None))]
    if missing:
        raise TypeError(
            f"splitting methods call force(q) and velocity(p) separately, but {name} has no "
            f"{' and no '.join(missing)}; pass a Hamiltonian bound to its particles (H.bind(particles)), "
            "SystemDynamics(system, particles), or an object with both functions; a plain function f(t, y) "
            "needs one of torchdiffeq's methods"
        )
    return cast(SeparableDynamics, owner)
