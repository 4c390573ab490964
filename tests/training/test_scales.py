"""Scales of a model from its data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lie_sim.data import Trajectories, make_trajectories
from lie_sim.errors import DataError
from lie_sim.models import LieTransformerConfig
from lie_sim.state import Particles
from lie_sim.systems import Springs
from lie_sim.training import fit_scales

ROUNDING = 1e-12


def trajectories(mask: torch.Tensor | None = None) -> Trajectories:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(7, 3, 4, 2, generator=generator, dtype=torch.float64)
    masses = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    attributes = torch.stack([2 * masses, torch.full_like(masses, 5.0)], -1)
    times = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    return Trajectories(q, q.clone(), times, Particles(masses, attributes=attributes, mask=mask))


def test_scales_by_hand() -> None:
    data = trajectories()
    forces = torch.randn(data.q.shape, dtype=torch.float64)
    fitted = fit_scales(LieTransformerConfig(num_attributes=2, length_scale=2.0), data, forces)
    masses = data.particles.masses
    assert fitted.energy_scale == pytest.approx(2 * float(forces.std()), rel=ROUNDING)
    assert (fitted.mass_mean, fitted.mass_std) == (float(masses.mean()), float(masses.std()))
    assert fitted.attribute_mean == pytest.approx((2 * float(masses.mean()), 5.0), rel=ROUNDING)
    assert fitted.attribute_std == pytest.approx((2 * float(masses.std()), 1.0), rel=ROUNDING)
    assert (fitted.mean_neighbours, fitted.length_scale) == (3.0, 2.0)


def test_padding_does_not_count() -> None:
    mask = torch.ones(7, 4, dtype=torch.bool)
    mask[:, 3] = False
    data, plain = trajectories(mask), trajectories()
    data.particles.masses[:, 3], data.q[:, :, 3] = 1e9, 1e9
    cut = Trajectories(
        plain.q[:, :, :3], plain.p[:, :, :3], plain.times, Particles(plain.particles.masses[:, :3])
    )
    config = LieTransformerConfig()
    forces = torch.randn(data.q.shape, dtype=torch.float64)
    padded = fit_scales(config, data, forces, fit_length=True)
    expected = fit_scales(config, cut, forces[:, :, :3], fit_length=True)
    for name in ("energy_scale", "length_scale", "mass_mean", "mass_std", "mean_neighbours"):
        assert getattr(padded, name) == pytest.approx(getattr(expected, name), rel=ROUNDING), name


def test_cutoff_counts_neighbours() -> None:
    line = (
        torch.arange(4.0, dtype=torch.float64)[None, None, :, None].expand(2, 2, 4, 2) / 2**0.5
    )  # spacing 1
    times, masses = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)
    data = Trajectories(line, line, times, Particles(masses))
    fitted = fit_scales(LieTransformerConfig(cutoff=1.5), data, torch.randn(2, 2, 4, 2, dtype=torch.float64))
    assert fitted.mean_neighbours == 1.5  # two ends with one, two inner ones with two


def test_numbers_that_are_not_finite_are_found_before_anything_is_learned() -> None:
    times = torch.linspace(0, 0.04, 5, dtype=torch.float64)
    data = make_trajectories(Springs(), 4, seed=0, times=times)
    q = data.q.clone()
    q[2, 3, 1, 0] = torch.nan
    with pytest.raises(DataError, match="the first at system 2, time 3, particle 1, coordinate 0"):
        fit_scales(LieTransformerConfig(num_attributes=1), replace(data, q=q))
