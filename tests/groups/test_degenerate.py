"""Nothing becomes NaN or infinite: identities, half turns, coincident points, in both precisions."""

import math

import pytest
import torch

from lie_sim.groups import LieGroup, group

NAMES = ["T(2)", "T(3)", "SO(2)", "SO(3)", "SE(2)", "SE(3)", "R>0xSO(2)"]
DTYPES = [torch.float32, torch.float64]
GAPS = [0.0, 1e-16, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1]
WORST_SECOND_GRADIENT = 1e4  # log is smooth in the matrix away from π; on the branch cut it stays bounded too
ANTIPODE = {torch.float32: 1e-6, torch.float64: 1e-14}


def first_and_second_gradient(function: object, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Value, gradient, and gradient of a generic contraction of the gradient."""
    x = x.detach().clone().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    value = function(x)  # type: ignore[operator]
    weight = torch.randn(value.shape, generator=generator, dtype=x.dtype)
    (first,) = torch.autograd.grad((weight * value).sum(), x, create_graph=True)
    twist = torch.randn(first.shape, generator=generator, dtype=x.dtype)
    total = (twist * first).sum()
    if not total.requires_grad:  # the function is linear
        return value, first, torch.zeros_like(x)
    (second,) = torch.autograd.grad(total, x, materialize_grads=True)
    return value, first, second


def assert_finite(function: object, x: torch.Tensor, bound: float = math.inf) -> None:
    results = first_and_second_gradient(function, x)
    for what, tensor in zip(("value", "gradient", "second gradient"), results, strict=True):
        finite = torch.isfinite(tensor)
        assert finite.all(), f"{what}: {(~finite).sum()} of {finite.numel()} entries are not finite"
        assert tensor.abs().max() <= bound, f"{what}: {tensor.abs().max():.1e} > {bound:.0e}"


def degenerate_angles() -> torch.Tensor:
    gaps = torch.tensor(GAPS, dtype=torch.float64)
    return torch.cat([gaps, -gaps, math.pi - gaps, gaps - math.pi, math.pi / 2 + gaps, 2 * math.pi - gaps])


def degenerate_elements(chosen: LieGroup, dtype: torch.dtype) -> torch.Tensor:
    """Thousands of elements: random, and near every critical angle about symmetric and random axes."""
    generator = torch.Generator().manual_seed(0)
    angles = degenerate_angles()
    plain = chosen.random((1000,), generator, dtype=torch.float64)
    if chosen.dim == chosen.space_dim and chosen.name.startswith("T("):
        return torch.cat([plain, chosen.identity((1,), dtype=torch.float64)]).to(dtype)
    size = 1 if chosen.space_dim == 2 else 3
    axes = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * size).reshape(
        -1, size
    )
    axes = torch.cat([axes[axes.norm(dim=-1) > 0], torch.randn(20, size, generator=generator).double()])
    turns = (angles[:, None, None] * axes / axes.norm(dim=-1, keepdim=True)).reshape(-1, size)
    rest = torch.zeros(len(turns), chosen.dim - size, dtype=torch.float64)
    far = torch.randn(rest.shape, generator=generator, dtype=torch.float64)
    pieces = [[rest, turns], [far, turns]] if chosen.name == "R>0xSO(2)" else [[turns, rest], [turns, far]]
    algebra = torch.cat([torch.cat(parts, dim=-1) for parts in pieces]).to(dtype)
    return torch.cat([plain.to(dtype), chosen.exp(algebra)])


def exact_half_turns(dtype: torch.dtype) -> torch.Tensor:
    """2 a aᵀ − I for unit vectors a: symmetric matrices, so the angle is π without a rounding error."""
    axes = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    axes = axes[axes.norm(dim=-1) > 0]
    axes = axes / axes.norm(dim=-1, keepdim=True)
    return (2 * axes[:, :, None] * axes[:, None, :] - torch.eye(3, dtype=torch.float64)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_log_and_its_gradients_are_finite_on_thousands_of_elements(name: str, dtype: torch.dtype) -> None:
    chosen = group(name)
    elements = degenerate_elements(chosen, dtype)
    assert len(elements) > 1000
    assert_finite(chosen.log, elements, math.inf if name == "R>0xSO(2)" else WORST_SECOND_GRADIENT)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_exp_and_its_gradients_are_finite(name: str, dtype: torch.dtype) -> None:
    chosen = group(name)
    algebra = chosen.log(degenerate_elements(chosen, dtype))
    tiny = torch.finfo(dtype).tiny
    corner = torch.tensor(
        [0.0, tiny, tiny**0.5, tiny**0.25, 100.0 if name != "R>0xSO(2)" else 10.0], dtype=dtype
    )
    corners = corner[:, None].expand(-1, chosen.dim)
    assert_finite(chosen.exp, torch.cat([algebra, corners, -corners]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_pair_features_of_all_pairs_include_the_diagonal(name: str, dtype: torch.dtype) -> None:
    chosen = group(name)
    u = chosen.random((8,), 0, dtype=dtype)
    u = torch.cat([u, u[:2], chosen.identity((1,), dtype=dtype)])  # coincident elements as well

    def pairs(elements: torch.Tensor) -> torch.Tensor:
        return chosen.relative_pose(elements[:, None], elements[None, :])

    assert_finite(pairs, u, 1e3)
    assert pairs(u).diagonal(dim1=0, dim2=1).abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NAMES, "O(2)", "O(3)", "E(2)", "E(3)", "T(2)xD4", "T(3)xO", "D3", "I"])
def test_distance_and_its_gradients_are_finite_on_the_diagonal(name: str, dtype: torch.dtype) -> None:
    chosen = group(name)
    u = chosen.random((20,), 0, dtype=dtype)
    assert_finite(lambda v: chosen.distance(u[:, None], v[None, :]), u)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NAMES, "O(3)", "C4", "D3", "T", "O", "I", "T(2)xC4"])
def test_lifts_of_degenerate_points_are_finite_and_land_on_the_point(name: str, dtype: torch.dtype) -> None:
    chosen = group(name)
    n = chosen.space_dim
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=dtype)] * n).reshape(-1, n)
    beside = torch.tensor([[-1.0] + [gap] * (n - 1) for gap in GAPS], dtype=dtype)  # next to the ray −e₁
    x = torch.cat([grid, 1e-6 * grid, 1e6 * grid, beside])
    moved = chosen.act(chosen.section(x), chosen.origin(x))
    reachable = (x != 0).any(-1) if name == "R>0xSO(2)" else torch.ones(len(x), dtype=torch.bool)
    error = ((moved - x).norm(dim=-1) / x.norm(dim=-1).clamp_min(1e-12))[reachable].max().item()
    assert error <= 20 * torch.finfo(dtype).eps, f"{error:.1e}"
    u = chosen.section(x)
    unit = chosen.compose(chosen.inverse(u), u) - chosen.identity(dtype=dtype)
    assert unit.abs().max() <= 20 * torch.finfo(dtype).eps * max(1.0, x.abs().max() if "T(" in name else 1.0)
    if name not in ("C4", "D3", "T", "O", "I"):
        assert_finite(chosen.section, x)
    if chosen.orbit_dim:
        assert_finite(chosen.orbit_coordinates, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_half_turns_have_a_defined_axis_and_finite_gradients(dtype: torch.dtype) -> None:
    half_turns = exact_half_turns(dtype)
    log = group("SO(3)").log(half_turns)
    assert (log.norm(dim=-1) - math.pi).abs().max() <= ANTIPODE[dtype]
    largest = log.gather(
        -1, (log.abs() > log.abs().amax(-1, keepdim=True) - 1e-5).int().argmax(-1, keepdim=True)
    )
    assert (largest > 0).all(), "the first of the largest components must be positive"
    assert_finite(group("SO(3)").log, half_turns, WORST_SECOND_GRADIENT)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_half_turn_of_the_plane_is_plus_pi_whatever_the_sign_of_zero(zero: float) -> None:
    half_turn = torch.tensor([[-1.0, -zero], [zero, -1.0]])
    assert group("SO(2)").log(half_turn).item() == pytest.approx(math.pi)


@pytest.mark.parametrize("name", ["SO(3)", "SE(3)", "SE(2)"])
def test_the_log_of_one_element_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    chosen = group(name)
    u = chosen.random((4,), 0)
    alone = chosen.log(u)
    padded = chosen.log(torch.cat([u, chosen.identity((2,))]))
    assert torch.equal(padded[:4], alone)
