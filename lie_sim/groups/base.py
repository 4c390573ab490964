"""What every group is: matrices that multiply, act on points and, where they form a Lie group, have a log.

    compose(u, v) = u v,     act(u, x) = u·x,     relative(u, v) = u⁻¹ v,     Ad_u log(v) = log(u v u⁻¹)

A group is a small immutable object without tensors; elements are plain tensors (…, m, m), points are
(…, n), coordinates in the Lie algebra are (…, a), all with any leading shape that broadcasts.

Shape letters: n space dimension, m matrix size, a dimension of the Lie algebra, k length of a pair feature.
Reference: Hutchinson et al., "LieTransformer: Equivariant self-attention for Lie groups", ICML 2021.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups.sampling import Device, DType, Sampler, Seed, Shape, as_generator

Element = Float[Tensor, "... m m"]
Points = Float[Tensor, "... n"]
Algebra = Float[Tensor, "... a"]
ENCODINGS = ("log", "matrix", "one_hot", "quaternion")


def check_size(tensor: Tensor, size: int, what: str, group: str) -> None:
    """Raise ValueError unless the last axis has the given size.

    Example:
        >>> check_size(torch.zeros(5, 2), 2, "points", "SO(2)")
    """
    if tensor.ndim == 0 or tensor.shape[-1] != size:
        raise ValueError(f"{group} expects {what} of shape (…, {size}); got {tuple(tensor.shape)}")


class LieGroup(ABC):
    """Base class of all groups.

    Attributes:
        name: the name that :func:`lie_sim.groups.group` understands.
        space_dim: n, dimension of the points that the group acts on.
        dim: a, dimension of the Lie algebra; 0 for a finite group.
        matrix_size: m, elements are m × m matrices.
        orbit_dim: numbers that label an orbit; 0 when any point can be moved to any other.
        connected: every element is the exp of something, so :meth:`log` exists.
        is_finite: it has finitely many elements.
        stabiliser_is_trivial: one element, not several, leads from the origin to a point.
        is_compact: it has a uniform (Haar) probability distribution.
    """

    is_finite: ClassVar[bool] = False
    is_compact: ClassVar[bool] = True

    @property
    @abstractmethod
    def name(self) -> str:
        """The name that :func:`lie_sim.groups.group` understands."""

    @property
    @abstractmethod
    def space_dim(self) -> int:
        """Dimension n of the points that the group acts on."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension a of the Lie algebra."""

    @property
    @abstractmethod
    def orbit_dim(self) -> int:
        """How many numbers label an orbit."""

    @property
    def matrix_size(self) -> int:
        """Size m of the matrices."""
        return self.space_dim

    @property
    def element_shape(self) -> tuple[int, int]:
        """Shape (m, m) of one element."""
        return (self.matrix_size, self.matrix_size)

    @property
    def connected(self) -> bool:
        """Whether :meth:`log` exists."""
        return True

    @property
    def is_transitive(self) -> bool:
        """Whether any point can be moved to any other (for R>0xSO(2): any point but 0)."""
        return self.orbit_dim == 0

    @property
    def stabiliser_is_trivial(self) -> bool:
        """Whether the identity alone keeps the origin of a generic orbit, so that a lift is one element."""
        return True

    @abstractmethod
    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "a m m"]:
        """Basis of the Lie algebra as matrices, in the order of the algebra coordinates."""

    @abstractmethod
    def exp(self, algebra: Algebra) -> Element:
        """Exponential map from algebra coordinates (…, a) to elements (…, m, m)."""

    @abstractmethod
    def log(self, u: Element) -> Algebra:
        """Inverse of :meth:`exp`, on the branch with rotation angles in (−π, π].

        Raises:
            ValueError: the group is not connected; use :meth:`relative_pose`.
        """

    @abstractmethod
    def inverse(self, u: Element) -> Element:
        """u⁻¹, shape (…, m, m)."""

    @abstractmethod
    def act(self, u: Element, x: Points) -> Points:
        """u·x for points (…, n)."""

    @abstractmethod
    def adjoint(self, u: Element) -> Float[Tensor, "... a a"]:
        """Matrix of Ad_u in algebra coordinates: ``exp(Ad_u a) = u exp(a) u⁻¹``."""

    @abstractmethod
    def distance(self, u: Element, v: Element, *, alpha: float = 0.2) -> Float[Tensor, "..."]:
        """Left-invariant distance, ``alpha · angle + (1 − alpha) · translation`` where both exist.

        The angle is in radians, the translation in the unit of the points.
        """

    def random(
        self,
        shape: Sequence[int] = (),
        generator: Seed = None,
        *,
        dtype: DType = None,
        device: Device = None,
        scale: float = 1.0,
    ) -> Element:
        """Random elements, shape ``(*shape, m, m)``.

        Compact parts follow the Haar measure; each component of a translation, and the logarithm of a
        scaling, is normal with standard deviation ``scale``.

        Args:
            shape: leading shape.
            generator: a generator or an integer seed; None uses PyTorch's global one.
            dtype: None takes PyTorch's default.
            device: None takes the generator's, or PyTorch's default.
            scale: size of the parts that are not compact.
        """
        return self._random(tuple(shape), Sampler(as_generator(generator), dtype, device), scale)

    @abstractmethod
    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        """What :meth:`random` returns."""

    @abstractmethod
    def orbit_coordinates(self, x: Points) -> Float[Tensor, "... orbit"]:
        """Numbers (…, orbit_dim) that no group element changes and that tell orbits apart."""

    @abstractmethod
    def origin(self, x: Points) -> Points:
        """The canonical point of the orbit of x; :meth:`section` leads from it to x."""

    @abstractmethod
    def section(self, x: Points) -> Element:
        """An element u with ``act(u, origin(x)) = x``: a deterministic lift of x to the group."""

    def stabiliser_random(
        self,
        shape: Sequence[int] = (),
        generator: Seed = None,
        *,
        dtype: DType = None,
        device: Device = None,
    ) -> Element:
        """Haar samples of the elements that leave the origin where it is, shape ``(*shape, m, m)``.

        ``compose(section(x), stabiliser_random(…))`` is a uniform random lift of x.
        """
        return self._stabiliser_random(tuple(shape), Sampler(as_generator(generator), dtype, device))

    def _stabiliser_random(self, shape: Shape, draw: Sampler) -> Element:
        """What :meth:`stabiliser_random` returns: the identity unless a subclass knows better."""
        return draw.identity(self.matrix_size, shape)

    def compose(self, u: Element, v: Element) -> Element:
        """The product u v, shape (…, m, m)."""
        return u @ v

    def relative(self, u: Element, v: Element) -> Element:
        """u⁻¹ v: how v looks from u; unchanged when both are multiplied by one element from the left."""
        return self.compose(self.inverse(u), v)

    def identity(self, shape: Sequence[int] = (), *, dtype: DType = None, device: Device = None) -> Element:
        """The identity repeated to shape ``(*shape, m, m)``."""
        eye = torch.eye(self.matrix_size, dtype=dtype, device=device)
        return eye.expand(*shape, *self.element_shape)

    def hat(self, algebra: Algebra) -> Element:
        """Algebra coordinates (…, a) as matrices: ``exp(algebra) = matrix_exp(hat(algebra))``."""
        check_size(algebra, self.dim, "algebra coordinates", self.name)
        basis = self.generators(dtype=algebra.dtype, device=algebra.device)
        return torch.einsum("...a,aij->...ij", algebra, basis)

    def pose_dim(self, encoding: str | None = None) -> int:
        """Length k of :meth:`relative_pose` with this encoding."""
        chosen = self._encoding(encoding)
        return self.dim if chosen == "log" else self.space_dim**2

    def encode(self, u: Element, encoding: str | None = None) -> Float[Tensor, "... k"]:
        """Numbers that determine an element.

        Args:
            u: elements, shape (…, m, m).
            encoding: ``"log"`` (default of connected groups) is :meth:`log`; ``"matrix"`` (default of the
                others) the matrix entries, smooth everywhere; ``"one_hot"`` the index in a finite group;
                ``"quaternion"`` in SO(3) and SE(3) that of the rotation, with w ≥ 0.
        """
        return self.log(u) if self._encoding(encoding) == "log" else u.flatten(-2)

    def relative_pose(self, u: Element, v: Element, encoding: str | None = None) -> Float[Tensor, "... k"]:
        """The pair feature of the LieTransformer: :meth:`encode` of u⁻¹ v, by default log(u⁻¹ v)."""
        return self.encode(self.relative(u, v), encoding)

    def _encoding(self, encoding: str | None) -> str:
        chosen = encoding or ("log" if self.connected else "matrix")
        if chosen not in ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}; got {encoding!r}")
        if chosen == "one_hot" and not self._has_index:
            raise ValueError(
                f'{self.name} is not finite and has no "one_hot" encoding; use "log" or "matrix"'
            )
        if chosen == "quaternion" and not self._has_quaternion:
            raise ValueError(f'{self.name} has no "quaternion" encoding: SO(3) and SE(3) have')
        if chosen == "log" and not self.connected:
            raise ValueError(self._no_log())
        return chosen

    @property
    def _has_index(self) -> bool:
        return self.is_finite

    @property
    def _has_quaternion(self) -> bool:
        return False

    def _no_log(self) -> str:
        return (
            f"{self.name} is not connected: some of its elements are the exp of nothing, so it has no log; "
            'use relative_pose or encode with encoding="matrix"'
        )

    def __str__(self) -> str:
        return self.name
