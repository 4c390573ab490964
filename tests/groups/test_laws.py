"""Group laws, action, adjoint, distance, sections and stabilisers of every group."""

import pytest
import torch

from lie_sim.groups import FiniteGroup, LieGroup, group

NAMES = [
    *(
        "T(1)",
        "T(2)",
        "T(3)",
        "SO(2)",
        "SO(3)",
        "O(2)",
        "O(3)",
        "SE(2)",
        "SE(3)",
        "E(2)",
        "E(3)",
        "R>0xSO(2)",
    ),
    *(
        "Trivial(2)",
        "C1",
        "C4",
        "C5",
        "D1",
        "D3",
        "T",
        "O",
        "I",
        "T(2)xC4",
        "T(2)xD3",
        "T(3)xI",
        "T(3)xSO(3)",
    ),
]
CONNECTED = [name for name in NAMES if group(name).connected]
DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}  # products of a few matrices with entries of order 1
COUNT = 200


def draw(chosen: LieGroup, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return chosen.random((COUNT,), seed, dtype=dtype, scale=0.5)


def points(chosen: LieGroup, seed: int = 9, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(COUNT, chosen.space_dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> None:
    assert a.shape == b.shape
    error = (a - b).abs().max().item() if a.numel() else 0.0
    assert error <= tolerance, f"{error:.2e} > {tolerance}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_group_laws(name: str, dtype: torch.dtype) -> None:
    chosen, tolerance = group(name), TOLERANCE[dtype]
    u, v, w = (draw(chosen, seed, dtype) for seed in range(3))
    one = chosen.identity((COUNT,), dtype=dtype)
    assert u.shape == (COUNT, *chosen.element_shape)
    assert u.dtype == dtype
    assert_close(chosen.compose(u, chosen.inverse(u)), one, tolerance)
    assert_close(chosen.compose(chosen.inverse(u), u), one, tolerance)
    assert_close(chosen.compose(u, one), u, 0.0)
    left = chosen.compose(chosen.compose(u, v), w)
    assert_close(left, chosen.compose(u, chosen.compose(v, w)), 10 * tolerance)
    assert_close(chosen.relative(u, v), chosen.compose(chosen.inverse(u), v), 10 * tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_action_is_a_homomorphism_and_bijective(name: str, dtype: torch.dtype) -> None:
    chosen, tolerance = group(name), 10 * TOLERANCE[dtype]
    u, v, x = draw(chosen, 0, dtype), draw(chosen, 1, dtype), points(chosen, dtype=dtype)
    assert_close(chosen.act(chosen.compose(u, v), x), chosen.act(u, chosen.act(v, x)), tolerance)
    assert_close(chosen.act(chosen.inverse(u), chosen.act(u, x)), x, tolerance)


@pytest.mark.parametrize("name", CONNECTED)
def test_adjoint_moves_the_logarithm(name: str) -> None:
    chosen = group(name)
    u, v = draw(chosen, 0), draw(chosen, 1)
    conjugate = chosen.compose(chosen.compose(u, v), chosen.inverse(u))
    moved = (chosen.adjoint(u) @ chosen.log(v)[..., None])[..., 0]
    assert_close(moved, chosen.log(conjugate), 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_adjoint_moves_the_algebra(name: str) -> None:
    chosen = group(name)
    u = draw(chosen, 0)
    algebra = torch.randn(COUNT, chosen.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = chosen.hat((chosen.adjoint(u) @ algebra[..., None])[..., 0])
    assert_close(moved, u @ chosen.hat(algebra) @ chosen.inverse(u), 1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_distance_is_left_invariant_symmetric_and_zero_only_on_the_diagonal(name: str) -> None:
    chosen = group(name)
    g, u, v, w = (draw(chosen, seed) for seed in range(4))
    distance = chosen.distance(u, v, alpha=0.3)
    assert_close(chosen.distance(g @ u, g @ v, alpha=0.3), distance, 1e-6)
    assert_close(chosen.distance(v, u, alpha=0.3), distance, 1e-9)
    assert chosen.distance(u, u).abs().max() <= 1e-7
    assert ((distance > 1e-7) == ((u - v).abs().amax((-1, -2)) > 1e-7)).all()
    assert (chosen.distance(u, w, alpha=0.3) <= distance + chosen.distance(v, w, alpha=0.3) + 1e-9).all()


@pytest.mark.parametrize("name", NAMES)
def test_relative_pose_is_left_invariant_and_declared(name: str) -> None:
    chosen = group(name)
    g, u, v = (draw(chosen, seed) for seed in range(3))
    encodings = (["log"] if chosen.connected else []) + ["matrix"]
    encodings += ["quaternion"] if name in ("SO(3)", "SE(3)") else []
    for encoding in [None, *encodings]:
        pose = chosen.relative_pose(u, v, encoding)
        assert pose.shape == (COUNT, chosen.pose_dim(encoding))
        assert_close(chosen.relative_pose(g @ u, g @ v, encoding), pose, 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_section_leads_from_the_origin_to_the_point(name: str) -> None:
    chosen = group(name)
    x = points(chosen)
    u = chosen.section(x)
    assert_close(chosen.act(u, chosen.origin(x)), x, 1e-12)
    assert_close(chosen.compose(u, chosen.inverse(u)), chosen.identity((COUNT,), dtype=x.dtype), 1e-12)
    assert chosen.is_transitive == (chosen.orbit_dim == 0)


@pytest.mark.parametrize("name", NAMES)
def test_orbit_coordinates_are_invariant_and_tell_orbits_apart(name: str) -> None:
    chosen = group(name)
    x = points(chosen)
    orbit = chosen.orbit_coordinates(x)
    assert orbit.shape == (COUNT, chosen.orbit_dim)
    assert_close(chosen.orbit_coordinates(chosen.act(draw(chosen, 0), x)), orbit, 1e-12)
    assert_close(chosen.origin(chosen.act(draw(chosen, 0), x)), chosen.origin(x), 1e-12)
    if chosen.orbit_dim:
        assert (chosen.orbit_coordinates(1.1 * x) - orbit).norm(dim=-1).min() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_stabiliser_keeps_the_origin(name: str) -> None:
    chosen = group(name)
    origin = chosen.origin(points(chosen))
    kept = chosen.stabiliser_random((COUNT,), 0, dtype=torch.float64)
    assert_close(chosen.act(kept, origin), origin, 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_any_leading_shape_and_an_empty_one(name: str) -> None:
    chosen = group(name)
    for shape in [(), (1,), (2, 1, 3), (0,)]:
        u = chosen.random(shape, 0)
        x = torch.ones(*shape, chosen.space_dim)
        assert chosen.act(u, x).shape == x.shape
        assert chosen.relative_pose(u, u).shape == (*shape, chosen.pose_dim())
        assert chosen.distance(u, u).shape == shape
        assert chosen.adjoint(u).shape == (*shape, chosen.dim, chosen.dim)
        assert chosen.exp(torch.zeros(*shape, chosen.dim)).shape == u.shape
        assert chosen.section(x).shape == u.shape
    pairs = chosen.relative_pose(chosen.random((4, 1), 0), chosen.random((1, 5), 1))
    assert pairs.shape == (4, 5, chosen.pose_dim())


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_immutable_values(name: str) -> None:
    chosen = group(name)
    assert chosen == group(name)
    assert hash(chosen) == hash(group(name))
    field = next(iter(getattr(chosen, "__dataclass_fields__", {})), "name")
    with pytest.raises(AttributeError):
        setattr(chosen, field, None)
    assert chosen.is_finite == isinstance(chosen, FiniteGroup)


def test_translations_keep_their_digits_far_from_the_origin() -> None:
    far = torch.tensor([1e4, -1e4, 2e4])
    chosen = group("SE(3)")
    turn = chosen.stabiliser_random((50,), 0)
    near = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)) + far
    u, v = chosen.compose(chosen.section(far.expand(50, 3)), turn), chosen.section(near)
    shift = chosen.translation_part(chosen.relative(u, v))
    exact = (chosen.linear_part(u).double().mT @ (near.double() - far.double())[..., None])[..., 0]
    assert_close(shift.double(), exact, 2e-6)  # composing inverse(u) and v would lose 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_results_stay_on_the_device_of_the_inputs_and_nothing_waits_for_it(name: str) -> None:
    chosen = group(name)  # the meta device refuses both mixed devices and reading a value back
    u = chosen.random((4,), dtype=torch.float32, device="meta")
    x = torch.ones(4, chosen.space_dim, device="meta")
    results = [
        *(
            chosen.inverse(u),
            chosen.compose(u, u),
            chosen.act(u, x),
            chosen.adjoint(u),
            chosen.distance(u, u),
        ),
        *(chosen.relative_pose(u, u), chosen.section(x), chosen.origin(x), chosen.orbit_coordinates(x)),
        *(
            chosen.exp(torch.ones(4, chosen.dim, device="meta")),
            chosen.hat(torch.ones(4, chosen.dim, device="meta")),
        ),
        *(chosen.stabiliser_random((4,), device="meta"), chosen.identity((4,), device="meta")),
    ]
    if chosen.is_finite:
        results.append(chosen.encode(u, "one_hot"))
    assert {result.device.type for result in results} == {"meta"}
    assert {result.dtype for result in results} == {torch.float32}
