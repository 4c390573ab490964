"""R>0 × SO(2): rotations of the plane times positive scalings.

    exp(σ, θ) = e^σ R(θ),     log(u) = (½ log det u, atan2(u₁₀ − u₀₁, u₀₀ + u₁₁)),     u⁻¹ = uᵀ / det u

As complex numbers this is multiplication by e^{σ + iθ}: the log-polar coordinates of the LieTransformer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups import rotations
from lie_sim.groups.base import Algebra, Element, LieGroup, Points, check_size
from lie_sim.groups.linear import SO2
from lie_sim.groups.sampling import Device, DType, Sampler, Shape
from lie_sim.groups.vectors import length


@dataclass(frozen=True)
class ScaledRotation2(LieGroup):
    """R>0 × SO(2): rotations of the plane times positive scalings; algebra coordinates (log scale, angle).

    It moves any point but 0 to any other point but 0. The point 0, which no element moves, is lifted to the
    identity, so that values and gradients stay finite.

    Example:
        >>> ScaledRotation2().exp(torch.tensor([0.0, 0.0]))
        tensor([[1., -0.],
                [0., 1.]])
    """

    is_compact: ClassVar[bool] = False
    name = "R>0xSO(2)"
    space_dim = 2
    dim = 2
    orbit_dim = 0

    def generators(self, *, dtype: DType = None, device: Device = None) -> Float[Tensor, "2 2 2"]:
        """The identity matrix and [[0, −1], [1, 0]]."""
        eye = torch.eye(2, dtype=dtype, device=device)
        return torch.cat([eye[None], SO2().generators(dtype=dtype, device=device)])

    def exp(self, algebra: Algebra) -> Element:
        """Matrices e^σ R(θ) of (σ, θ), shape (…, 2)."""
        check_size(algebra, 2, "algebra coordinates", self.name)
        return algebra[..., 0].exp()[..., None, None] * rotations.so2_exp(algebra[..., 1])

    def log(self, u: Element) -> Algebra:
        """(log scale, angle in (−π, π]), shape (…, 2)."""
        return torch.stack([rotations.determinant(u).log() / 2, rotations.so2_log(u)], dim=-1)

    def inverse(self, u: Element) -> Element:
        """Uᵀ / det u."""
        return u.mT / rotations.determinant(u)[..., None, None]

    def act(self, u: Element, x: Points) -> Points:
        """The product u x for points (…, 2)."""
        check_size(x, 2, "points", self.name)
        return (u @ x[..., None])[..., 0]

    def adjoint(self, u: Element) -> Float[Tensor, "... 2 2"]:
        """The identity: the group is commutative."""
        return torch.eye(2, dtype=u.dtype, device=u.device).expand_as(u)

    def distance(self, u: Element, v: Element, *, alpha: float = 0.2) -> Float[Tensor, "..."]:
        """``alpha · |angle| + (1 − alpha) · |log scale|`` of u⁻¹ v."""
        scale, angle = length(self.relative_pose(u, v)[..., None]).unbind(-1)
        return alpha * angle + (1 - alpha) * scale

    def _random(self, shape: Shape, draw: Sampler, scale: float) -> Element:
        """Uniform rotations times e^(scale · normal)."""
        log_scale = scale * draw.normal((*shape, 1, 1))
        return log_scale.exp() * SO2()._random(shape, draw, scale)

    def orbit_coordinates(self, x: Points) -> Float[Tensor, "... 0"]:
        """Nothing, shape (…, 0)."""
        check_size(x, 2, "points", self.name)
        return x[..., :0]

    def origin(self, x: Points) -> Points:
        """(1, 0)."""
        return torch.tensor([1.0, 0.0], dtype=x.dtype, device=x.device).expand_as(x)

    def section(self, x: Points) -> Element:
        """[[x₀, −x₁], [x₁, x₀]]; the identity at x = 0."""
        check_size(x, 2, "points", self.name)
        zero = (x == 0).all(-1, keepdim=True)
        a, b = torch.where(zero, self.origin(x), x).unbind(-1)
        return rotations.plane_similarity(a, b)
