"""Measured invariance of an energy: the change under a random motion, relative to how much energies differ at all.

error = max_b |E(g·q_b) − E(q_b)| / std_b E(q_b)
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lie_sim.groups import group, random_transform
from lie_sim.models import EnergyModel
from lie_sim.report import EquivarianceRow
from lie_sim.state import Particles

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
"""Largest relative error that counts as exact: some hundred roundings of the dtype."""


def invariance_error(
    model: EnergyModel, symmetry: str, q: Tensor, particles: Particles, *, seed: int = 0
) -> float:
    """Largest relative change of the energy under one random element per system.

    Args:
        model: any energy model.
        symmetry: name of a group of :mod:`lie_sim.groups`, such as ``"SE(3)"``.
        q: positions, shape (B, N, d), B ≥ 2, on the device of the model.
        particles: what the particles are, likewise.
        seed: of the random elements.
    """
    moved = random_transform(group(symmetry), q, torch.Generator(q.device).manual_seed(seed))
    with torch.no_grad():
        before, after = model.energy(q, particles).double(), model.energy(moved, particles).double()
    return float((after - before).abs().max() / before.std())


def before_and_after(
    untrained: EnergyModel, trained: EnergyModel, symmetries: list[str], q: Tensor, particles: Particles
) -> list[EquivarianceRow]:
    """:func:`symmetry_rows` of the untrained and of the trained model."""
    models = {"before training": untrained, "after training": trained}
    return [
        row
        for when, model in models.items()
        for row in symmetry_rows(model, symmetries, q, particles, when=when)
    ]


def symmetry_rows(
    model: EnergyModel, symmetries: list[str], q: Tensor, particles: Particles, *, when: str
) -> list[EquivarianceRow]:
    """The invariance error for several symmetries in both float types, as rows of a report.

    The model may lie on another device than the positions; it is measured where it lies.
    """
    rows, device = [], next(model.parameters()).device
    for dtype, tolerance in TOLERANCES.items():
        cast, positions = copy.deepcopy(model).to(dtype), q.to(device=device, dtype=dtype)
        there = particles.to(device=device, dtype=dtype)
        for symmetry in symmetries:
            error = invariance_error(cast, symmetry, positions, there)
            rows.append(
                EquivarianceRow(
                    symmetry=symmetry,
                    dtype=str(dtype).removeprefix("torch."),
                    when=when,
                    error=error,
                    tolerance=tolerance,
                    passed=error <= tolerance,
                )
            )
    return rows
