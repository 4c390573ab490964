"""RATTLE: velocity Verlet on the manifold of rigid distances.

    p_½ = p + (h/2) F(q) − Gᵀ(q) λ/h      with λ such that σ(q + h v(p_½)) = 0
    q   ← q + h v(p_½)
    p   ← p_½ + (h/2) F(q) − Gᵀ(q) μ      with μ such that G(q) v(p) = 0

The reaction in the first line belongs to the old positions, that in the last to the new ones. This makes the map
time-reversible, and symplectic on the manifold of positions and momenta that obey the constraints. Only the pairs
σ and G of :mod:`lie_sim.integrators.constraints` enter.

Shape letters: B batch, N particles, d space dimension.
Reference: Andersen, J. Comput. Phys. 52 (1983) 24; Leimkuhler, Skeel, J. Comput. Phys. 112 (1994) 117.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.constraints import ConstrainedDynamics, Manifold
from lie_sim.integrators.dynamics import check_rate
from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step


@dataclass(frozen=True)
class Rattle(Method):
    """Velocity Verlet with rigid distances, for :class:`ConstrainedDynamics`.

    Args:
        max_iterations: of Newton's method in every step; 3 to 5 are usual.

    Example:
        >>> from lie_sim.integrators import ConstrainedDynamics, DistanceConstraints, SystemDynamics, integrate
        >>> from lie_sim.state import Particles
        >>> from lie_sim.systems import Springs
        >>> particles = Particles(masses=torch.ones(1, 3), attributes=torch.ones(1, 3, 1))
        >>> bond = DistanceConstraints(torch.tensor([[0, 1]]), torch.tensor([1.0]))
        >>> dynamics = ConstrainedDynamics(SystemDynamics(Springs(num_particles=3), particles), bond)
        >>> q, p = dynamics.project(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]]), torch.ones(1, 3, 2))
        >>> q, p = integrate(dynamics, q, p, step_size=0.01, num_steps=20, method="rattle")
        >>> bool(((q[:, :, 0] - q[:, :, 1]).norm(dim=-1) - 1).abs().max() < 1e-6)
        True
    """

    max_iterations: int = 50
    remembers = ("force",)

    name: str = field(default="rattle", init=False)
    order: int = field(default=2, init=False)
    symplectic: bool = field(default=True, init=False)
    reversible: bool = field(default=True, init=False)
    citation: str = field(default="Andersen, J. Comput. Phys. 52 (1983) 24", init=False)

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be >= 1, got {self.max_iterations}")

    def dynamics(self, candidate: Any) -> ConstrainedDynamics:
        """A :class:`ConstrainedDynamics`; nothing else holds constraints."""
        if not isinstance(candidate, ConstrainedDynamics):
            raise TypeError(
                f"rattle needs ConstrainedDynamics(dynamics, constraints), got {type(candidate).__name__}; "
                "without constraints use leapfrog"
            )
        return candidate

    def advance(
        self,
        dynamics: ConstrainedDynamics,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps, one force each and one more at the start, which is checked there."""
        h, manifold = broadcast_step(step_size, q), Manifold(dynamics, q, self.max_iterations)
        force = (memory or {}).get("force")
        if force is None:
            manifold.check_start(q, p)
            force = manifold.system.force(q)
            check_rate("force(q)", force, q)
        for _ in range(num_steps):
            q, p, force = _step(manifold, q, p, force, h)
        return q, p, {"force": force}


def _step(
    manifold: Manifold, q: Tensor, p: Tensor, force: Tensor, h: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One step; where its length is 0 nothing changes."""
    h = torch.as_tensor(h, dtype=q.dtype, device=q.device)
    moves = h != 0
    r = manifold.separations(q)
    half = add_scaled(p, force, h / 2)
    free = add_scaled(q, manifold.system.velocity(half), h)
    multipliers = manifold.multipliers(free, r)
    q_new = free - manifold.impulse(r, multipliers)
    half = half - manifold.reaction(r, multipliers) / torch.where(moves, h, 1.0)
    force_new = manifold.system.force(q_new)
    p_new = manifold.tangent(add_scaled(half, force_new, h / 2), manifold.separations(q_new))
    return (
        torch.where(moves, q_new, q),
        torch.where(moves, p_new, p),
        torch.where(moves, force_new, force),
    )


CONSTRAINED_METHODS = (Rattle(),)
