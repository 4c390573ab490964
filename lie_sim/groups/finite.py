"""Finite groups: what they share, the trivial group, and C_n and D_n in the plane.

    C_n: rotations R(2πk/n), n elements          D_n: C_n and R(2πk/n) diag(1, −1), 2n elements

Element 0 is the identity. A finite group has no useful log; its pair feature is the matrix k_i⁻¹k_j or the
indicator of that element. Each orbit has one canonical point: the k⁻¹x with the largest product with a fixed
vector c that only the identity leaves alone.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.groups.base import Algebra, Element, Points, check_size
from lie_sim.groups.linear import LinearGroup
from lie_sim.groups.rotations import so2_exp
from lie_sim.groups.sampling import Device, DType, Sampler, Shape

_GENERIC = (1.0, 0.1234, 0.3141)  # on no mirror and no axis of any group here


class FiniteGroup(LinearGroup):
    """Base class of the finite groups.

    Attributes:
        order: number of elements.
    """

    is_finite: ClassVar[bool] = True
    dim = 0

    @property
    @abstractmethod
    def order(self) -> int:
        """Number of elements."""

    @abstractmethod
    def _matrices(self) -> Float[Tensor, "order n n"]:
        """All elements in float64 on the CPU, the identity first."""

    @property
    def connected(self) -> bool:
        """Only the trivial group is."""
        return self.order == 1

    @property
    def orbit_dim(self) -> int:
        """N: the canonical point itself labels the orbit."""
        return self.space_dim

    def elements(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "order n n"]:
        """All elements, the identity first, shape (order, n, n)."""
        return self._matrices().to(device=device, dtype=dtype or torch.get_default_dtype())

    def index_of(self, u: Element) -> Int[Tensor, "..."]:
        """Position in :meth:`elements` of the element nearest to each matrix, shape (…)."""
        basis = self.elements(dtype=u.dtype, device=u.device)
        return torch.einsum("kij,...ij->...k", basis, u).argmax(-1)

    def multiplication_table(self, *, device: Device = None) -> Int[Tensor, "order order"]:
        """``table[i, j]`` is the index of element i times element j."""
        return _table(self).to(device=device)

    def inverse_table(self, *, device: Device = None) -> Int[Tensor, " order"]:
        """``table[i]`` is the index of the inverse of element i."""
        return (_table(self) == 0).long().argmax(-1).to(device=device)

    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "0 n n"]:
        """None: the Lie algebra has dimension 0."""
        return torch.zeros(0, self.space_dim, self.space_dim, dtype=dtype, device=device)

    def exp(self, algebra: Algebra) -> Element:
        """The identity, for algebra coordinates of shape (…, 0)."""
        check_size(algebra, 0, "algebra coordinates", self.name)
        return self.identity(algebra.shape[:-1], dtype=algebra.dtype, device=algebra.device)

    def log(self, u: Element) -> Algebra:
        """Shape (…, 0) for the trivial group; not defined for the others."""
        if not self.connected:
            raise ValueError(self._no_log())
        return u[..., 0, :0]

    def adjoint(self, u: Element) -> Float[Tensor, "... 0 0"]:
        """The empty matrix."""
        return u[..., :0, :0]

    def pose_dim(self, encoding: str | None = None) -> int:
        """Length of :meth:`relative_pose`: n² for ``"matrix"``, the order for ``"one_hot"``."""
        return self.order if self._encoding(encoding) == "one_hot" else super().pose_dim(encoding)

    def encode(self, u: Element, encoding: str | None = None) -> Float[Tensor, "... k"]:
        """Matrix entries (``"matrix"``) or indicator of the element (``"one_hot"``)."""
        if self._encoding(encoding) != "one_hot":
            return super().encode(u, encoding)
        numbers = torch.arange(self.order, device=u.device)
        return (self.index_of(u)[..., None] == numbers).to(u.dtype)

    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        index = draw.integers(self.order, shape)
        dtype = draw.dtype or torch.get_default_dtype()
        return self.elements(dtype=dtype, device=index.device)[index]

    def orbit_coordinates(self, x: Points) -> Points:
        """The canonical point of the orbit, shape (…, n)."""
        return self.act(self.inverse(self.section(x)), x)

    def origin(self, x: Points) -> Points:
        """The canonical point of the orbit, shape (…, n)."""
        return self.orbit_coordinates(x)

    def section(self, x: Points) -> Element:
        """The element that carries the canonical point to x; the first such element where x is symmetric."""
        check_size(x, self.space_dim, "points", self.name)
        elements = self.elements(dtype=x.dtype, device=x.device)
        generic = torch.zeros(self.space_dim, dtype=x.dtype, device=x.device)
        count = min(self.space_dim, len(_GENERIC))
        generic[:count] = torch.tensor(_GENERIC[:count], dtype=x.dtype, device=x.device)
        return elements[(x @ (elements @ generic).mT).argmax(-1)]


@cache
def _table(group: FiniteGroup) -> Tensor:
    elements = group._matrices()
    return group.index_of(elements[:, None] @ elements[None, :])


@dataclass(frozen=True)
class Trivial(FiniteGroup):
    """The group of the identity alone, in n dimensions.

    Args:
        n: space dimension, at least 1.

    Example:
        >>> Trivial(2).elements()
        tensor([[[1., 0.],
                 [0., 1.]]])
    """

    n: int

    def __post_init__(self) -> None:
        _check_positive("Trivial", self.n)

    @property
    def name(self) -> str:
        """Trivial(n)."""
        return f"Trivial({self.n})"

    @property
    def space_dim(self) -> int:
        """The n of Trivial(n)."""
        return self.n

    @property
    def order(self) -> int:
        """One."""
        return 1

    def _matrices(self) -> Tensor:
        return torch.eye(self.n, dtype=torch.float64)[None]

    def distance(self, u: Element, v: Element, *, alpha: float = 0.2) -> Float[Tensor, "..."]:
        """Zero: all elements are the identity."""
        return torch.zeros_like((u - v)[..., 0, 0])


@dataclass(frozen=True)
class Cyclic(FiniteGroup):
    """C_n: rotations of the plane by multiples of 2π/n.

    Args:
        n: number of elements, at least 1.

    Example:
        >>> Cyclic(4).multiplication_table()[1]
        tensor([1, 2, 3, 0])
    """

    n: int
    space_dim = 2

    def __post_init__(self) -> None:
        _check_positive("Cyclic", self.n)

    @property
    def name(self) -> str:
        """Cn."""
        return f"C{self.n}"

    @property
    def order(self) -> int:
        """The n of C_n."""
        return self.n

    def _matrices(self) -> Tensor:
        return _cyclic(self.n)


@dataclass(frozen=True)
class Dihedral(FiniteGroup):
    """D_n: rotations by multiples of 2π/n, then their products with the reflection y ↦ −y.

    Args:
        n: order of the rotations, at least 1; the group has 2n elements.

    Example:
        >>> Dihedral(3).order
        6
    """

    n: int
    space_dim = 2

    def __post_init__(self) -> None:
        _check_positive("Dihedral", self.n)

    @property
    def name(self) -> str:
        """Dn."""
        return f"D{self.n}"

    @property
    def order(self) -> int:
        """Twice the n of D_n."""
        return 2 * self.n

    def _matrices(self) -> Tensor:
        mirror = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
        return torch.cat([_cyclic(self.n), _cyclic(self.n) @ mirror])


def _check_positive(kind: str, n: int) -> None:
    if n < 1:
        raise ValueError(f"{kind}(n) needs n >= 1; got n = {n}")


def _cyclic(n: int) -> Tensor:
    matrices = so2_exp(torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n))
    exact = matrices.mul(2).round().div(2)  # quarter turns have the entries 0 and ±1, without rounding errors
    return torch.where((matrices - exact).abs() < 1e-14, exact, matrices)
