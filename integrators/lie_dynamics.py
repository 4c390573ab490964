"""What a method on a Lie group needs of a system: a velocity in the algebra and a rate of the momentum.

    g' = g ξ^,    ξ = ξ(g, μ),    μ' = f(g, μ)

g is a matrix of one of the library's groups, ξ its velocity seen from the body, in the group's algebra coordinates;
μ is a vector of any length. For rigid bodies, :class:`RigidBodyDynamics`,

    SO(3)   ξ = ω               μ = π         f = π × ω + τ(g)             ω_a = π_a / I_a
    SE(3)   ξ = (ω, Rᵀ p / m)   μ = (π, p)    f = (π × ω + τ(g), F(g))

with π and τ along the body axes, p and F in space, and (τ, F) from any potential V(g), given or learned.

Shape letters: B batch, N bodies, m matrix size, a dimension of the Lie algebra, k length of the momentum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups import SE3, SO3, LieGroup
from lie_sim.integrators.lie_algebra import orthogonal_part
from lie_sim.systems import RigidBodySystem
from lie_sim.systems.rigid_body import PosePotential, wrench

Elements = Float[Tensor, "... m m"]
Vectors = Float[Tensor, "... k"]
ROTATION_TOLERANCE = 1e-3
"""Rotations from a file have six digits, and the methods correct so small a defect; more is no rotation."""


@runtime_checkable
class LieGroupDynamics(Protocol):
    """Anything with a group, a velocity in its algebra and a rate of the momentum."""

    @property
    def group(self) -> LieGroup:
        """The group that the matrices g belong to."""

    def algebra_velocity(self, g: Tensor, mu: Tensor) -> Tensor:
        """ξ with g' = g ξ^, shape (…, a)."""

    def momentum_rate(self, g: Tensor, mu: Tensor) -> Tensor:
        """μ', of the shape of μ."""


class RigidBodyDynamics:
    """Rigid bodies in a potential of their poses, ready to be integrated.

    A body of inertia or mass 0 (padding) has the velocity 0.

    Args:
        potential: V(g) of each system, shape (B,); any differentiable function, such as a module.
        inertia: principal moments, a tensor whose shape broadcasts against (…, 3); it may be learned.
        masses: a number, or a tensor that broadcasts against the leading shape of the poses, (B, N) say; None: the
            bodies have no positions, and g is (…, 3, 3) instead of (…, 4, 4).

    Raises:
        ValueError: an inertia or mass is negative or not finite, or there are not three moments.

    Example:
        >>> spring = lambda g: 0.5 * g[..., :3, 3].square().sum((-2, -1))
        >>> bodies = RigidBodyDynamics(spring, inertia=(1.0, 2.0, 3.0), masses=1.0)
        >>> g, mu = torch.eye(4).expand(5, 2, 4, 4), torch.zeros(5, 2, 6)
        >>> bodies.group.name, bodies.momentum_rate(g, mu).shape
        ('SE(3)', torch.Size([5, 2, 6]))
    """

    def __init__(
        self,
        potential: PosePotential,
        *,
        inertia: Tensor | Sequence[float],
        masses: Tensor | float | None = None,
    ) -> None:
        self.potential = potential
        self.inertia = _checked("inertia", inertia)
        self.masses = None if masses is None else _checked("masses", masses)[..., None]
        self.group: LieGroup = SO3() if masses is None else SE3()
        if self.inertia.ndim == 0 or self.inertia.shape[-1] != 3:
            raise ValueError(
                f"inertia must hold three principal moments, shape (…, 3); got {tuple(self.inertia.shape)}"
            )

    @classmethod
    def from_system(cls, system: RigidBodySystem) -> RigidBodyDynamics:
        """The dynamics of a ground-truth system.

        Example:
            >>> from lie_sim.systems import HeavyTop
            >>> RigidBodyDynamics.from_system(HeavyTop()).group.name
            'SO(3)'
        """
        return cls(system.potential, inertia=system.inertia, masses=system.body_mass)

    def wrench(self, g: Elements) -> Vectors:
        """Torques along the body axes (and forces in space), shape (…, 3) or (…, 6)."""
        return wrench(self.potential, g)

    def angular_velocity(self, mu: Vectors) -> Float[Tensor, "... 3"]:
        """ω = π/I along the body axes, shape (…, 3)."""
        return mu[..., :3] * self.inverse_inertia(mu)

    def inverse_inertia(self, like: Tensor) -> Tensor:
        """1/I in the dtype and on the device of ``like``; 0 where the inertia is 0."""
        return _inverse(self.inertia.to(like))

    def inverse_masses(self, like: Tensor) -> Tensor | None:
        """1/m with a last axis of length 1; 0 where the mass is 0; None where the bodies have no positions."""
        return None if self.masses is None else _inverse(self.masses.to(like))

    def algebra_velocity(self, g: Elements, mu: Vectors) -> Float[Tensor, "... a"]:
        """Angular velocity (and velocity seen from the body), shape (…, 3) or (…, 6)."""
        inverse_masses, omega = self.inverse_masses(mu), self.angular_velocity(mu)
        if inverse_masses is None:
            return omega
        velocity = g[..., :3, :3].mT @ (mu[..., 3:] * inverse_masses)[..., None]
        return torch.cat([omega, velocity[..., 0]], dim=-1)

    def momentum_rate(self, g: Elements, mu: Vectors) -> Vectors:
        """π × ω + torque (and the force), of the shape of μ."""
        turning = torch.linalg.cross(mu[..., :3], self.angular_velocity(mu))
        return self.wrench(g) + torch.nn.functional.pad(turning, (0, mu.shape[-1] - 3))


def lie_group_dynamics(candidate: object) -> LieGroupDynamics:
    """Check that ``candidate`` moves on a Lie group, before anything is computed with it.

    Raises:
        TypeError: it lacks a function, or its group has no Lie algebra.

    Example:
        >>> from lie_sim.systems import FreeRigidBody
        >>> lie_group_dynamics(FreeRigidBody()).group.name
        'SO(3)'
    """
    if isinstance(candidate, RigidBodySystem):
        return RigidBodyDynamics.from_system(candidate)
    needed = ("algebra_velocity", "momentum_rate")
    missing = [part for part in needed if not callable(getattr(candidate, part, None))]
    group: Any = getattr(candidate, "group", None)
    if missing or not isinstance(group, LieGroup):
        lacks = " and ".join([*missing, *([] if isinstance(group, LieGroup) else ["group (a LieGroup)"])])
        raise TypeError(
            "methods on Lie groups need group, algebra_velocity(g, mu) and momentum_rate(g, mu), but "
            f"{type(candidate).__name__} has no {lacks}; pass a rigid-body system of lie_sim.systems, "
            "RigidBodyDynamics(potential, inertia=…), or an object with the three"
        )
    if group.dim == 0:
        raise TypeError(f"{group.name} is finite: it has no Lie algebra, so nothing can move on it")
    assert isinstance(candidate, LieGroupDynamics)
    return candidate


def check_state(group: LieGroup, g: Tensor, mu: Tensor) -> None:
    """Raise ValueError unless g holds matrices of the group, and μ one vector for each of them.

    Example:
        >>> check_state(SO3(), torch.eye(3)[None], torch.zeros(1, 3))
    """
    if g.ndim < 3 or tuple(g.shape[-2:]) != group.element_shape:
        raise ValueError(
            f"the state of a method on {group.name} is (g, mu) with g of shape "
            f"(B, …, {group.matrix_size}, {group.matrix_size}); got {tuple(g.shape)}"
        )
    if mu.ndim != g.ndim - 1 or mu.shape[:-1] != g.shape[:-2]:
        raise ValueError(
            f"mu must hold one vector for each group element, shape {(*g.shape[:-2], 'k')}; got {tuple(mu.shape)}"
        )


def check_elements(group: LieGroup, g: Tensor) -> None:
    """Raise ValueError if the orthogonal part of an element is none; on the CPU only, where looking costs little.

    A method would keep the defect, or let it grow, and turn bodies that are stretched or mirrored.

    Example:
        >>> check_elements(SO3(), torch.eye(3)[None])
    """
    rotation = orthogonal_part(group, g)
    if rotation is None or g.device.type != "cpu" or not g.numel():
        return
    rotation = rotation.detach()
    eye = torch.eye(rotation.shape[-1], dtype=g.dtype)
    defect = float((rotation.mT @ rotation - eye).abs().max())
    mirrored = group.connected and bool((torch.linalg.det(rotation) < 0).any())
    if defect > ROTATION_TOLERANCE or mirrored:
        raise ValueError(
            f"g must hold elements of {group.name}: |RᵀR − I| is {defect:.2g}, more than {ROTATION_TOLERANCE:g}"
            if defect > ROTATION_TOLERANCE
            else f"g must hold elements of {group.name}, but one has determinant −1: it mirrors"
        )


def _checked(what: str, values: Any) -> Tensor:
    tensor = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)
    if not bool((tensor.isfinite() & (tensor >= 0)).all()):
        raise ValueError(f"{what} must be finite and not negative, got {tensor.tolist()}")
    return tensor


def _inverse(x: Tensor) -> Tensor:
    exists = x > 0
    return torch.where(exists, 1 / torch.where(exists, x, 1.0), 0.0)
