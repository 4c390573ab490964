"""Radial bases and the cutoff envelope."""

from __future__ import annotations

import pytest
import torch

from lie_sim.lifting import RADIAL_BASES, RadialBasis, compress, smooth_cutoff

ROUNDING = 1e-12


def derivatives(function, x, order):
    """Values of the function and of its derivatives up to the order."""
    x = x.clone().requires_grad_(True)
    values = [function(x)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), x, create_graph=True)[0])
    return [value.detach() for value in values]


def test_cutoff_falls_from_one_to_zero_with_two_flat_derivatives():
    ends = torch.tensor([0.0, 2.0 - 1e-7, 2.0, 2.5], dtype=torch.float64)
    value, first, second = derivatives(lambda r: smooth_cutoff(r, 2.0), ends, 2)
    assert torch.allclose(value, torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64), atol=ROUNDING)
    assert float(first.abs().max()) < ROUNDING
    assert float(second.abs().max()) < 1e-5  # 15·1e-7 at the second point
    inside = smooth_cutoff(torch.linspace(0, 2, 50, dtype=torch.float64), 2.0)
    assert bool((inside.diff() < 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", RADIAL_BASES)
def test_basis_is_finite_with_two_gradients_at_zero_distance(kind, dtype):
    basis = RadialBasis(kind, size=5, cutoff=2.0, softening=1e-3)
    r = torch.tensor([[0.0, 0.0, 0.0], [1e-4, 0.0, 0.0], [0.3, 0.4, 0.0]], dtype=dtype)
    for value in derivatives(lambda x: basis(x.square().sum(-1)), r, 2):
        assert bool(value.isfinite().all())
    assert basis(r.square().sum(-1)).shape == (3, basis.size)


def test_bases_are_their_formulas():
    r = torch.tensor([0.0, 0.5, 3.0], dtype=torch.float64)
    soft = (1 + r**2).sqrt()
    polynomial = torch.stack([r**2, soft - 1, 1 / soft], -1)
    assert torch.allclose(RadialBasis("polynomial")(r**2), polynomial, atol=ROUNDING)
    coulomb = torch.stack([1 / (r**2 + 0.04).sqrt(), r**2 / soft**2, 1 / soft], -1)
    assert torch.allclose(RadialBasis("coulomb", softening=0.2)(r**2), coulomb, atol=ROUNDING)
    centres = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    gaussian = torch.exp(-0.5 * (r[:, None] - centres) ** 2)
    found = RadialBasis("gaussian", size=3, cutoff=2.0)(r**2)
    assert torch.allclose(found, gaussian, atol=1e-3)  # the distance is softened by 1e-3
    found = RadialBasis("bessel", size=2, cutoff=4.0)(torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64))
    bessel = torch.tensor([[0.5**0.5, 1.0], [0.5, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(found, bessel, atol=1e-5)


def test_compress_is_odd_bounded_and_has_slope_one():
    x = torch.tensor([-1e6, -1.0, 0.0, 1.0, 1e6], dtype=torch.float64)
    value, slope = derivatives(compress, x, 1)
    assert torch.allclose(value, -value.flip(0))
    assert bool((value.abs() <= 1).all())
    assert float(slope[2]) == 1.0


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "fourier",
            {},
            "unknown radial basis 'fourier'; choose one of polynomial, gaussian, bessel, coulomb",
        ),
        ("bessel", {}, "needs a cutoff"),
        ("gaussian", {}, "needs a cutoff"),
        ("coulomb", {"softening": 0.0}, "softening > 0"),
    ],
)
def test_impossible_bases_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        RadialBasis(kind, **options)
