"""Tao's explicit methods for Hamiltonians that cannot be split, in a doubled phase space.

    H̄(q, p, x, y) = H(q, y) + H(x, p) + ω (|q − x|² + |p − y|²)/2

    A    p ← p − h ∂_q H(q, y),    x ← x + h ∂_p H(q, y)
    B    q ← q + h ∂_p H(x, p),    y ← y − h ∂_q H(x, p)
    C    (q − x, p − y) turned by the angle 2ωh, the sums q + x and p + y kept
    Φ_h = A_{h/2} B_{h/2} C_h B_{h/2} A_{h/2}

Each of the three parts is solved exactly, so Φ_h is explicit, symplectic and time-reversible in the doubled space
(q, p, x, y); started at x = q, y = p it follows the motion of H. Seen from (q, p) alone it is *not* symplectic: the
defect is of the order of the distance of the copies, and stays bounded as long as ω binds them. ω has the unit 1/time
where q and p are measured in units that make them alike; larger ω binds more tightly but needs h well below 1/ω.

Shape letters: B batch, N particles, d space dimension.
Reference: Tao, Phys. Rev. E 94 (2016) 043303.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step
from lie_sim.integrators.vector_field import VectorField, vector_field


@dataclass(frozen=True)
class TaoMethod(Method):
    """What Tao's methods have in common; use one of its subclasses.

    The second copy (x, y) is the memory's ``"q2"`` and ``"p2"``. A step back undoes a step forth, and a run goes on as
    if it had not been interrupted, only if the memory is passed on; without it the copies start together again.

    Args:
        omega: strength ω of the binding between the copies, in 1/time; too small a value lets them drift apart,
            too large a one asks for smaller steps.
    """

    weights: ClassVar[tuple[float, ...]]
    symplectic_doubled: ClassVar[bool] = True
    """The map of (q, p, x, y) conserves dq∧dp + dx∧dy."""

    omega: float = 10.0
    symplectic: bool = field(default=False, init=False)
    reversible: bool = field(default=True, init=False)
    remembers = ("q2", "p2", "dq", "dp")

    def __post_init__(self) -> None:
        if not 0 <= self.omega < math.inf:
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
        """Do ``num_steps`` steps; the memory holds the second copy and the vector field at (q, y)."""
        h = broadcast_step(step_size, q)
        if not num_steps:
            return q, p, memory or {}
        pair = _Pair(dynamics, q, p, memory)
        for _ in range(num_steps):
            for weight in self.weights:
                pair.step(weight * h, self.omega)
        return pair.q, pair.p, {"q2": pair.x, "p2": pair.y, "dq": pair.rate[0], "dp": pair.rate[1]}

    @property
    def forces_per_step(self) -> int:
        """Evaluations of the vector field per step in a long run (one more per run)."""
        return 3 * len(self.weights)


class _Pair:
    """Two copies of phase space, (q, p) and (x, y), and the vector field at (q, y)."""

    def __init__(self, field: VectorField, q: Tensor, p: Tensor, memory: Memory | None) -> None:
        memory = memory or {}
        self.field, self.q, self.p = field, q, p
        self.x, self.y = memory.get("q2", q), memory.get("p2", p)
        self.rate = (memory["dq"], memory["dp"]) if "dq" in memory else field(self.q, self.y)

    def step(self, h: float | Tensor, omega: float) -> None:
        """One step of order 2; the last part A and the next first one use the same vector field."""
        self._a(h / 2)
        self._b(h / 2)
        self._c(2 * omega * h)
        self._b(h / 2)
        self.rate = self.field(self.q, self.y)
        self._a(h / 2)

    def _a(self, h: float | Tensor) -> None:
        dq, dp = self.rate
        self.x, self.p = add_scaled(self.x, dq, h), add_scaled(self.p, dp, h)

    def _b(self, h: float | Tensor) -> None:
        dq, dp = self.field(self.x, self.p)
        self.q, self.y = add_scaled(self.q, dq, h), add_scaled(self.y, dp, h)

    def _c(self, angle: float | Tensor) -> None:
        """Turn the difference; written as increments, so that an angle of 0 changes no bit."""
        angle = torch.as_tensor(angle, dtype=self.q.dtype, device=self.q.device)
        sine, versine = angle.sin() / 2, (angle / 2).sin().square()
        between_q, between_p = self.q - self.x, self.p - self.y
        move_q = sine * between_p - versine * between_q
        move_p = -sine * between_q - versine * between_p
        self.q, self.x = self.q + move_q, self.x - move_q
        self.p, self.y = self.p + move_p, self.y - move_p


@dataclass(frozen=True)
class Tao2(TaoMethod):
    """Tao's explicit method of order 2. Options as in :class:`TaoMethod`.

    Example:
        >>> from lie_sim import GeneralHamiltonian, Particles
        >>> H = GeneralHamiltonian(lambda q, p, _: ((1 + q**2) * (1 + p**2)).sum((1, 2)) / 2)
        >>> H = H.bind(Particles(masses=torch.ones(1, 1, dtype=torch.float64)))
        >>> method, start = Tao2(), torch.ones(1, 1, 1, dtype=torch.float64)
        >>> q, p, memory = method.advance(method.dynamics(H), start, start, step_size=0.01, num_steps=500)
        >>> abs(float((1 + q**2) * (1 + p**2)) / 4 - 1) < 1e-2
        True
    """

    weights: ClassVar[tuple[float, ...]] = (1.0,)
    name: str = field(default="tao2", init=False)
    order: int = field(default=2, init=False)
    citation: str = field(default="Tao, Phys. Rev. E 94 (2016) 043303", init=False)


_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))


@dataclass(frozen=True)
class Tao4(TaoMethod):
    """Tao's explicit method of order 4, three steps of order 2 of lengths w h, (1 − 2w) h and w h.

    Options as in :class:`TaoMethod`.
    """

    weights: ClassVar[tuple[float, ...]] = (_OUTER, 1.0 - 2.0 * _OUTER, _OUTER)
    name: str = field(default="tao4", init=False)
    order: int = field(default=4, init=False)
    citation: str = field(
        default="Tao, Phys. Rev. E 94 (2016) 043303; triple jump: Creutz, Gocksch, Phys. Rev. Lett. 63 (1989) 9",
        init=False,
    )


EXTENDED_METHODS = (Tao2(), Tao4())
