"""Names of groups, and the transformation of whole systems."""

import pytest
import torch

from lie_sim.groups import (
    SE2,
    SE3,
    Cyclic,
    Dihedral,
    Orthogonal,
    SemidirectTranslation,
    Translation,
    Trivial,
    group,
    random_transform,
)

NAMES = [
    *(
        "T(2)",
        "T(3)",
        "SO(2)",
        "SO(3)",
        "O(2)",
        "O(3)",
        "SE(2)",
        "SE(3)",
        "R>0xSO(2)",
        "C4",
        "D3",
        "T",
        "O",
        "I",
    ),
    *("Trivial(4)", "T(2)xC4", "T(2)xD5", "T(3)xT", "T(3)xO", "T(3)xI", "T(3)xO(3)", "T(2)xSO(2)"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_group_has_the_name_it_was_asked_for(name: str) -> None:
    assert group(name).name == name
    assert str(group(name)) == name


def test_names_mean_the_classes() -> None:
    assert group("SE(2)") == SE2()
    assert group("SE(3)") == SE3()
    assert group("T(7)") == Translation(7)
    assert group("E(3)") == SemidirectTranslation(Orthogonal(3))
    assert group("T(2) ⋊ C4") == group("T(2)×C4") == SemidirectTranslation(Cyclic(4))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SE(4)", "not understood"),
        ("so3", "names are T"),
        ("C0", "n >= 1"),
        ("T(0)", "n >= 1"),
        ("T(3)xC4", "C4 acts in 2 dimensions, not in 3"),
        ("T(2)xR>0xSO(2)", "cannot be combined"),
        ("T(2)xSE(2)", "cannot be combined"),
        ("T(2)x", "not understood"),
    ],
)
def test_unknown_names_are_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        group(name)


def test_impossible_groups_are_refused() -> None:
    for make in (lambda: Orthogonal(4), lambda: Dihedral(0), lambda: Trivial(0), lambda: Translation(0)):
        with pytest.raises(ValueError, match="n = "):
            make()
    with pytest.raises(TypeError):
        SemidirectTranslation(SE2())  # type: ignore[arg-type]


def test_wrong_sizes_are_refused_with_the_expected_shape() -> None:
    with pytest.raises(ValueError, match=r"SO\(3\) expects points of shape \(…, 3\); got \(5, 2\)"):
        group("SO(3)").act(torch.eye(3), torch.zeros(5, 2))
    with pytest.raises(
        ValueError, match=r"SE\(2\) expects algebra coordinates of shape \(…, 3\); got \(6,\)"
    ):
        group("SE(2)").exp(torch.zeros(6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["T(3)", "SO(3)", "SE(3)", "O(3)", "E(3)", "T(3)xI"])
def test_random_transform_keeps_distances_and_moves_each_system_differently(
    name: str, dtype: torch.dtype
) -> None:
    q = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0), dtype=dtype).expand(4, 6, 3)
    q = q[:1].expand(4, 6, 3)
    moved = random_transform(name, q, 1)
    assert moved.dtype == dtype
    mode = "donot_use_mm_for_euclid_dist"
    change = torch.cdist(moved, moved, compute_mode=mode) - torch.cdist(q, q, compute_mode=mode)
    assert change.abs().max() <= (1e-5 if dtype == torch.float32 else 1e-13)
    assert (moved[0] - moved[1]).abs().max() > 0.1
    assert torch.equal(moved, random_transform(group(name), q, 1))


def test_random_transform_contains_reflections_only_where_the_group_does() -> None:
    q = torch.eye(3, dtype=torch.float64).expand(64, 3, 3)
    handedness = torch.linalg.det(random_transform("O(3)", q, 0))
    assert handedness.min() < -0.99
    assert handedness.max() > 0.99
    assert torch.linalg.det(random_transform("SO(3)", q, 0)).min() > 0.99


def test_random_transform_refuses_another_dimension() -> None:
    with pytest.raises(ValueError, match=r"expects points of shape \(…, 3\)"):
        random_transform("SO(3)", torch.zeros(2, 5, 2), 0)
