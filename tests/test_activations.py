"""SiLU: value and derivatives of three orders against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from lie_sim import LieTransformer, Particles
from lie_sim.activations import SiLU, _SiLUGradient, differentiated_once, silu

ROUNDING = 1e-12


def _derivatives(function, x: torch.Tensor) -> list[torch.Tensor]:
    """Value and first three derivatives of Σ function(x)²."""
    found = [function(x)]
    total = found[0].square().sum()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(total, x, create_graph=True)
        found.append(gradient)
        total = gradient.square().sum()
    return found


def test_three_derivatives_agree_with_pytorch() -> None:
    x = torch.linspace(-20, 20, 401, dtype=torch.float64, requires_grad=True)
    for ours, theirs in zip(_derivatives(silu, x), _derivatives(torch.nn.functional.silu, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_against_finite_differences() -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    assert gradcheck(silu, x)
    assert gradgradcheck(silu, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_arguments_stay_finite(dtype: torch.dtype) -> None:
    x = torch.tensor([-1e4, -100.0, 100.0, 1e4], dtype=dtype, requires_grad=True)
    for value in _derivatives(SiLU(), x)[:3]:
        assert value.isfinite().all()


def test_final_backward_without_a_graph_gives_the_same_second_derivative() -> None:
    x = torch.randn(7, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, dtype=torch.float64)
    results = []
    for function in (silu, torch.nn.functional.silu):
        (gradient,) = torch.autograd.grad((weights * function(x)).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
        results.append(second)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def plain(x: torch.Tensor) -> torch.Tensor:
    """SiLU of operations whose every derivative PyTorch knows (forward mode over its own SiLU has gaps)."""
    return x * torch.sigmoid(x)


def total_of(function):
    """A scalar function that uses SiLU twice."""
    return lambda x: function(1.3 * x + function(x)).square().sum()


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_forward_mode() -> None:
    x, v = torch.randn(2, 7, dtype=torch.float64)
    for ours, theirs in zip(jvp(silu, (x,), (v,)), jvp(plain, (x,), (v,)), strict=True):
        agree(ours, theirs)
    with forward_ad.dual_level():
        agree(*(forward_ad.unpack_dual(f(forward_ad.make_dual(x, v))).tangent for f in (silu, plain)))


def test_hessian_vector_products_and_vmap() -> None:
    x, v = torch.randn(2, 5, 7, dtype=torch.float64)

    def product(function):
        return lambda x, v: jvp(grad(total_of(function)), (x,), (v,))[1]

    single = [product(plain)(*pair) for pair in zip(x, v, strict=True)]
    agree(product(silu)(x[0], v[0]), single[0])
    agree(vmap(product(silu))(x, v), torch.stack(single))
    along = vmap(lambda v: jvp(total_of(silu), (x[0],), (v,))[1])(v)
    agree(along, v @ grad(total_of(plain))(x[0]))


@pytest.mark.parametrize("order", ["ff", "fr", "rf", "frr", "frf", "rff", "rfr", "rrf"])
def test_all_ways_to_a_second_and_third_derivative(order: str) -> None:
    x, wrap = torch.randn(4, dtype=torch.float64), {"f": jacfwd, "r": jacrev}
    found, expected = total_of(silu), total_of(plain)
    for letter in reversed(order):
        found, expected = wrap[letter](found), jacrev(expected)
    agree(found(x), expected(x))


@pytest.mark.parametrize("order", ["fff", "ffr"])
def test_forward_mode_three_deep_is_refused_and_not_wrong(order: str) -> None:
    x, wrap = torch.randn(4, dtype=torch.float64), {"f": jacfwd, "r": jacrev}
    found = total_of(silu)
    for letter in reversed(order):
        found = wrap[letter](found)
    with pytest.raises(NotImplementedError, match="use reverse mode"):
        found(x)


def test_forward_gradients_against_finite_differences() -> None:
    x, g = (torch.linspace(a, 3, 13, dtype=torch.float64, requires_grad=True) for a in (-3, -1))
    assert gradcheck(silu, x, check_forward_ad=True, check_batched_forward_grad=True)
    assert gradgradcheck(silu, x, check_fwd_over_rev=True)
    assert gradcheck(_SiLUGradient.apply, (g, x), check_forward_ad=True)
    assert gradcheck(_SiLUGradient.apply, (g.detach(), x), check_forward_ad=True)


def test_hessian_vector_product_of_a_whole_model() -> None:
    model = LieTransformer.default(dim=2, num_layers=1, width=8, num_heads=2).double()
    q, v = torch.randn(2, 1, 4, 2, dtype=torch.float64)
    particles = Particles(masses=torch.ones(1, 4, dtype=torch.float64))

    def energy(q: torch.Tensor) -> torch.Tensor:
        return model.energy(q, particles).sum()

    forward = jvp(grad(energy), (q,), (v,))[1]
    leaf = q.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(leaf), leaf, create_graph=True)
    (reverse,) = torch.autograd.grad(gradient, leaf, v)
    agree(forward, reverse)


def test_pytorchs_own_where_one_derivative_is_enough() -> None:
    x = torch.linspace(-20, 20, 401, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(silu(x).square().sum(), x)
    higher = _derivatives(silu, x)
    with differentiated_once():
        assert silu(x).grad_fn.name() == "SiluBackward0"
        (theirs,) = torch.autograd.grad(silu(x).square().sum(), x)
        for mine, other in zip(higher, _derivatives(silu, x), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours, theirs), "the first derivative differs in a bit"
    with pytest.raises(KeyError), differentiated_once():
        raise KeyError
    assert silu(x).grad_fn.name() != "SiluBackward0", "it outlasted its block"
