"""Tao's explicit methods for Hamiltonians that are not separable: two copies of phase space, softly bound.

    H̃(q, p, x, y) = H(q, y) + H(x, p) + ω (|q − x|² + |p − y|²) / 2

    A  p ← p − h H_q(q, y),   x ← x + h H_p(q, y)
    B  q ← q + h H_p(x, p),   y ← y − h H_q(x, p)
    C  (q − x, p − y) turns by the angle 2ωh, the means stay

One step is A(h/2) B(h/2) C(h) B(h/2) A(h/2): symmetric, of order 2, symplectic in the *doubled* space. The map of the
physical copy (q, p) alone is not symplectic (a defect of 4e-2 was measured); what is bounded for long times is the
error of the energy, if ω is large enough to hold the copies together. Order 4 is the triple jump of the step.

The second copy is the memory, and begins as a copy of the first.

Shape letters: B batch, N particles, d space dimension.
Reference: Tao, "Explicit symplectic approximation of nonseparable Hamiltonians", Phys. Rev. E 94 (2016) 043303.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step
from lie_sim.integrators.vector_field import VectorField, vector_field

_CITATION = "Tao, Phys. Rev. E 94 (2016) 043303"
_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))


@dataclass(frozen=True)
class Tao2(Method):
    """Order 2, four evaluations of the vector field per step.

    Args:
        omega: ω, the binding of the copies, in 1/time; too small a value lets them drift apart, too large a one
            asks for smaller steps.

    Attributes:
        symplectic_doubled: whether the map of both copies is symplectic.

    Example:
        >>> from lie_sim import GeneralHamiltonian, Particles
        >>> from lie_sim.integrators import integrate
        >>> H = GeneralHamiltonian(lambda q, p, _: ((1 + q**2) * (1 + p**2)).sum((1, 2)) / 2)
        >>> H = H.bind(Particles(masses=torch.ones(1, 1, dtype=torch.float64)))
        >>> start = torch.ones(1, 1, 1, dtype=torch.float64)
        >>> q, p = integrate(H, start, start, step_size=0.01, num_steps=200, method="tao2")
        >>> bool((((1 + q**2) * (1 + p**2)) / 4 - 1).abs().max() < 1e-2)
        True
    """

    weights: ClassVar[tuple[float, ...]] = (1.0,)

    omega: float = 10.0
    name: str = field(default="tao2", init=False)
    order: int = field(default=2, init=False)
    citation: str = field(default=_CITATION, init=False)
    symplectic: bool = field(default=False, init=False)
    symplectic_doubled: bool = field(default=True, init=False)
    reversible: bool = field(default=True, init=False)
    remembers = ("q2", "p2")

    def __post_init__(self) -> None:
        if not 0 <= self.omega < float("inf"):
            raise ValueError(f"omega must be finite and not negative, got {self.omega}")

    def dynamics(self, candidate: Any) -> VectorField:
        """Anything with ``vector_field(t, (q, p))``; see :func:`vector_field`."""
        return vector_field(candidate)

    def advance(
        self,
        dynamics: VectorField,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps; the memory holds the second copy."""
        h, held = broadcast_step(step_size, q), memory or {}
        x, y = held.get("q2", q), held.get("p2", p)
        for _ in range(num_steps):
            for weight in self.weights:
                q, p, x, y = self._step(dynamics, q, p, x, y, weight * h)
        return q, p, {"q2": x, "p2": y}

    def _step(
        self, dynamics: VectorField, q: Tensor, p: Tensor, x: Tensor, y: Tensor, h: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p, x = _flow(dynamics(q, y), p, x, h / 2)
        y, q = _flow(dynamics(x, p), y, q, h / 2)
        q, p, x, y = self._turned(q, p, x, y, h)
        y, q = _flow(dynamics(x, p), y, q, h / 2)
        p, x = _flow(dynamics(q, y), p, x, h / 2)
        return q, p, x, y

    def _turned(
        self, q: Tensor, p: Tensor, x: Tensor, y: Tensor, h: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turn the differences by 2ωh. Written as half the change of the difference, so that h = 0 changes nothing."""
        angle = torch.as_tensor(2 * self.omega * h, dtype=q.dtype, device=q.device)
        u, v = q - x, p - y
        sine, versine = angle.sin(), 2 * (angle / 2).sin().square()  # versine = 1 − cos
        du, dv = (sine * v - versine * u) / 2, (-sine * u - versine * v) / 2
        return q + du, p + dv, x - du, y - dv


@dataclass(frozen=True)
class Tao4(Tao2):
    """Order 4, the triple jump of :class:`Tao2`: twelve evaluations per step. Options as there."""

    weights: ClassVar[tuple[float, ...]] = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)

    name: str = field(default="tao4", init=False)
    order: int = field(default=4, init=False)


def _flow(
    rates: tuple[Tensor, Tensor], momentum: Tensor, position: Tensor, h: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Add h dp/dt to a momentum and h dq/dt to a position."""
    return add_scaled(momentum, rates[1], h), add_scaled(position, rates[0], h)


EXTENDED_METHODS = (Tao2(), Tao4())
