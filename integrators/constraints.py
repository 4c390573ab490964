"""Rigid distances between particles, and the linear algebra on the manifold that they leave.

    σ_k(q) = ½ (|q_i − q_j|² − ℓ_k²) = 0,      G = ∂σ/∂q,      G v(p) = 0

With r_k = q_i − q_j and S the incidence matrix of the pairs (+1 at i, −1 at j), everything is small and dense:

    G M⁻¹ Gᵀ = (r rᵀ) ∘ (S M⁻¹ Sᵀ),      Gᵀ λ = Sᵀ (λ ∘ r)

Multipliers of positions are found by Newton's method, of every sample on its own, those of momenta by one K × K
system. Autograd differentiates the last Newton step, at the solution, which is the implicit function theorem.
A particle of infinite mass is a fixed point to which others can be tied.

Shape letters: B batch, N particles, d space dimension, K constraints.
Reference: Hairer, Lubich, Wanner, "Geometric Numerical Integration", Springer 2006, section VII.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.errors import ConvergenceError
from lie_sim.integrators.masses import MassiveSystem, massive_dynamics
from lie_sim.state import PhaseState


@dataclass(frozen=True)
class DistanceConstraints:
    """Pairs of particles at fixed distances.

    Args:
        pairs: indices (i, j) of the particles, int64, shape (K, 2), the same for all systems.
        lengths: distances ℓ, shape (K,) or (B, K), in the unit of length.

    Raises:
        ValueError: a pair joins a particle with itself or occurs twice, or a length is not positive.

    Example:
        >>> water = DistanceConstraints(torch.tensor([[0, 1], [0, 2], [1, 2]]), torch.tensor([1.0, 1.0, 1.6]))
        >>> water.num_constraints
        3
    """

    pairs: Int[Tensor, "K 2"]
    lengths: Float[Tensor, "*B K"]

    def __post_init__(self) -> None:
        pairs = [tuple(sorted(pair)) for pair in self.pairs.tolist()]
        if any(i == j or i < 0 for i, j in pairs) or len(set(pairs)) < len(pairs) or not pairs:
            raise ValueError(
                "pairs must join two different particles, counted from 0, each pair once, and at least one pair; "
                f"got {self.pairs.tolist()}"
            )
        if self.lengths.ndim > 2 or self.lengths.shape[-1] != len(pairs):
            raise ValueError(
                f"lengths must have the shape (K,) or (B, K) with K = {len(pairs)} pairs; "
                f"got {tuple(self.lengths.shape)}"
            )
        if not bool((self.lengths > 0).all() & self.lengths.isfinite().all()):
            raise ValueError(f"lengths must be positive and finite, got {self.lengths.tolist()}")

    @property
    def num_constraints(self) -> int:
        """K."""
        return len(self.pairs)


class ConstrainedDynamics:
    """Dynamics with constraints, for :class:`~lie_sim.integrators.Rattle` alone.

    It has no ``force`` and no ``velocity`` of its own, so that no other method can take it and ignore the
    constraints.

    Args:
        dynamics: anything with ``force(q)``, ``velocity(p)`` and masses: a bound Hamiltonian, ``SystemDynamics``.
        constraints: the distances to keep.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.state import Particles
        >>> from lie_sim.systems import Springs
        >>> particles = Particles(masses=torch.ones(1, 2), attributes=torch.ones(1, 2, 1))
        >>> dimer = DistanceConstraints(torch.tensor([[0, 1]]), torch.tensor([2.0]))
        >>> dynamics = ConstrainedDynamics(SystemDynamics(Springs(num_particles=2), particles), dimer)
        >>> q, p = dynamics.project(torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]), torch.ones(1, 2, 2))
        >>> bool((q[0, 0] - q[0, 1]).norm().sub(2.0).abs() < 1e-6)
        True
    """

    def __init__(self, dynamics: Any, constraints: DistanceConstraints) -> None:
        self.unconstrained = massive_dynamics(dynamics)
        self.constraints = constraints

    def energy(self, state: PhaseState) -> Float[Tensor, " B"]:
        """H(q, p) of each system, shape (B,); constraints do no work."""
        energy: Tensor = self.unconstrained.energy(state)  # type: ignore[attr-defined]
        return energy

    def project(
        self, q: Float[Tensor, "B N d"], p: Float[Tensor, "B N d"]
    ) -> tuple[Float[Tensor, "B N d"], Float[Tensor, "B N d"]]:
        """The state on the manifold next to the given one: a start for :class:`~lie_sim.integrators.Rattle`.

        Raises:
            ConvergenceError: the positions are too far from the distances wanted.
            ValueError: pairs or lengths do not fit the positions.
        """
        manifold = Manifold(self, q)
        start = manifold.separations(q)
        q = q - manifold.impulse(start, manifold.multipliers(q, start))
        return q, manifold.tangent(p, manifold.separations(q))


class Manifold:
    """The constraints of one batch, and the linear algebra on them.

    Args:
        dynamics: dynamics and constraints.
        q: positions, shape (B, N, d); gives shape, dtype and device.
        max_iterations: of Newton's method.
    """

    def __init__(
        self, dynamics: ConstrainedDynamics, q: Float[Tensor, "B N d"], max_iterations: int = 50
    ) -> None:
        constraints = dynamics.constraints
        self.system, self._max_iterations = MassiveSystem(dynamics.unconstrained, q), max_iterations
        lengths, self._pairs = constraints.lengths.to(q), constraints.pairs.to(q.device)
        if int(constraints.pairs.max()) >= q.shape[1] or lengths.shape[:-1] not in ((), q.shape[:1]):
            raise ValueError(
                f"constraints with pairs {constraints.pairs.tolist()} and lengths of shape "
                f"{tuple(lengths.shape)} do not fit {q.shape[0]} systems of {q.shape[1]} particles"
            )
        self._squares = lengths.square().expand(q.shape[0], -1)
        one_hot = torch.nn.functional.one_hot(self._pairs, q.shape[1]).to(q)
        self._incidence = one_hot[:, 0] - one_hot[:, 1]
        inverse = torch.where(self.system.free, 1 / self.system.free_masses, 0.0)
        self._inertia = (self._incidence * inverse.mT) @ self._incidence.T

    def separations(self, q: Float[Tensor, "B N d"]) -> Float[Tensor, "B K d"]:
        """R = q_i − q_j of every pair."""
        return q[:, self._pairs[:, 0]] - q[:, self._pairs[:, 1]]

    def violation(self, r: Float[Tensor, "B K d"]) -> Float[Tensor, "B K"]:
        """σ/ℓ² = (|r|²/ℓ² − 1)/2, the relative error of each distance."""
        return (r.square().sum(-1) / self._squares - 1) / 2

    def reaction(
        self, r: Float[Tensor, "B K d"], multipliers: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B N d"]:
        """Gᵀ λ, what the constraints take from the momenta."""
        return self._incidence.T @ (multipliers[..., None] * r)

    def impulse(self, r: Float[Tensor, "B K d"], multipliers: Float[Tensor, "B K"]) -> Float[Tensor, "B N d"]:
        """M⁻¹ Gᵀ λ, what the constraints take from the positions."""
        return self.system.velocity(self.reaction(r, multipliers))

    def matrix(self, left: Float[Tensor, "B K d"], right: Float[Tensor, "B K d"]) -> Float[Tensor, "B K K"]:
        """G(left) M⁻¹ Gᵀ(right)."""
        return (left @ right.mT) * self._inertia

    def tangent(self, p: Float[Tensor, "B N d"], r: Float[Tensor, "B K d"]) -> Float[Tensor, "B N d"]:
        """The momenta without the part that would change a distance."""
        speed = (r * self.separations(self.system.velocity(p))).sum(-1)
        return p - self.reaction(r, _solved(self.matrix(r, r), speed))

    def multipliers(self, q: Float[Tensor, "B N d"], r: Float[Tensor, "B K d"]) -> Float[Tensor, "B K"]:
        """λ with σ(q − M⁻¹ Gᵀ λ) = 0, where G belongs to the separations r.

        Newton's method runs without a graph until σ/ℓ² < ε^⅔ (ε: machine precision), each system on its own; one more
        step then squares the error, and is the one that is differentiated.

        Raises:
            ConvergenceError: a system needs more than ``max_iterations``.
        """
        with torch.no_grad():
            known, tolerance = torch.zeros_like(r[..., 0]), torch.finfo(q.dtype).eps ** (2 / 3)
            for _ in range(self._max_iterations):
                update, error = self._newton(known, q, r)
                unfinished = ~(error <= tolerance)
                if not bool(unfinished.any()):
                    break
                known = torch.where(unfinished[:, None], known + update, known)
            else:
                raise self._not_converged(error, tolerance)
        return known + (self._newton(known, q, r)[0] if torch.is_grad_enabled() else update)

    def _newton(
        self, multipliers: Float[Tensor, "B K"], q: Float[Tensor, "B N d"], r: Float[Tensor, "B K d"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, " B"]]:
        """One Newton update, and the largest violation of each system before it."""
        new = self.separations(q - self.impulse(r, multipliers))
        violation = self.violation(new)
        return _solved(self.matrix(new, r), violation * self._squares), violation.detach().abs().amax(1)

    def _not_converged(self, error: Float[Tensor, " B"], tolerance: float) -> ConvergenceError:
        worst = int(error.nan_to_num(torch.inf).argmax())
        return ConvergenceError(
            f"the constraints of system {worst} are violated by {float(error[worst]):.1e} (relative) after "
            f"{self._max_iterations} Newton iterations, tolerance {tolerance:.1e}: take a shorter step, or check "
            "that the state is finite and the lengths can be reached"
        )

    def check_start(self, q: Float[Tensor, "B N d"], p: Float[Tensor, "B N d"]) -> None:
        """Refuse a start that is off the manifold, or constraints that repeat each other.

        Raises:
            ValueError: which system and which pair, and by how much.
        """
        r, tolerance = self.separations(q), torch.finfo(q.dtype).eps ** 0.5
        v = self.separations(self.system.velocity(p))
        scale = self._squares.sqrt() * v.abs().amax((1, 2))[:, None].clamp_min(torch.finfo(q.dtype).tiny)
        speed = (r * v).sum(-1) / scale
        for what, error in (("distance", self.violation(r)), ("speed along the bond", speed)):
            if bool((error.abs() > tolerance).any()):
                system, pair = divmod(int(error.abs().argmax()), error.shape[1])
                raise ValueError(
                    f"the start violates a constraint: the {what} of pair {self._pairs[pair].tolist()} in system "
                    f"{system} is off by {float(error[system, pair]):.1e} (relative); begin with "
                    "q, p = dynamics.project(q, p)"
                )
        strengths = torch.linalg.eigvalsh(self.matrix(r, r).detach())
        weakest = float((strengths[:, 0] / strengths[:, -1]).min())
        if not weakest > tolerance:
            raise ValueError(
                "the constraints repeat each other, or join only particles that cannot move: the smallest "
                f"eigenvalue of G M⁻¹ Gᵀ is {weakest:.1e} of the largest; leave out what follows from the others"
            )


def _solved(matrix: Float[Tensor, "B K K"], right: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """The solution of a linear system, not finite where there is none."""
    solution: Tensor = torch.linalg.solve_ex(matrix, right[..., None])[0]
    return solution.squeeze(-1)
