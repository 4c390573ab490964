"""Continuous orthogonal groups: SO(2), SO(3), O(2), O(3).

    act(u, x) = u x,     u⁻¹ = uᵀ

| group      | algebra         | orbit of x      | origin(x)   | stabiliser of the origin |
|------------|-----------------|-----------------|-------------|--------------------------|
| SO(2)      | angle           | circle, r = |x| | (r, 0)      | identity                 |
| SO(3)      | rotation vector | sphere, r = |x| | (r, 0, 0)   | rotations about e₁       |
| O(2), O(3) | as SO(2), SO(3) | as SO(2), SO(3) | (r, 0[, 0]) | O(1), O(2)               |
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups import rotations
from lie_sim.groups.base import Algebra, Element, LieGroup, Points, check_size
from lie_sim.groups.sampling import Device, DType, Sampler, Shape
from lie_sim.groups.vectors import length


class LinearGroup(LieGroup):
    """A group of orthogonal n × n matrices acting by x ↦ u x; an extension may override the inverse."""

    def inverse(self, u: Element) -> Element:
        """Uᵀ."""
        return u.mT

    def act(self, u: Element, x: Points) -> Points:
        """The product u x for points (…, n)."""
        check_size(x, self.space_dim, "points", self.name)
        return (u @ x[..., None])[..., 0]

    def distance(self, u: Element, v: Element, *, alpha: float = 0.2) -> Float[Tensor, "..."]:
        """Angle of u⁻¹ v in [0, π]; elements of different handedness are π apart. ``alpha`` is not used."""
        return rotations.rotation_angle(self.relative(u, v))

    def left_jacobian(self, algebra: Algebra) -> Float[Tensor, "... n n"]:
        """J with exp(algebra, ρ) = (exp(algebra), J ρ) in the group extended by translations."""
        eye = torch.eye(self.space_dim, dtype=algebra.dtype, device=algebra.device)
        return eye.expand(*algebra.shape[:-1], self.space_dim, self.space_dim)

    def left_jacobian_inverse(self, algebra: Algebra) -> Float[Tensor, "... n n"]:
        """Inverse of :meth:`left_jacobian`."""
        return self.left_jacobian(algebra)


class _SphericalOrbits(LinearGroup):
    """Orthogonal groups that are transitive on every sphere: the radius labels the orbit."""

    @property
    def orbit_dim(self) -> int:
        """One: the radius."""
        return 1

    @property
    def stabiliser_is_trivial(self) -> bool:
        """Whether this is SO(2)."""
        return isinstance(self, SO2)

    def orbit_coordinates(self, x: Points) -> Float[Tensor, "... 1"]:
        """Distance of the points from 0, shape (…, 1)."""
        check_size(x, self.space_dim, "points", self.name)
        return length(x)[..., None]

    def origin(self, x: Points) -> Points:
        """(‖x‖, 0, …)."""
        radius = self.orbit_coordinates(x)
        return torch.cat([radius, torch.zeros_like(x[..., 1:])], dim=-1)


@dataclass(frozen=True)
class SO2(_SphericalOrbits):
    """Rotations of the plane about 0; the algebra coordinate is the angle in radians.

    Example:
        >>> SO2().exp(torch.tensor([torch.pi / 2])).round()
        tensor([[-0., -1.],
                [ 1., -0.]])
    """

    name = "SO(2)"
    space_dim = 2
    dim = 1

    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "1 2 2"]:
        """[[0, −1], [1, 0]]."""
        return torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=dtype, device=device)

    def exp(self, algebra: Algebra) -> Element:
        """Rotation matrices of the angles (…, 1)."""
        check_size(algebra, 1, "algebra coordinates", self.name)
        return rotations.so2_exp(algebra[..., 0])

    def log(self, u: Element) -> Algebra:
        """Angles in (−π, π], shape (…, 1)."""
        return rotations.so2_log(u)[..., None]

    def adjoint(self, u: Element) -> Float[Tensor, "... 1 1"]:
        """One: the group is commutative."""
        return torch.ones_like(u[..., :1, :1])

    def left_jacobian(self, algebra: Algebra) -> Float[Tensor, "... 2 2"]:
        """See :func:`lie_sim.groups.rotations.so2_left_jacobian`."""
        return rotations.so2_left_jacobian(algebra[..., 0])

    def left_jacobian_inverse(self, algebra: Algebra) -> Float[Tensor, "... 2 2"]:
        """See :func:`lie_sim.groups.rotations.so2_left_jacobian_inverse`."""
        return rotations.so2_left_jacobian_inverse(algebra[..., 0])

    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        """Rotations by angles uniform in [−π, π)."""
        return rotations.so2_exp((2 * draw.uniform(shape) - 1) * torch.pi)

    def section(self, x: Points) -> Element:
        """The rotation from e₁ to the direction of x; the identity at x = 0."""
        check_size(x, 2, "points", self.name)
        return rotations.so2_section(x)


@dataclass(frozen=True)
class SO3(_SphericalOrbits):
    """Rotations of space about 0; the algebra coordinates are the rotation vector in radians.

    Example:
        >>> group = SO3()
        >>> u = group.random((5,), 0)
        >>> bool(torch.allclose(group.exp(group.log(u)), u, atol=1e-5))
        True
    """

    name = "SO(3)"
    space_dim = 3
    dim = 3

    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "3 3 3"]:
        """[e₁]×, [e₂]×, [e₃]×."""
        return rotations.cross_matrix(torch.eye(3, dtype=dtype, device=device))

    def exp(self, algebra: Algebra) -> Element:
        """Rotation matrices of the rotation vectors (…, 3)."""
        check_size(algebra, 3, "algebra coordinates", self.name)
        return rotations.so3_exp(algebra)

    def log(self, u: Element) -> Algebra:
        """Rotation vectors (…, 3) of length at most π; at π the largest component is positive."""
        return rotations.so3_log(u)

    def adjoint(self, u: Element) -> Float[Tensor, "... 3 3"]:
        """The rotation itself."""
        return u

    def left_jacobian(self, algebra: Algebra) -> Float[Tensor, "... 3 3"]:
        """See :func:`lie_sim.groups.rotations.so3_left_jacobian`."""
        return rotations.so3_left_jacobian(algebra)

    def left_jacobian_inverse(self, algebra: Algebra) -> Float[Tensor, "... 3 3"]:
        """See :func:`lie_sim.groups.rotations.so3_left_jacobian_inverse`."""
        return rotations.so3_left_jacobian_inverse(algebra)

    def pose_dim(self, encoding: str | None = None) -> int:
        """3 for ``"log"``, 4 for ``"quaternion"``, 9 for ``"matrix"``."""
        return 4 if self._encoding(encoding) == "quaternion" else super().pose_dim(encoding)

    def encode(self, u: Element, encoding: str | None = None) -> Float[Tensor, "... k"]:
        """Rotation vector (``"log"``), unit quaternion (w ≥ 0, x, y, z) or matrix entries."""
        if self._encoding(encoding) == "quaternion":
            return rotations.quaternion_from_matrix(u)
        return super().encode(u, encoding)

    @property
    def _has_quaternion(self) -> bool:
        return True

    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        """Haar samples, from quaternions uniform on the unit sphere in four dimensions."""
        quaternion = draw.normal((*shape, 4))
        return rotations.matrix_from_quaternion(quaternion / quaternion.norm(dim=-1, keepdim=True))

    def section(self, x: Points) -> Element:
        """The smallest rotation from e₁ to the direction of x."""
        check_size(x, 3, "points", self.name)
        return rotations.so3_section(x)

    def _stabiliser_random(self, shape: Shape, draw: Sampler) -> Element:
        """Rotations about e₁ by uniform angles."""
        return _beside_one(SO2()._random(shape, draw, 1.0))


@dataclass(frozen=True)
class Orthogonal(_SphericalOrbits):
    """O(n), n = 2 or 3: rotations and reflections. It has two components, hence no log.

    Args:
        n: space dimension, 2 or 3.

    Example:
        >>> u = Orthogonal(3).random((200,), 0)
        >>> sorted(set(torch.linalg.det(u).round().tolist()))
        [-1.0, 1.0]
    """

    n: int

    def __post_init__(self) -> None:
        if self.n not in (2, 3):
            raise ValueError(f"Orthogonal(n) exists for n = 2 and n = 3; got n = {self.n}")

    @property
    def name(self) -> str:
        """O(n)."""
        return f"O({self.n})"

    @property
    def space_dim(self) -> int:
        """The n of O(n)."""
        return self.n

    @property
    def dim(self) -> int:
        """Dimension of the Lie algebra, that of SO(n)."""
        return self.rotations.dim

    @property
    def connected(self) -> bool:
        """False: a reflection is not the exp of anything."""
        return False

    @property
    def rotations(self) -> SO2 | SO3:
        """The subgroup SO(n)."""
        return SO2() if self.n == 2 else SO3()

    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "a n n"]:
        """Those of SO(n)."""
        return self.rotations.generators(dtype=dtype, device=device)

    def exp(self, algebra: Algebra) -> Element:
        """As in SO(n)."""
        return self.rotations.exp(algebra)

    def log(self, u: Element) -> Algebra:
        """Not defined."""
        raise ValueError(self._no_log())

    def adjoint(self, u: Element) -> Float[Tensor, "... a a"]:
        """The scalar det u for n = 2, the matrix det(u) u for n = 3."""
        sign = rotations.determinant(u)[..., None, None]
        return sign if self.n == 2 else sign * u

    def left_jacobian(self, algebra: Algebra) -> Float[Tensor, "... n n"]:
        """As in SO(n)."""
        return self.rotations.left_jacobian(algebra)

    def left_jacobian_inverse(self, algebra: Algebra) -> Float[Tensor, "... n n"]:
        """As in SO(n)."""
        return self.rotations.left_jacobian_inverse(algebra)

    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        """Haar samples: half of them rotations, half of them a rotation after a reflection."""
        u = self.rotations._random(shape, draw, scale)
        return torch.cat([u[..., :-1], u[..., -1:] * draw.signs((*shape, 1, 1))], dim=-1)

    def section(self, x: Points) -> Element:
        """As in SO(n)."""
        return self.rotations.section(x)

    def _stabiliser_random(self, shape: Shape, draw: Sampler) -> Element:
        """Haar samples of O(n − 1) on the coordinates after the first."""
        block = Orthogonal(2)._random(shape, draw, 1.0) if self.n == 3 else draw.signs((*shape, 1, 1))
        return _beside_one(block)


def _beside_one(block: Tensor) -> Tensor:
    """The matrix diag(1, block), shape (…, n + 1, n + 1)."""
    padded = torch.nn.functional.pad(block, (1, 0, 1, 0))
    padded[..., 0, 0] = 1.0
    return padded
