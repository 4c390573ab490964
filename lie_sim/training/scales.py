"""Units of a model from its training data, so that everything inside the network is of order one.

energy_scale = σ(F) · length_scale,      masses and attributes standardised,      n̄: mean number of neighbours
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.data.derivatives import force_targets
from lie_sim.data.trajectories import Trajectories
from lie_sim.models import LieTransformerConfig, SE3TransformerConfig

Config = TypeVar("Config", bound=LieTransformerConfig | SE3TransformerConfig)
_FEW = 1000  # systems that are enough to count neighbours


def fit_scales(
    config: Config,
    trajectories: Trajectories,
    targets: Float[Tensor, "S L N d"] | None = None,
    *,
    fit_length: bool = False,
) -> Config:
    """Fill in the scales that a configuration has.

    Args:
        config: an architecture; its scales are replaced.
        trajectories: the training data, and only these.
        targets: forces of shape (S, L, N, d); None reads them off the trajectories.
        fit_length: also set ``length_scale``, to the standard deviation of the positions about the centre.

    Raises:
        DataError: the data are not finite.

    Example:
        >>> from lie_sim.data import make_trajectories
        >>> from lie_sim.systems import Springs
        >>> times = torch.linspace(0, 0.04, 5, dtype=torch.float64)
        >>> data = make_trajectories(Springs(), 100, seed=0, times=times)
        >>> fitted = fit_scales(LieTransformerConfig(num_attributes=1), data)
        >>> fitted.mean_neighbours, round(fitted.mass_mean, 1), fitted.energy_scale > 1
        (5.0, 1.6, True)
    """
    trajectories.require_finite()
    particles = trajectories.particles
    if targets is None:
        targets = force_targets(trajectories.q, trajectories.p, particles.masses, trajectories.dt)
    exists = (
        particles.mask if particles.mask is not None else torch.ones_like(particles.masses, dtype=torch.bool)
    )
    everywhere = exists[:, None].expand(targets.shape[:3])
    length = _length(trajectories, exists) if fit_length else config.length_scale
    masses = particles.masses[exists]
    by_mass = isinstance(config, LieTransformerConfig) and config.readout_weight == "masses"
    scales: dict[str, Any] = {
        "length_scale": length,
        "energy_scale": _positive(_specific(targets, trajectories, by_mass=by_mass)[everywhere].std())
        * length,
        "mass_mean": float(masses.mean()),
        "mass_std": _positive(masses.std()),
        "mean_neighbours": _mean_neighbours(trajectories, exists, config.cutoff),
    }
    known = {field.name for field in fields(config)}
    fitted = replace(config, **{name: value for name, value in scales.items() if name in known})
    if not config.num_attributes or particles.attributes is None:
        return fitted
    attributes = particles.attributes[exists]
    means, deviations = (
        attributes.mean(0).tolist(),
        [_positive(column.std()) for column in attributes.unbind(1)],
    )
    return replace(fitted, attribute_mean=tuple(means), attribute_std=tuple(deviations))


def _specific(targets: Tensor, trajectories: Trajectories, *, by_mass: bool) -> Tensor:
    """Forces, or accelerations for a model whose energies are weighted by the masses."""
    if not by_mass:
        return targets
    return targets / trajectories.particles.masses[:, None, :, None]


def _positive(deviation: Tensor) -> float:
    """A standard deviation that can be divided by: 1 where everything is the same."""
    value = float(deviation)
    return value if value > 1e-12 else 1.0


def _length(trajectories: Trajectories, exists: Tensor) -> float:
    weights = exists[:, None, :, None].to(trajectories.q.dtype)
    centre = (trajectories.q * weights).sum(2, keepdim=True) / weights.sum(2, keepdim=True)
    offsets = (trajectories.q - centre)[exists[:, None].expand(trajectories.q.shape[:3])]
    return _positive(offsets.std())


def _mean_neighbours(trajectories: Trajectories, exists: Tensor, cutoff: float) -> float:
    """Mean number of other particles, within the cutoff if there is one, at the first time."""
    exists, q = exists[:_FEW], trajectories.q[:_FEW, 0]
    pairs = (
        exists[:, :, None] & exists[:, None, :] & ~torch.eye(q.shape[1], dtype=torch.bool, device=q.device)
    )
    if cutoff:
        pairs = pairs & (torch.cdist(q, q) < cutoff)
    return _positive(pairs.sum() / exists.sum())
