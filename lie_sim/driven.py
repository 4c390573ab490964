"""Hamiltonians that depend on time: a potential of its own, and others whose strengths are functions of time.

    H(q, p, t) = Σ_i |p_i|² / (2 m_i) + V₀(q) + Σ_a φ_a(t) V_a(q)
    force        −∂V₀/∂q − Σ_a φ_a(t) ∂V_a/∂q
    power         ∂H/∂t = Σ_a φ̇_a(t) V_a(q) = dH/dt along the motion

The energy is not conserved, but with p_t, the work that the drive has taken, H + p_t is; it is the Hamiltonian of the
motion in (q, t; p, p_t). Linear in φ, so that everything that depends on time is known in closed form, and that
periods outside the window of the data are continued rather than guessed.

Shape letters: B batch, N particles, d space dimension, A drives.
Reference: Lanczos, "The variational principles of mechanics", 1970, §VI.10 (extended phase space).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.hamiltonian import Hamiltonian, PhasePoint
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles, PhaseState
from lie_sim.time_encoding import TimeMap


class DrivenHamiltonian(Hamiltonian):
    """Separable Hamiltonian with learned potentials, some of which are switched by functions of time.

    Every integrator of the library, ``Rollout`` and runs on Ray know what to do with it: time becomes a coordinate, and
    what they watch as drift is that of H + p_t.

    Args:
        potential: V₀.
        drives: V_a, as many as ``time`` has features.
        time: φ.
        masses: as of :class:`~lie_sim.Hamiltonian`.
        num_attributes: as of :class:`~lie_sim.Hamiltonian`.

    Raises:
        ValueError: there are not as many drives as features.

    Example:
        >>> from lie_sim import LieTransformer
        >>> from lie_sim.time_encoding import BochnerTime
        >>> H = DrivenHamiltonian(
        ...     LieTransformer.default(dim=2), [LieTransformer.default(dim=2) for _ in range(2)], BochnerTime([1.0])
        ... )
        >>> particles, q = Particles(masses=torch.ones(1, 3)), torch.randn(1, 3, 2)
        >>> H.force(q, particles, t=torch.tensor(0.5)).shape
        torch.Size([1, 3, 2])
    """

    def __init__(
        self,
        potential: EnergyModel,
        drives: Sequence[EnergyModel],
        time: TimeMap,
        *,
        masses: str = "known",
        num_attributes: int = 0,
    ) -> None:
        super().__init__(potential, masses=masses, num_attributes=num_attributes)
        if len(drives) != time.num_features:
            raise ValueError(
                f"a drive is needed for every feature of time: got {len(drives)} drives and "
                f"{time.num_features} features"
            )
        self.drives = nn.ModuleList(drives)
        self.time = time

    def potential_energy(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
        *,
        t: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, " B"]:
        """V₀ + Σ φ_a V_a of each system, shape (B,).

        Args:
            q: positions, shape (B, N, d).
            particles: as bound, if None.
            neighbours: as bound, if None.
            t: time, one for all or one per system, shape (B,).

        Raises:
            ValueError: there is no time.
        """
        if t is None:
            raise ValueError("this Hamiltonian depends on time: give t=…")
        particles, neighbours = self._which(particles), neighbours or self._neighbours
        energies = torch.stack([drive.energy(q, particles, neighbours) for drive in self._drives()], dim=-1)
        features = self.time(t).to(q.dtype)
        total: Tensor = self.potential.energy(q, particles, neighbours) + (features * energies).sum(-1)
        return total

    def _drives(self) -> list[EnergyModel]:
        return [drive for drive in self.drives if isinstance(drive, EnergyModel)]

    def energy(
        self,
        state: PhaseState,
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
    ) -> Float[Tensor, " B"]:
        """H at the time of each system, 0 if the state has none, shape (B,); changes along a motion."""
        t = state.q.new_zeros(len(state.q)) if state.t is None else state.t
        potential = self.potential_energy(state.q, particles, neighbours, t=t)
        return self.kinetic_energy(state.p, particles) + potential

    def force(
        self,
        q: Float[Tensor, "B N d"],
        particles: Particles | None = None,
        neighbours: NeighbourMatrix | None = None,
        *,
        t: Float[Tensor, "..."] | None = None,
        create_graph: bool | None = None,
    ) -> Float[Tensor, "B N d"]:
        """−∂V/∂q at time t, shape (B, N, d); arguments as of :meth:`potential_energy`."""
        return self._slopes(q, particles, neighbours, t=t, create_graph=create_graph)[0]

    def force_and_power(
        self, q: Float[Tensor, "B N d"], t: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B N d"], Float[Tensor, " B"]]:
        """−∂V/∂q, shape (B, N, d), and ∂V/∂t, shape (B,), at times t, shape (B,)."""
        return self._slopes(q, None, None, t=t, create_graph=None)

    def _slopes(
        self,
        q: Tensor,
        particles: Particles | None,
        neighbours: NeighbourMatrix | None,
        *,
        t: Tensor | None,
        create_graph: bool | None,
    ) -> tuple[Tensor, Tensor]:
        if t is None:
            raise ValueError("this Hamiltonian depends on time: give t=…")
        keep = torch.is_grad_enabled() if create_graph is None else create_graph
        with torch.enable_grad():
            x, s = (
                each.view_as(each) if keep and each.requires_grad else each.detach().requires_grad_(True)
                for each in (q, t.expand(len(q)))
            )
            total = self.potential_energy(x, particles, neighbours, t=s).sum()
            dx, ds = torch.autograd.grad(total, (x, s), create_graph=keep, materialize_grads=True)
        return -dx, ds

    def vector_field(self, t: Tensor, state: PhasePoint) -> PhasePoint:
        """(dq/dt, dp/dt) = (p/m, force at time t)."""
        q, p = state
        return self.velocity(p), self.force(q, t=t)
