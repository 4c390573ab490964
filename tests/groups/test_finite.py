"""Finite groups: closed, of the right order, with the right multiplication and shape."""

from collections import Counter

import pytest
import torch

from lie_sim.groups import Cyclic, Dihedral, FiniteGroup, Icosahedral, Octahedral, Tetrahedral, Trivial, group

ORDERS = [
    *((Cyclic(1), 1), (Cyclic(4), 4), (Cyclic(7), 7), (Dihedral(1), 2), (Dihedral(3), 6), (Dihedral(8), 16)),
    *((Tetrahedral(), 12), (Octahedral(), 24), (Icosahedral(), 60), (Trivial(5), 1)),
]
GROUPS = [chosen for chosen, _ in ORDERS]
EXACT = 1e-14  # a product of two exact matrices in float64


@pytest.mark.parametrize(("chosen", "order"), ORDERS, ids=str)
def test_order_and_distinct_orthogonal_elements(chosen: FiniteGroup, order: int) -> None:
    elements = chosen.elements(dtype=torch.float64)
    assert chosen.order == order
    assert elements.shape == (order, chosen.space_dim, chosen.space_dim)
    eye = torch.eye(chosen.space_dim, dtype=torch.float64)
    assert torch.equal(elements[0], eye)
    assert (elements @ elements.mT - eye).abs().max() <= EXACT
    apart = torch.cdist(elements.flatten(1), elements.flatten(1)) + 10 * torch.eye(order, dtype=torch.float64)
    assert apart.min() > 0.5


@pytest.mark.parametrize("chosen", GROUPS, ids=str)
def test_multiplication_and_inverse_tables_are_those_of_the_matrices(chosen: FiniteGroup) -> None:
    elements = chosen.elements(dtype=torch.float64)
    table, inverse = chosen.multiplication_table(), chosen.inverse_table()
    products = elements[:, None] @ elements[None, :]
    assert (elements[table] - products).abs().max() <= EXACT  # closed
    assert torch.equal(table.sort(dim=1).values, torch.arange(chosen.order).expand_as(table))
    assert torch.equal(
        table[torch.arange(chosen.order), inverse], torch.zeros(chosen.order, dtype=torch.long)
    )
    assert torch.equal(chosen.index_of(elements), torch.arange(chosen.order))


@pytest.mark.parametrize(
    ("chosen", "counts"),
    [
        (Tetrahedral(), {1: 1, 2: 3, 3: 8}),
        (Octahedral(), {1: 1, 2: 9, 3: 8, 4: 6}),
        (Icosahedral(), {1: 1, 2: 15, 3: 20, 5: 24}),
        (Dihedral(4), {1: 1, 2: 5, 4: 2}),
        (Cyclic(6), {1: 1, 2: 1, 3: 2, 6: 2}),
    ],
    ids=str,
)
def test_number_of_elements_of_each_order(chosen: FiniteGroup, counts: dict[int, int]) -> None:
    table = chosen.multiplication_table()
    found = Counter(period(table, element) for element in range(chosen.order))
    assert found == counts


def period(table: torch.Tensor, element: int) -> int:
    """Smallest k with element^k = 1."""
    power, k = element, 1
    while power != 0:
        power, k = int(table[element, power]), k + 1
    return k


@pytest.mark.parametrize("chosen", [Tetrahedral(), Octahedral(), Icosahedral()], ids=str)
def test_solids_contain_rotations_only_and_keep_their_vertices(chosen: FiniteGroup) -> None:
    assert (torch.linalg.det(chosen.elements(dtype=torch.float64)) - 1).abs().max() <= EXACT
    golden = (1 + 5**0.5) / 2
    vertices = {
        "T": torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]),
        "O": torch.cat([torch.eye(3), -torch.eye(3)]),
        "I": torch.tensor(
            [[0, a * golden, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)], dtype=torch.float64
        ),
    }[chosen.name].double()
    if chosen.name == "I":
        vertices = torch.cat([vertices.roll(k, dims=1) for k in range(3)])
    moved = torch.einsum("kij,vj->kvi", chosen.elements(dtype=torch.float64), vertices)
    distance = (moved[:, :, None] - vertices).norm(dim=-1).min(-1).values
    assert distance.max() <= 1e-12


def test_semidirect_pair_feature_is_the_turned_difference_and_the_relative_element() -> None:
    chosen = group("T(2)xD3")
    linear = chosen.linear
    u, v = chosen.random((2, 50), 0, dtype=torch.float64)
    ku, kv = chosen.linear_part(u), chosen.linear_part(v)
    shift = (ku.mT @ (chosen.translation_part(v) - chosen.translation_part(u))[..., None])[..., 0]
    index = linear.multiplication_table()[linear.inverse_table()[linear.index_of(ku)], linear.index_of(kv)]
    matrix = torch.cat([shift, linear.elements(dtype=torch.float64)[index].flatten(-2)], dim=-1)
    one_hot = torch.cat([shift, torch.nn.functional.one_hot(index, 6)], dim=-1)
    assert (chosen.relative_pose(u, v) - matrix).abs().max() <= EXACT
    assert (chosen.relative_pose(u, v, "one_hot") - one_hot).abs().max() <= EXACT
    assert chosen.pose_dim() == 6
    assert chosen.pose_dim("one_hot") == 8


def test_complete_lift_of_a_point_is_permuted_by_the_group() -> None:
    chosen = group("T(2)xC4")
    x = torch.randn(2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stabiliser = chosen.stabiliser_elements(dtype=torch.float64)
    lifts = chosen.compose(chosen.section(x), stabiliser)
    g = chosen.random((), 1, dtype=torch.float64)
    moved = chosen.compose(chosen.section(chosen.act(g, x)), stabiliser)
    distance = torch.cdist((g @ lifts).flatten(1), moved.flatten(1))
    assert (distance.min(-1).values <= 1e-12).all()
    assert len(distance.argmin(-1).unique()) == 4


@pytest.mark.parametrize("name", ["C4", "O", "T(2)xC4", "O(3)", "E(2)"])
def test_groups_that_are_not_connected_have_no_log(name: str) -> None:
    chosen = group(name)
    for call in (lambda u: chosen.log(u), lambda u: chosen.relative_pose(u, u, "log")):
        with pytest.raises(ValueError, match=r"not connected.*use relative_pose"):
            call(chosen.random((), 0))


def test_one_hot_needs_a_finite_group_and_unknown_encodings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SE\(3\) is not finite"):
        group("SE(3)").pose_dim("one_hot")
    with pytest.raises(ValueError, match="encoding must be one of log, matrix, one_hot"):
        group("C4").pose_dim("angle")
    for name in ("SE(2)", "O(3)", "T"):
        with pytest.raises(ValueError, match=r'has no "quaternion" encoding: SO\(3\) and SE\(3\) have'):
            group(name).pose_dim("quaternion")
    with pytest.raises(ValueError, match=r"O\(3\) is not finite"):
        group("E(3)").stabiliser_elements()
