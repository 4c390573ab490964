"""How sure a linear regression is of its energies and forces, given the features it was fitted on.

    σ²(E) = s² φᵀ (ΦᵀΦ + λ)⁻¹ φ,        σ²(F_ia) = s² (∂φ/∂r_ia)ᵀ (ΦᵀΦ + λ)⁻¹ (∂φ/∂r_ia)

Φ are the features of known structures, φ those of a new one: directions in which few structures lie are uncertain. With
(ΦᵀΦ + λ)⁻¹ = L Lᵀ these are lengths of φ L and of its slopes. The energy costs one small product; the forces one
reverse pass a feature, done together for many features.

Shape letters: B batch, N atoms, M structures, D features.
Reference: Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5 (2024) 045018.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.calculators.conversion import Structures
from lie_sim.models import AtomicPotential
from lie_sim.models.last_layer import LastLayer

FEATURES_AT_ONCE = 64
"""Slopes of features that are computed together."""


def posterior_factor(features: Float[Tensor, "M D"], ridge: float) -> Float[Tensor, "D D"]:
    """L of the module's equation, float64.

    Args:
        features: Φ, one row a structure.
        ridge: λ over the mean square of each feature times M, so that it means the same whatever the features' units.

    Example:
        >>> L = posterior_factor(torch.eye(2), ridge=1e-12)
        >>> bool(torch.allclose(L @ L.T, torch.eye(2).double()))
        True
    """
    phi = features.double()
    sizes = phi.square().mean(0).sqrt().clamp(min=1e-12)
    scaled = phi / sizes
    precision = scaled.T @ scaled
    precision += ridge * len(phi) * torch.eye(len(precision), dtype=precision.dtype)
    values, vectors = torch.linalg.eigh(precision)
    factor: Tensor = vectors * values.clamp(min=1e-300).rsqrt() / sizes[:, None]
    return factor


def energy_deviations(features: Float[Tensor, "B D"], factor: Float[Tensor, "D D"]) -> Float[Tensor, " B"]:
    """σ(E)/s of each system."""
    deviations: Tensor = (features.double() @ factor.to(features.device)).norm(dim=-1)
    return deviations


def force_deviations(
    potential: AtomicPotential, batch: Structures, factor: Float[Tensor, "D D"]
) -> Float[Tensor, "B N 3"]:
    """σ(F)/s of each component, shape (B, N, 3).

    Args:
        potential: with a linear readout.
        batch: the systems.
        factor: L.
    """
    layer = LastLayer(potential)
    with torch.enable_grad():
        x = batch.q.detach().requires_grad_(True)
        with layer.watched():
            potential(x, batch.particles, batch.neighbours)
        phi = layer.features(batch.particles).double() @ factor.to(x.device)
    if not phi.requires_grad:  # nothing depends on the positions
        return torch.zeros_like(x)
    variance = torch.zeros_like(x, dtype=torch.float64)
    for rows in torch.eye(phi.shape[1], dtype=phi.dtype, device=phi.device).split(FEATURES_AT_ONCE):
        directions = rows[:, None].expand(-1, len(phi), -1)
        (slopes,) = torch.autograd.grad(
            phi, x, directions, retain_graph=True, is_grads_batched=True, materialize_grads=True
        )
        variance += slopes.double().square().sum(0)
    return variance.sqrt()
