"""Exponential, logarithm and Jacobians of plane and space rotations, as functions of plain tensors.

Space      exp(v) = I + sinc K + cosc K²,   K = [v]×,   θ = |v|                       (Rodrigues)
           log(R) = v̂ θ with θ = 2 atan2(|q_v|, q_w),   q = quaternion of R,  q_w ≥ 0
           J(v)   = I + cosc K + sincc K²,  J(v)⁻¹ = I − K/2 + half_cot K²
Plane      exp(θ) = [[cos θ, −sin θ], [sin θ, cos θ]],   log(R) = atan2(R₁₀ − R₀₁, R₀₀ + R₁₁)

The quaternion is a normalised row of 4 q qᵀ, which is linear in R; taking the row with the largest diagonal
entry (Shepperd's rule) keeps every angle accurate, and no other row is ever evaluated, so nothing can be
divided by zero. At exactly θ = π, where ±v̂ are the same rotation, the largest component of the axis is
positive (the first of them on a tie); in the plane the angle is +π.

References: Shepperd, "Quaternion from rotation matrix", J. Guidance and Control 1 (1978) 223;
Sola, Deray, Atchuthan, "A micro Lie theory for state estimation in robotics", 2018.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.groups.series import angle_ratio, cosc, half_cot, sinc, sincc
from lie_sim.groups.vectors import direction, length, squared_length

PlaneRotation = Float[Tensor, "... 2 2"]
SpaceRotation = Float[Tensor, "... 3 3"]


def so2_exp(angle: Float[Tensor, "..."]) -> PlaneRotation:
    """Plane rotation by an angle in radians.

    Example:
        >>> so2_exp(torch.tensor(0.0))
        tensor([[1., -0.],
                [0., 1.]])
    """
    cosine, sine = angle.cos(), angle.sin()
    return plane_similarity(cosine, sine)


def so2_log(rotation: PlaneRotation) -> Float[Tensor, "..."]:
    """Angle of a plane rotation in (−π, π]; positive multiples of a rotation have the same angle.

    Example:
        >>> round(so2_log(so2_exp(torch.tensor(0.5))).item(), 6)
        0.5
    """
    sine = rotation[..., 1, 0] - rotation[..., 0, 1]
    cosine = rotation[..., 0, 0] + rotation[..., 1, 1]
    return torch.atan2(sine + 0.0, cosine)  # −0 + 0 = 0: a half turn is +π, never −π


def so2_left_jacobian(angle: Float[Tensor, "..."]) -> PlaneRotation:
    """J(θ) with exp of (θ, ρ) in SE(2) = (R(θ), J(θ) ρ).

    Example:
        >>> so2_left_jacobian(torch.tensor(0.0))
        tensor([[1., -0.],
                [0., 1.]])
    """
    x = angle.square()
    return plane_similarity(sinc(x), angle * cosc(x))


def so2_left_jacobian_inverse(angle: Float[Tensor, "..."]) -> PlaneRotation:
    """Inverse of :func:`so2_left_jacobian`, finite for |θ| < 2π.

    Example:
        >>> angle = torch.tensor(1.0)
        >>> identity = so2_left_jacobian(angle) @ so2_left_jacobian_inverse(angle)
        >>> bool(torch.allclose(identity, torch.eye(2), atol=1e-6))
        True
    """
    x = angle.square()
    return plane_similarity(1 - x * half_cot(x), -angle / 2)


def plane_similarity(a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Float[Tensor, "... 2 2"]:
    """[[a, −b], [b, a]]: multiplication by the complex number a + ib.

    Example:
        >>> plane_similarity(torch.tensor(1.0), torch.tensor(2.0))
        tensor([[ 1., -2.],
                [ 2.,  1.]])
    """
    return torch.stack([a, -b, b, a], dim=-1).reshape(*a.shape, 2, 2)


def cross_matrix(v: Float[Tensor, "... 3"]) -> SpaceRotation:
    """The matrix [v]× with ``[v]× a = v × a``.

    Example:
        >>> cross_matrix(torch.tensor([1.0, 0.0, 0.0])) @ torch.tensor([0.0, 1.0, 0.0])
        tensor([0., 0., 1.])
    """
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*x.shape, 3, 3)


def _quadratic(v: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``I + first·[v]× + second·[v]×²``; the coefficients have shape (…, 1)."""
    k = cross_matrix(v)
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye + first[..., None] * k + second[..., None] * (k @ k)


def so3_exp(v: Float[Tensor, "... 3"]) -> SpaceRotation:
    """Rotation about v by the angle |v| in radians.

    Example:
        >>> so3_exp(torch.zeros(3)).diagonal()
        tensor([1., 1., 1.])
    """
    x = squared_length(v)
    return _quadratic(v, sinc(x), cosc(x))


def so3_log(rotation: SpaceRotation) -> Float[Tensor, "... 3"]:
    """Rotation vector with |v| ≤ π of a rotation matrix.

    Example:
        >>> so3_log(torch.diag(torch.tensor([1.0, -1.0, -1.0])))
        tensor([3.1416, 0.0000, 0.0000])
    """
    quaternion = quaternion_from_matrix(rotation)
    w, v = quaternion[..., :1], quaternion[..., 1:]
    return v * angle_ratio(squared_length(v), w)


def so3_left_jacobian(v: Float[Tensor, "... 3"]) -> SpaceRotation:
    """J(v) with exp of (v, ρ) in SE(3) = (exp(v), J(v) ρ).

    Example:
        >>> so3_left_jacobian(torch.zeros(3)).diagonal()
        tensor([1., 1., 1.])
    """
    x = squared_length(v)
    return _quadratic(v, cosc(x), sincc(x))


def so3_left_jacobian_inverse(v: Float[Tensor, "... 3"]) -> SpaceRotation:
    """Inverse of :func:`so3_left_jacobian`, finite for |v| < 2π.

    Example:
        >>> v = torch.tensor([0.3, -1.0, 2.0])
        >>> identity = so3_left_jacobian(v) @ so3_left_jacobian_inverse(v)
        >>> bool(torch.allclose(identity, torch.eye(3), atol=1e-5))
        True
    """
    x = squared_length(v)
    return _quadratic(v, torch.full_like(x, -0.5), half_cot(x))


def quaternion_from_matrix(rotation: SpaceRotation) -> Float[Tensor, "... 4"]:
    """Unit quaternion (w, x, y, z) with w ≥ 0 of a rotation matrix.

    Example:
        >>> quaternion_from_matrix(torch.eye(3))
        tensor([1., 0., 0., 0.])
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = rotation.flatten(-2).unbind(-1)
    wx, wy, wz = zy - yz, xz - zx, yx - xy
    vxy, vxz, vyz = yx + xy, xz + zx, zy + yz
    rows = [
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, vxy, vxz],
        [wy, vxy, 1 - xx + yy - zz, vyz],
        [wz, vxz, vyz, 1 - xx - yy + zz],
    ]
    outer = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # 4 q qᵀ
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = outer.gather(-2, largest.expand(*largest.shape[:-1], 4))[..., 0, :]
    quaternion = row / squared_length(row).sqrt()
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_from_quaternion(quaternion: Float[Tensor, "... 4"]) -> SpaceRotation:
    """Rotation matrix of a unit quaternion (w, x, y, z).

    Example:
        >>> matrix_from_quaternion(torch.tensor([0.0, 1.0, 0.0, 0.0])).diagonal()
        tensor([ 1., -1., -1.])
    """
    w, v = quaternion[..., :1], quaternion[..., 1:]
    return _quadratic(v, 2 * w, torch.full_like(w, 2.0))


def so3_section(x: Float[Tensor, "... 3"]) -> SpaceRotation:
    """Smallest rotation that turns e₁ into the direction of x.

    Smooth except at x = 0 (the identity) and on the ray −e₁ (a half turn about e₃).

    Example:
        >>> so3_section(torch.tensor([0.0, 0.0, 2.0])) @ torch.tensor([1.0, 0.0, 0.0])
        tensor([0., 0., 1.])
    """
    unit = direction(x)
    cosine, y, z = unit.unbind(-1)
    front = cosine >= 0
    ratio = 1 / (1 + torch.where(front, cosine, 0.0))
    ey, ez = direction(unit[..., 1:]).unbind(-1)  # behind, 1 + cos would cancel: (1 − cos) e eᵀ is the same
    behind = [(1 - cosine) * ey * ey, (1 - cosine) * ey * ez, (1 - cosine) * ez * ez]
    ahead = [ratio * y * y, ratio * y * z, ratio * z * z]
    yy, yz, zz = (torch.where(front, a, b) for a, b in zip(ahead, behind, strict=True))
    rows = [cosine, -y, -z, y, 1 - yy, -yz, z, -yz, 1 - zz]
    return torch.stack(rows, dim=-1).reshape(*y.shape, 3, 3)


def so2_section(x: Float[Tensor, "... 2"]) -> PlaneRotation:
    """The rotation that turns e₁ into the direction of x; the identity for x = 0.

    Example:
        >>> so2_section(torch.tensor([0.0, 2.0])) @ torch.tensor([1.0, 0.0])
        tensor([0., 1.])
    """
    return plane_similarity(*direction(x).unbind(-1))


def determinant(matrix: Float[Tensor, "... n n"]) -> Float[Tensor, "..."]:
    """Determinant of 2×2 and 3×3 matrices in closed form.

    Example:
        >>> determinant(torch.eye(3)).item()
        1.0
    """
    if matrix.shape[-1] == 2:
        a, b, c, d = matrix.flatten(-2).unbind(-1)
        return a * d - b * c
    first, second, third = matrix.unbind(-2)
    volume: Tensor = torch.linalg.vecdot(first, torch.linalg.cross(second, third))
    return volume


def rotation_angle(matrix: Float[Tensor, "... n n"]) -> Float[Tensor, "..."]:
    """Angle in [0, π] of an orthogonal 2×2 or 3×3 matrix; improper ones count as π.

    Example:
        >>> round(rotation_angle(so2_exp(torch.tensor(-0.5))).item(), 6)
        0.5
    """
    proper = determinant(matrix) > 0
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    safe = torch.where(proper[..., None, None], matrix, eye)
    angle = length(so2_log(safe)[..., None]) if matrix.shape[-1] == 2 else length(so3_log(safe))
    return torch.where(proper, angle, torch.pi)
