"""Translations with a linear group: T(n), T(n) ⋊ K, and SE(2), SE(3) = T(n) ⋊ SO(n).

Elements are homogeneous matrices [[k, t], [0, 1]] with a linear part k in K and a translation t:

    (k, t)·x = k x + t        (k, t)(k', t') = (k k', k t' + t)        (k, t)⁻¹ = (kᵀ, −kᵀ t)
    u⁻¹ v = (k_uᵀ k_v, k_uᵀ (t_v − t_u))         the difference first: no digits are lost far from 0
    exp(ω, ρ) = (exp ω, J(ω) ρ)                  log(k, t) = (log k, J(log k)⁻¹ t)
    Ad_u (ω, ρ) = (Ad_k ω, k ρ − [Ad_k ω] t)     [ω] the matrix of ω

All of them are transitive: x is lifted by its own translation, and the stabiliser of the origin 0 is K.
Where K has no log the pair feature is (k_uᵀ(t_v − t_u), code of k_uᵀ k_v).

References: Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", 2018;
Hutchinson et al., "LieTransformer", ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups.base import Algebra, Element, LieGroup, Points, check_size
from lie_sim.groups.finite import FiniteGroup, Trivial
from lie_sim.groups.linear import SO2, SO3, LinearGroup
from lie_sim.groups.sampling import Device, DType, Sampler, Shape
from lie_sim.groups.vectors import length


def assemble(linear: Float[Tensor, "... n n"], translation: Float[Tensor, "... n"]) -> Element:
    """The homogeneous matrix [[linear, translation], [0, 1]]; the leading shapes broadcast.

    Example:
        >>> assemble(torch.eye(2), torch.tensor([3.0, 4.0]))
        tensor([[1., 0., 3.],
                [0., 1., 4.],
                [0., 0., 1.]])
    """
    size = translation.shape[-1]
    leading = torch.broadcast_shapes(linear.shape[:-2], translation.shape[:-1])
    upper = torch.cat(
        [linear.expand(*leading, size, size), translation[..., None].expand(*leading, size, 1)], dim=-1
    )
    last = torch.zeros(size + 1, dtype=upper.dtype, device=upper.device)
    last[-1] = 1.0
    return torch.cat([upper, last.expand(*leading, 1, size + 1)], dim=-2)


@dataclass(frozen=True)
class SemidirectTranslation(LieGroup):
    """T(n) ⋊ K: translations together with a compact linear group K.

    Algebra coordinates are those of K, then the n of the translation.

    Args:
        linear: K, a finite group, SO(n) or O(n).

    Example:
        >>> from lie_sim.groups import Cyclic
        >>> group = SemidirectTranslation(Cyclic(4))
        >>> u, v = group.random((2, 5), 0)
        >>> group.relative_pose(u, v).shape, group.pose_dim()
        (torch.Size([5, 6]), 6)
    """

    linear: LinearGroup
    is_compact: ClassVar[bool] = False
    orbit_dim = 0

    def __post_init__(self) -> None:
        if not isinstance(self.linear, LinearGroup):
            raise TypeError(
                "SemidirectTranslation expects a finite group, SO(n) or O(n) "
                f"as its linear part; got {self.linear!s}"
            )

    @property
    def name(self) -> str:
        """T(n)xK."""
        return f"T({self.space_dim})x{self.linear.name}"

    @property
    def space_dim(self) -> int:
        """Dimension n of the points."""
        return self.linear.space_dim

    @property
    def dim(self) -> int:
        """Dimension of the Lie algebra of K, plus n."""
        return self.linear.dim + self.space_dim

    @property
    def matrix_size(self) -> int:
        """One more than n."""
        return self.space_dim + 1

    @property
    def connected(self) -> bool:
        """Whether K is connected."""
        return self.linear.connected

    @property
    def stabiliser_is_trivial(self) -> bool:
        """Whether K is the trivial group."""
        return isinstance(self.linear, FiniteGroup) and self.linear.order == 1

    @property
    def _has_index(self) -> bool:
        return self.linear.is_finite

    @property
    def _has_quaternion(self) -> bool:
        return self.linear._has_quaternion

    def linear_part(self, u: Element) -> Float[Tensor, "... n n"]:
        """The element k of K, shape (…, n, n)."""
        return u[..., :-1, :-1]

    def translation_part(self, u: Element) -> Points:
        """The translation t, shape (…, n)."""
        return u[..., :-1, -1]

    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "a m m"]:
        """Those of K, then the unit translations."""
        inner = self.linear.generators(dtype=dtype, device=device)
        turns = torch.nn.functional.pad(inner, (0, 1, 0, 1))
        shifts = torch.zeros(self.space_dim, *self.element_shape, dtype=dtype, device=device)
        shifts[:, :-1, -1] = torch.eye(self.space_dim, dtype=dtype, device=device)
        return torch.cat([turns, shifts])

    def exp(self, algebra: Algebra) -> Element:
        """(exp ω, J(ω) ρ) of (ω, ρ), shape (…, a)."""
        check_size(algebra, self.dim, "algebra coordinates", self.name)
        omega, rho = algebra.split([self.linear.dim, self.space_dim], dim=-1)
        translation = self.linear.left_jacobian(omega) @ rho[..., None]
        return assemble(self.linear.exp(omega), translation[..., 0])

    def log(self, u: Element) -> Algebra:
        """(log k, J(log k)⁻¹ t), shape (…, a)."""
        if not self.connected:
            raise ValueError(self._no_log())
        omega = self.linear.log(self.linear_part(u))
        rho = self.linear.left_jacobian_inverse(omega) @ self.translation_part(u)[..., None]
        return torch.cat([omega, rho[..., 0]], dim=-1)

    def inverse(self, u: Element) -> Element:
        """(kᵀ, −kᵀ t)."""
        inverse = self.linear.inverse(self.linear_part(u))
        return assemble(inverse, -self.linear.act(inverse, self.translation_part(u)))

    def relative(self, u: Element, v: Element) -> Element:
        """(k_uᵀ k_v, k_uᵀ (t_v − t_u))."""
        inverse = self.linear.inverse(self.linear_part(u))
        shift = self.translation_part(v) - self.translation_part(u)
        return assemble(inverse @ self.linear_part(v), self.linear.act(inverse, shift))

    def act(self, u: Element, x: Points) -> Points:
        """K x + t for points (…, n)."""
        check_size(x, self.space_dim, "points", self.name)
        return self.linear.act(self.linear_part(u), x) + self.translation_part(u)

    def adjoint(self, u: Element) -> Float[Tensor, "... a a"]:
        """[[Ad_k, 0], [−[Ad_k ·] t, k]]."""
        inner, t = self.linear.adjoint(self.linear_part(u)), self.translation_part(u)
        basis = self.linear.generators(dtype=u.dtype, device=u.device)
        coupling = -torch.einsum("bij,...j,...ba->...ia", basis, t, inner)
        upper = torch.nn.functional.pad(inner, (0, self.space_dim))
        return torch.cat([upper, torch.cat([coupling, self.linear_part(u)], dim=-1)], dim=-2)

    def distance(self, u: Element, v: Element, *, alpha: float = 0.2) -> Float[Tensor, "..."]:
        """``alpha · distance in K + (1 − alpha) · |t_v − t_u|``."""
        angle = self.linear.distance(self.linear_part(u), self.linear_part(v))
        return alpha * angle + (1 - alpha) * length(self.translation_part(v) - self.translation_part(u))

    def pose_dim(self, encoding: str | None = None) -> int:
        """Length of :meth:`relative_pose`: n plus what K needs."""
        return self.space_dim + self.linear.pose_dim(self._encoding(encoding))

    def encode(self, u: Element, encoding: str | None = None) -> Float[Tensor, "... k"]:
        """:meth:`log`, or (t, code of k) with the other encodings."""
        chosen = self._encoding(encoding)
        if chosen == "log":
            return self.log(u)
        return torch.cat([self.translation_part(u), self.linear.encode(self.linear_part(u), chosen)], dim=-1)

    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        linear = self.linear._random(shape, draw, scale)
        return assemble(linear, scale * draw.normal((*shape, self.space_dim)))

    def orbit_coordinates(self, x: Points) -> Float[Tensor, "... 0"]:
        """Nothing, shape (…, 0): the group is transitive."""
        check_size(x, self.space_dim, "points", self.name)
        return x[..., :0]

    def origin(self, x: Points) -> Points:
        """The point 0."""
        return torch.zeros_like(x)

    def section(self, x: Points) -> Element:
        """The translation by x."""
        check_size(x, self.space_dim, "points", self.name)
        return assemble(self.linear.identity(dtype=x.dtype, device=x.device), x)

    def _stabiliser_random(self, shape: Shape, draw: Sampler) -> Element:
        linear = self.linear._random(shape, draw, 1.0)
        return assemble(linear, torch.zeros_like(linear[..., 0]))

    def stabiliser_elements(
        self, *, dtype: DType = None, device: Device = None
    ) -> Float[Tensor, "order m m"]:
        """All elements that keep the point 0, for a finite K: shape (order, n + 1, n + 1).

        ``compose(section(x)[..., None, :, :], stabiliser_elements())`` is the complete lift of x.

        Raises:
            ValueError: K is not finite.
        """
        if not isinstance(self.linear, FiniteGroup):
            raise ValueError(f"{self.linear.name} is not finite; draw from stabiliser_random instead")
        linear = self.linear.elements(dtype=dtype, device=device)
        return assemble(linear, torch.zeros_like(linear[..., 0]))


class Translation(SemidirectTranslation):
    """T(n): translations; algebra coordinates are the components of the shift.

    Args:
        n: space dimension, at least 1.

    Example:
        >>> Translation(2).exp(torch.tensor([3.0, 4.0]))[:2, 2]
        tensor([3., 4.])
    """

    def __init__(self, n: int) -> None:
        super().__init__(Trivial(n))

    @property
    def name(self) -> str:
        """T(n)."""
        return f"T({self.space_dim})"

    def distance(self, u: Element, v: Element, *, alpha: float = 0.2) -> Float[Tensor, "..."]:
        """Length of the shift from u to v; ``alpha`` is not used."""
        return super().distance(u, v, alpha=0.0)

    def __repr__(self) -> str:
        return f"Translation({self.space_dim})"


class SE2(SemidirectTranslation):
    """Rigid motions of the plane; algebra coordinates (angle, two of the translation).

    Example:
        >>> group = SE2()
        >>> u, v = group.random((2, 5), 0)
        >>> group.relative_pose(u, v).shape
        torch.Size([5, 3])
    """

    name = "SE(2)"

    def __init__(self) -> None:
        super().__init__(SO2())

    def __repr__(self) -> str:
        return "SE2()"


class SE3(SemidirectTranslation):
    """Rigid motions of space; algebra coordinates (rotation vector, three of the translation).

    Example:
        >>> group = SE3()
        >>> u, v = group.random((2, 5), 0)
        >>> group.relative_pose(u, v).shape
        torch.Size([5, 6])
    """

    name = "SE(3)"

    def __init__(self) -> None:
        super().__init__(SO3())

    def __repr__(self) -> str:
        return "SE3()"
