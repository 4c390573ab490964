"""Hamiltonians: a kinetic and a learned potential energy, and the motion they generate.

Separable        H(q, p) = Σ_i |p_i|² / (2 m_i) + V_θ(q)
    velocity     dq_i/dt =  ∂H/∂p_i = p_i / m_i
    force        dp_i/dt = −∂V/∂q_i

General          any scalar H_θ(q, p), same equations by automatic differentiation.

Shape letters: B batch, N particles, d space dimension.
Reference: Greydanus, Dzamba, Yosinski, "Hamiltonian Neural Networks", NeurIPS 2019.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.kinetic import Velocity, kinetic_energy, velocity
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles, PhaseState

PhasePoint = tuple[Float[Tensor, "B N d"], Float[Tensor, "B N d"]]


def _gradient(
    function: Callable[..., Float[Tensor, " B"]], *variables: Tensor, create_graph: bool | None
) -> tuple[Tensor, ...]:
    """Partial gradients of Σ_b function(…)_b in each variable, also when called under ``no_grad``.

    Each variable enters as a new node of the graph, so that one which was computed from another counts as independent.
    """
    keep = torch.is_grad_enabled() if create_graph is None else create_graph
    with torch.enable_grad():
        inputs = tuple(
            x.view_as(x) if keep and x.requires_grad else x.detach().requires_grad_(True) for x in variables
        )
        total = function(*inputs).sum()
        if not total.requires_grad:  # a constant
            return tuple(torch.zeros_like(x) for x in inputs)
        return torch.autograd.grad(total, inputs, create_graph=keep, materialize_grads=True)


class _BoundMixin(nn.Module):
    """Particles kept with the Hamiltonian, so that it is a plain function of (t, (q, p))."""

    def __init__(self) -> None:
        super().__init__()
        self._particles: Particles | None = None
        self._neighbours: NeighbourMatrix | None = None
        self._velocity: Velocity | None = None

    def _which(self, particles: Particles | None) -> Particles:
        chosen = particles if particles is not None else self._particles
        if chosen is None:
            raise ValueError(
                f"{type(self).__name__} does not know the particles: pass particles=…, or call "
                ".bind(particles) once and integrate what it returns"
            )
        return chosen

    def forward(self, t: Tensor, state: PhasePoint) -> PhasePoint:
        """Same as :meth:`vector_field`; makes the module itself usable in ``torchdiffeq.odeint_adjoint``."""
        return self.vector_field(t, state)

    def vector_field(self, t: Tensor, state: PhasePoint) -> PhasePoint:
        """(dq/dt, dp/dt) at time t; (q, p) each of shape (B, N, d)."""
        raise NotImplementedError


class Hamiltonian(_BoundMixin):
    """Separable Hamiltonian ``H = Σ |p|²/(2m) + V(q)`` with a learned potential.

    Args:
        potential: any :class:`~lie_sim.models.base.EnergyModel`.
        masses: ``"known"`` takes ``particles.masses``; ``"learned"`` predicts them from the attributes
            (a positive function of each particle's attributes, shared by all particles).
        num_attributes: length A of ``particles.attributes``; needed for learned masses only.

    Example:
        >>> from lie_sim.models import LieTransformer
        >>> H = Hamiltonian(LieTransformer.default(dim=2))
        >>> particles = Particles(masses=torch.ones(1, 3))
        >>> q, p = torch.randn(1, 3, 2), torch.randn(1, 3, 2)
        >>> dq, dp = H.bind(particles).vector_field(torch.tensor(0.0), (q, p))
        >>> bool((dq == p).all()), dp.shape
        (True, torch.Size([1, 3, 2]))
    """

    separable = True

    def __init__(self, potential: EnergyModel, *, masses: str = "known", num_attributes: int = 0) -> None:
        super().__init__()
        if masses not in ("known", "learned"):
            raise ValueError(f'masses must be "known" or "learned", got {masses!r}')
        if masses == "learned" and num_attributes < 1:
            raise ValueError("learned masses are a function of the attributes: give num_attributes >= 1")
        self.potential = potential
        self.masses = masses
        self.num_attributes = num_attributes
        self.log_mass: nn.Module | None = None
        if masses == "learned":
            self.log_mass = nn.Sequential(nn.Linear(num_attributes, 32), nn.SiLU(), nn.Linear(32, 1))

    def bind(self, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Hamiltonian:
        """The same Hamiltonian (shared weights) for these particles, as a function of (t, (q, p)) alone."""
        bound = copy.copy(self)
        bound._particles, bound._neighbours = particles, neighbours
        bound._velocity = Velocity(particles.masses, particles.mask) if self.log_mass is None else None
        return bound

    def particle_masses(self, particles: Particles | None = None) -> Float[Tensor, "B N"]:
        """Masses in use, shape (B, N)."""
        particles = self._which(particles)
        if self.log_mass is None:
            return particles.masses
        if particles.attributes is None:
            raise ValueError("learned masses need particles.attributes, which is None")
        log_mass: Tensor = self.log_mass(particles.attributes)
        return log_mass.squeeze(-1).exp()

    def kinetic_energy(
        self, p: Float[Tensor, "B N d"], particles: Particles | None = None
    ) -> Float[Tensor, " B"]:
        """Σ |p|²/(2m) of each system, shape (B,)."""
        particles = self._which(particles)
        return kinetic_energy(p, self.particle_masses(particles), particles.mask)

    def potential_energy(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
    ) -> Float[Tensor, " B"]:
        """V(q) of each system, shape (B,)."""
        return self.potential.energy(q, self._which(particles), neighbours or self._neighbours)

    def energy(
        self,
        state: PhaseState,
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
    ) -> Float[Tensor, " B"]:
        """H = T + V of each system, shape (B,)."""
        return self.kinetic_energy(state.p, particles) + self.potential_energy(state.q, particles, neighbours)

    def velocity(
        self, p: Float[Tensor, "B N d"], particles: Particles | None = None
    ) -> Float[Tensor, "B N d"]:
        """∂H/∂p = p/m, shape (B, N, d); 0 for particles that the mask leaves out."""
        if particles is None and self._velocity is not None:
            return self._velocity(p)
        particles = self._which(particles)
        return velocity(p, self.particle_masses(particles), particles.mask)

    def force(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
        *,
        create_graph: bool | None = None,
    ) -> Float[Tensor, "B N d"]:
        """−∂V/∂q, shape (B, N, d).

        Args:
            q: positions, shape (B, N, d).
            particles: as bound, if None.
            neighbours: as bound, if None.
            create_graph: whether the result can be differentiated again; None follows ``torch.is_grad_enabled()``.
        """
        (force,) = _gradient(
            lambda x: -self.potential_energy(x, particles, neighbours), q, create_graph=create_graph
        )
        return force

    def vector_field(self, t: Tensor, state: PhasePoint) -> PhasePoint:
        """(dq/dt, dp/dt) = (p/m, force); ``t`` is not used, the system being autonomous."""
        q, p = state
        return self.velocity(p), self.force(q)


class GeneralHamiltonian(_BoundMixin):
    """Any scalar ``H(q, p)``, not necessarily separable.

    Args:
        function: module or function ``(q, p, particles) -> (B,)``.

    Example:
        >>> H = GeneralHamiltonian(lambda q, p, particles: (q * p).sum((1, 2)))
        >>> H = H.bind(Particles(masses=torch.ones(1, 1)))
        >>> dq, dp = H.vector_field(torch.tensor(0.0), (torch.full((1, 1, 1), 2.0), torch.full((1, 1, 1), 3.0)))
        >>> dq.item(), dp.item()
        (2.0, -3.0)
    """

    separable = False

    def __init__(self, function: Callable[[Tensor, Tensor, Particles], Float[Tensor, " B"]]) -> None:
        super().__init__()
        self.function = function

    def bind(self, particles: Particles) -> GeneralHamiltonian:
        """The same Hamiltonian for these particles, as a function of (t, (q, p)) alone."""
        bound = copy.copy(self)
        bound._particles = particles
        return bound

    def energy(self, state: PhaseState, particles: Particles | None = None) -> Float[Tensor, " B"]:
        """H of each system, shape (B,)."""
        return self.function(state.q, state.p, self._which(particles))

    def vector_field(self, t: Tensor, state: PhasePoint) -> PhasePoint:
        """(∂H/∂p, −∂H/∂q); ``t`` is not used."""
        particles = self._which(None)
        dH_dq, dH_dp = _gradient(lambda q, p: self.function(q, p, particles), *state, create_graph=None)
        return dH_dp, -dH_dq
