"""Rigid bodies: poses and momenta, the torque of any potential of the poses, a free body and a heavy top.

    H(g, μ) = ½ Σ_a π_a² / I_a + |p|² / (2m) + V(g)          for a body (R, x) with momentum (π, p)
    R' = R ω^,    π' = π × ω + τ,    ω_a = π_a / I_a,         τ_a = −d/dε V(R exp(ε e_a^), x)
    x' = p / m,   p' = F,                                     F = −∂V/∂x

An orientation is the rotation matrix R from the body's principal axes to space. The angular momentum π and the torque
τ are components along the body axes, position and linear momentum are in space. A body that only turns has the pose
g = R, shape (…, 3, 3), and the momentum μ = π; one that also moves has g = [[R, x], [0, 1]], shape (…, 4, 4), and
μ = (π, p), shape (…, 6). The total of R π + x × p is the angular momentum in space.

:func:`wrench` gives (τ, F) of any function V of the poses, a learned one included, by one backward pass: with the
matrix of partial derivatives G = ∂V/∂R, the derivative along R e_a^ is the a-th component of the skew part of RᵀG.

Like every system these are frozen dataclasses without tensors; unlike :class:`~lie_sim.systems.System` they have no
points q with masses, so they are a family of their own.

Shape letters: B batch, N bodies, m matrix size (3 or 4), k length of the momentum (3 or 6).
Reference: Marsden, Ratiu, "Introduction to Mechanics and Symmetry", Springer 1999, chapters 13 to 15.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

Poses = Float[Tensor, "... m m"]
Momenta = Float[Tensor, "... k"]
PosePotential = Callable[[Tensor], Tensor]
Triple = tuple[float, float, float]


def wrench(potential: PosePotential, g: Poses, *, create_graph: bool | None = None) -> Momenta:
    """Torque along the body axes, and force in space where the bodies have positions.

    Args:
        potential: V(g) of each system, shape (B,), any differentiable function of the poses.
        g: poses, shape (…, 3, 3) or (…, 4, 4).
        create_graph: whether the result can be differentiated again; None follows ``torch.is_grad_enabled()``.

    Returns:
        τ, shape (…, 3), or (τ, F), shape (…, 6).

    Example:
        >>> height = lambda g: g[..., 2, 3]  # unit weight: no torque, and a force downwards
        >>> wrench(height, torch.eye(4)[None])[0, 5].item()
        -1.0
    """
    check_poses(g)
    keep = torch.is_grad_enabled() if create_graph is None else create_graph
    with torch.enable_grad():
        x = g.view_as(g) if keep and g.requires_grad else g.detach().requires_grad_(True)
        total = potential(x).sum()
        if not total.requires_grad:  # a constant
            return g.new_zeros(*g.shape[:-2], 3 if g.shape[-1] == 3 else 6)
        (slope,) = torch.autograd.grad(total, x, create_graph=keep, materialize_grads=True)
        turned = x[..., :3, :3].mT @ slope[..., :3, :3]
        skew = turned.mT - turned
        torque = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
        result = torque if g.shape[-1] == 3 else torch.cat([torque, -slope[..., :3, 3]], dim=-1)
    return result if keep else result.detach()


def check_poses(g: Tensor) -> None:
    """Raise ValueError unless g has the shape of orientations or poses.

    Example:
        >>> check_poses(torch.eye(3))
    """
    if g.ndim < 2 or tuple(g.shape[-2:]) not in ((3, 3), (4, 4)):
        raise ValueError(
            f"rigid bodies have orientations (…, 3, 3) or poses (…, 4, 4); got the shape {tuple(g.shape)}"
        )


def angular_momentum(g: Poses, mu: Momenta) -> Float[Tensor, "... 3"]:
    """R π + x × p of each body about the origin of space, shape (…, 3).

    Example:
        >>> angular_momentum(torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 2., 3.])
    """
    spin = (g[..., :3, :3] @ mu[..., :3, None])[..., 0]
    return spin if g.shape[-1] == 3 else spin + torch.linalg.cross(g[..., :3, 3], mu[..., 3:])


def random_rotations(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "... 3 3"]:
    """Uniformly distributed rotation matrices, float64, shape ``(*shape, 3, 3)``.

    Example:
        >>> random_rotations((2,), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 3])
    """
    q, r = torch.linalg.qr(normal_numbers((*shape, 3, 3), generator))
    uniform: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    handedness: Tensor = torch.linalg.det(uniform).sign()
    return uniform * handedness[..., None, None]


@dataclass(frozen=True)
class RigidBodySystem(ABC):
    """Base class of the systems of rigid bodies.

    Args:
        inertia: principal moments (I₁, I₂, I₃) of every body, positive.

    Attributes:
        name: what the system is called.
    """

    inertia: Triple = (1.0, 2.0, 3.0)
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if len(self.inertia) != 3 or not all(0 < moment < math.inf for moment in self.inertia):
            raise ValueError(f"inertia must be three positive numbers, got {self.inertia}")

    @abstractmethod
    def potential(self, g: Poses) -> Float[Tensor, " B"]:
        """V(g) of each system, shape (B,), differentiable with respect to g."""

    @abstractmethod
    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[Poses, Momenta]:
        """Draw poses and momenta, float64."""

    @property
    def body_mass(self) -> float | None:
        """Mass of every body; None where the bodies only turn."""
        return None

    def kinetic_energy(self, mu: Momenta) -> Float[Tensor, " B"]:
        """½ Σ π²/I of each system, shape (B,)."""
        return self.spin_energy(mu)

    def spin_energy(self, mu: Momenta) -> Float[Tensor, "..."]:
        """½ Σ π²/I of each body, shape (…)."""
        return 0.5 * (mu[..., :3].square() / mu.new_tensor(self.inertia)).sum(-1)

    def energy(self, g: Poses, mu: Momenta) -> Float[Tensor, " B"]:
        """H(g, μ) of each system, shape (B,)."""
        return self.kinetic_energy(mu) + self.potential(g)

    def wrench(self, g: Poses) -> Momenta:
        """Torques along the body axes (and forces in space); see :func:`wrench`."""
        return wrench(self.potential, g)


@dataclass(frozen=True)
class FreeRigidBody(RigidBodySystem):
    """A body that turns freely about its centre of mass: Euler's equations, V = 0.

    Distribution: R uniform, π ~ N(0, 1).

    Example:
        >>> body = FreeRigidBody(inertia=(1.0, 2.0, 3.0))
        >>> g, mu = body.sample(2, generator=torch.Generator().manual_seed(0))
        >>> g.shape, body.energy(g, mu).shape
        (torch.Size([2, 3, 3]), torch.Size([2]))
    """

    name: ClassVar[str] = "free_rigid_body"

    def potential(self, g: Poses) -> Float[Tensor, " B"]:
        """Zero."""
        return torch.zeros_like(g[..., 0, 0])

    def casimirs(self, g: Poses, mu: Momenta) -> Float[Tensor, "B 1"]:
        """|π|², which no Hamiltonian of π alone can change."""
        return mu.square().sum(-1, keepdim=True)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[Poses, Momenta]:
        """Draw orientations (B, 3, 3) and angular momenta (B, 3), float64."""
        return random_rotations((num_systems,), generator), normal_numbers((num_systems, 3), generator)


@dataclass(frozen=True)
class HeavyTop(RigidBodySystem):
    """A body with one point held fixed, in gravity: V = w (R χ)·e₃.

    With χ on the third axis and I₁ = I₂ this is Lagrange's top, which keeps π₃ too.

    Distribution: R uniform, π ~ N(0, 1).

    Args:
        inertia: principal moments about the fixed point.
        weight: w = m g ℓ, mass × gravity × distance from the fixed point to the centre of mass; an energy.
        centre: χ, direction from the fixed point to the centre of mass along the body axes; of length 1.

    Example:
        >>> top = HeavyTop(weight=2.0)
        >>> top.potential(torch.eye(3)[None])
        tensor([2.])
    """

    weight: float = 1.0
    centre: Triple = (0.0, 0.0, 1.0)
    name: ClassVar[str] = "heavy_top"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_direction("centre", self.centre)

    def potential(self, g: Poses) -> Float[Tensor, " B"]:
        """Weight times the height of the centre of mass, shape (B,)."""
        return self.weight * (g[..., 2, :3] * g.new_tensor(self.centre)).sum(-1)

    def casimirs(self, g: Poses, mu: Momenta) -> Float[Tensor, "B 2"]:
        """(π·Γ, |Γ|²) with Γ = Rᵀ e₃: the vertical angular momentum, and 1."""
        vertical = g[..., 2, :3]
        return torch.stack([(mu * vertical).sum(-1), vertical.square().sum(-1)], dim=-1)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[Poses, Momenta]:
        """Draw orientations (B, 3, 3) and angular momenta (B, 3), float64."""
        return random_rotations((num_systems,), generator), normal_numbers((num_systems, 3), generator)


def normal_numbers(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Standard normal numbers, float64, on the generator's device.

    Example:
        >>> normal_numbers((2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)


def check_direction(what: str, vector: Triple) -> None:
    """Raise ValueError unless the vector has length 1.

    Example:
        >>> check_direction("axis", (0.0, 0.6, 0.8))
    """
    if len(vector) != 3 or not math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-9):
        raise ValueError(f"{what} must be a direction, three components of length 1; got {vector}")
