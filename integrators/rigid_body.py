"""Symplectic splitting for rigid bodies: rotations about the body axes, and kicks by torque and force.

    H = π₁²/(2I₁) + π₂²/(2I₂) + π₃²/(2I₃) + |p|²/(2m) + V(R, x)

Every term is solved exactly. The flow of π_a²/(2I_a) turns the body about its axis a by the angle θ = t π_a / I_a:

    axis a    R ← R Rot_a(θ),   π ← Rot_a(−θ) π          |π| and the momentum in space R π stay
    drift     x ← x + t p / m
    kick      π ← π + t τ(R, x),   p ← p + t F(R, x)

One step is half a kick, axes 1, 2, 3, 2, 1 over ½, ½, 1, ½, ½ of the step together with the drift, half a kick:
symmetric, symplectic (the map of π alone is a Lie–Poisson map), of order 2, with one evaluation of torque and force.
Steps of the lengths w_i h with suitable w give higher orders. What a potential of poses conserves by its symmetry, the
total momentum and angular momentum, say, is conserved to rounding.

An axis turns two columns of R and two components of π by the same plane rotation, so both are turned as the columns of
the (…, 4, 3) matrix [R; πᵀ], in closed form. Each step ends with the return to the group of
:mod:`lie_sim.integrators.lie_algebra`.

Shape letters: B batch, N bodies, m matrix size (3 or 4), k length of the momentum (3 or 6).
Reference: Dullweber, Leimkuhler, McLachlan, "Symplectic splitting methods for rigid body molecular dynamics",
J. Chem. Phys. 107 (1997) 5840.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass
from typing import Any

import torch
from torch import Tensor

from lie_sim.groups.affine import assemble
from lie_sim.integrators.lie_algebra import has_moved, orthogonalised
from lie_sim.integrators.lie_dynamics import RigidBodyDynamics, check_elements, check_state
from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step
from lie_sim.systems import RigidBodySystem

_AXES = ((0, 0.5), (1, 0.5), (2, 1.0), (1, 0.5), (0, 0.5))
WEIGHT_SUM_TOLERANCE = 1e-12
"""Weights whose sum is further from 1 than this are a misprint."""


@dataclass(frozen=True)
class RigidBodySplitting(Method):
    """A symmetric composition of the basic step.

    Args:
        name: the key under which :func:`get_method` knows it.
        order: the error at a fixed time shrinks as h**order.
        weights: w_i, lengths of the basic steps over h; they sum to 1 and read the same backwards.
        citation: where it comes from.

    Raises:
        ValueError: the weights do not sum to 1, or are not symmetric.

    Example:
        >>> from lie_sim.integrators import advance
        >>> from lie_sim.systems import HeavyTop
        >>> top = HeavyTop()
        >>> g, mu = top.sample(2, generator=torch.Generator().manual_seed(0))
        >>> later, momentum, _ = advance(
        ...     top, g, mu, step_size=0.01, num_steps=100, method="rigid_body_splitting"
        ... )
        >>> bool((top.energy(later, momentum) - top.energy(g, mu)).abs().max() < 1e-4)
        True
    """

    name: str
    order: int
    weights: tuple[float, ...]
    citation: str
    symplectic: bool = True
    reversible: bool = True
    remembers = ("wrench",)

    def __post_init__(self) -> None:
        if not abs(math.fsum(self.weights) - 1) < WEIGHT_SUM_TOLERANCE or self.weights != self.weights[::-1]:
            raise ValueError(
                f"{self.name}: the weights must sum to 1 and read the same backwards, got {self.weights}"
            )

    @property
    def forces_per_step(self) -> int:
        """Evaluations of torque and force of one step; one more per run."""
        return len(self.weights)

    def dynamics(self, candidate: Any) -> RigidBodyDynamics:
        """A :class:`RigidBodyDynamics`, or a system of rigid bodies.

        Raises:
            TypeError: it is something else.
        """
        if isinstance(candidate, RigidBodySystem):
            return RigidBodyDynamics.from_system(candidate)
        if not isinstance(candidate, RigidBodyDynamics):
            raise TypeError(
                f"{self.name} moves rigid bodies with principal moments of inertia: pass a rigid-body system of "
                "lie_sim.systems, or RigidBodyDynamics(potential, inertia=…, masses=…); for other motions on a Lie "
                f"group use commutator_free4 or rkmk4; got {type(candidate).__name__}"
            )
        return candidate

    def check_shapes(self, q: Tensor, p: Tensor) -> None:
        """Elements and momenta have shapes of their own, which :meth:`advance` compares with the group."""

    def advance(
        self,
        dynamics: RigidBodyDynamics,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps; the memory holds the torques and forces at q.

        Args:
            dynamics: what :meth:`dynamics` returned.
            q: poses g, shape (B, …, 3, 3) or (B, …, 4, 4).
            p: momenta μ, shape (B, …, 3) or (B, …, 6).
            step_size: h, one for all or one per system, shape (B,).
            num_steps: number of steps, from 0.
            memory: as returned by the call before; None at the start of a run.
        """
        check_state(dynamics.group, q, p)
        if memory is None:
            check_elements(dynamics.group, q)
        if p.shape[-1] != dynamics.group.dim:
            raise ValueError(
                f"rigid bodies on {dynamics.group.name} have momenta of length {dynamics.group.dim}, "
                f"got mu of shape {tuple(p.shape)}"
            )
        h, moved = broadcast_step(step_size, p), has_moved(step_size, q)
        inverse = dynamics.inverse_inertia(p), dynamics.inverse_masses(p)
        wrench = (memory or {}).get("wrench")
        for _ in range(num_steps):
            for weight in self.weights:
                wrench = dynamics.wrench(q) if wrench is None else wrench
                p = add_scaled(p, wrench, weight / 2 * h)
                q, p = free_motion(q, p, weight * h, *inverse, moved)
                wrench = dynamics.wrench(q)
                p = add_scaled(p, wrench, weight / 2 * h)
        return q, p, {} if wrench is None else {"wrench": wrench}

    def _option_fields(self) -> tuple[Field[Any], ...]:
        return ()  # weights are what the method is, not options


def free_motion(
    g: Tensor,
    mu: Tensor,
    duration: float | Tensor,
    inverse_inertia: Tensor,
    inverse_masses: Tensor | None,
    moved: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """Bodies without torque and force: turned about axes 1, 2, 3, 2, 1, and displaced.

    Args:
        g: poses, shape (…, m, m).
        mu: momenta, shape (…, k).
        duration: t, a number or a tensor that broadcasts against μ.
        inverse_inertia: 1/I, broadcasts against (…, 3).
        inverse_masses: 1/m, broadcasts against (…, 3); None where the poses have no positions.
        moved: 0 where t is 0 and nothing must change, else 1.

    Example:
        >>> g, mu = torch.eye(3)[None], torch.tensor([[0.0, 0.0, torch.pi]])
        >>> turned, _ = free_motion(g, mu, 0.5, torch.ones(3), None)
        >>> [round(x, 5) + 0.0 for x in turned[0, :, 0].tolist()]
        [0.0, 1.0, 0.0]
    """
    stacked = torch.cat([g[..., :3, :3], mu[..., None, :3]], dim=-2)
    rate = (duration * inverse_inertia).expand_as(mu[..., :3]).unbind(-1)
    columns = list(stacked.unbind(-1))
    for axis, fraction in _AXES:
        _turn(columns, axis, rate[axis] * fraction)
    stacked = torch.stack(columns, dim=-1)
    rotation, spin = orthogonalised(stacked[..., :3, :], moved), stacked[..., 3, :]
    if inverse_masses is None:
        return rotation, spin
    position = g[..., :3, 3] + duration * (mu[..., 3:] * inverse_masses)
    return assemble(rotation, position), torch.cat([spin, mu[..., 3:]], dim=-1)


def _turn(columns: list[Tensor], axis: int, rate: Tensor) -> None:
    """Turn the two other columns by the angle rate · π_axis, written x + sin θ y − (1 − cos θ) x.

    A rounded cos θ would stretch by the same amount in every step; 1 − cos θ = 2 sin²(θ/2) has no such error.
    """
    half = rate * columns[axis][..., 3] / 2
    root, j, k = half.sin()[..., None], (axis + 1) % 3, (axis + 2) % 3
    sine, versine = 2 * root * half.cos()[..., None], 2 * root.square()
    first, second = columns[j], columns[k]
    columns[j] = first + (sine * second - versine * first)
    columns[k] = second - (sine * first + versine * second)


_SUZUKI = 1.0 / (4.0 - 4.0 ** (1.0 / 3.0))

RIGID_BODY_METHODS = (
    RigidBodySplitting(
        name="rigid_body_splitting",
        order=2,
        weights=(1.0,),
        citation="Dullweber, Leimkuhler, McLachlan, J. Chem. Phys. 107 (1997) 5840",
    ),
    RigidBodySplitting(
        name="rigid_body_splitting4",
        order=4,
        weights=(_SUZUKI, _SUZUKI, 1.0 - 4.0 * _SUZUKI, _SUZUKI, _SUZUKI),
        citation="Suzuki, Phys. Lett. A 146 (1990) 319, of the step of Dullweber, Leimkuhler, McLachlan, "
        "J. Chem. Phys. 107 (1997) 5840",
    ),
)
