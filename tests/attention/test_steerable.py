"""Products by path against e3nn's, the equivariance of attention, and its smooth edge."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from lie_sim.attention.steerable import SteerableAttention, SteerableProduct
from lie_sim.lifting import HarmonicLift, representations
from lie_sim.lifting.irreps import dimension
from lie_sim.state import Particles

o3 = pytest.importorskip("e3nn.o3")
ROUND_OFF = 1e-12
"""Of the largest entry, after sums of at most a hundred products."""
WIDTH, COUNT = 4, 5


@pytest.fixture(scope="module", autouse=True)
def _double() -> Iterator[None]:
    """Matrices of representations are as exact as the default dtype of the moment (e3nn 0.6)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def random_features(names, *, count: int = COUNT):
    return {name: torch.randn(1, count, dimension(name), WIDTH, dtype=torch.float64) for name in names}


def geometry(q):
    lift = HarmonicLift(3, lmax=2, cutoff=4.0).double()
    return lift(q, Particles(masses=torch.ones(q.shape[:2], dtype=q.dtype)), None, q[..., :1])


def relative(one, other) -> float:
    return float(((one - other).abs().max() / other.abs().max()).detach())


@pytest.mark.parametrize(("kernel", "connection"), [("depthwise", "uvu"), ("dense", "uvw")])
@pytest.mark.parametrize("parity", ["natural", "both", "none"])
def test_products_are_those_of_e3nn(parity, kernel, connection):
    names = representations(2, parity)
    harmonics = representations(2, "none" if parity == "none" else "natural")
    product = SteerableProduct(names, harmonics, names, width=WIDTH, kernel=kernel).double()
    f, pairs = random_features(names), geometry(torch.randn(1, COUNT, 3, dtype=torch.float64))
    weights = torch.randn(1, COUNT, COUNT, product.num_weights, dtype=torch.float64)
    found = product(f, pairs, weights)[0]
    paths = [
        (a, s, c)
        for a, source in enumerate(names)
        for s, harmonic in enumerate(harmonics)
        for c in map(str, o3.Irrep(source) * o3.Irrep(harmonic))
        if c in names
    ]
    assert [c for _, _, c in paths] == product.targets
    theirs = o3.TensorProduct(
        o3.Irreps([(WIDTH, name) for name in names]),
        o3.Irreps([(1, name) for name in harmonics]),
        o3.Irreps([(WIDTH, c) for _, _, c in paths]),
        [(a, s, path, connection, True) for path, (a, s, _) in enumerate(paths)],
        irrep_normalization="none",
        path_normalization="none",
        internal_weights=False,
        shared_weights=False,
    ).double()
    flat = torch.cat([f[name][0].mT.flatten(-2) for name in names], -1)
    flat = flat.expand(COUNT, -1, -1)  # row i, source j
    expected = theirs(flat, pairs.directions[0], weights[0])
    start, row = 0, 0
    for _, _, c in paths:
        size = dimension(c)
        block = expected[..., start : start + WIDTH * size].unflatten(-1, (WIDTH, size)).mT * size**0.5
        assert relative(found[..., row : row + size, :], block) < 1e-6, c
        start, row = start + WIDTH * size, row + size


@pytest.mark.parametrize("parity", ["natural", "both", "none"])
@pytest.mark.parametrize("kernel", ["depthwise", "dense"])
def test_the_change_turns_with_the_features(parity, kernel):
    names = representations(2, parity)
    attention = SteerableAttention(
        inputs=names,
        harmonics=representations(2, "none" if parity == "none" else "natural"),
        outputs=names,
        width=WIDTH,
        num_heads=2,
        location_dim=16,
        hidden=8,
        kernel=kernel,
    ).double()
    turn = o3.rand_matrix(dtype=torch.float64) * (1 if parity == "none" else -1)
    f, q = random_features(names), torch.randn(1, COUNT, 3, dtype=torch.float64)
    turned = {name: o3.Irrep(name).D_from_matrix(turn) @ x for name, x in f.items()}
    change, after = attention(f, geometry(q)), attention(turned, geometry(q @ turn.T))
    for name in names:
        expected = o3.Irrep(name).D_from_matrix(turn) @ change[name]
        assert relative(after[name], expected) < ROUND_OFF, name


def test_what_no_path_leads_to_is_not_made():
    attention = SteerableAttention(
        inputs=["0e"],
        harmonics=["0e", "1o"],
        outputs=["0e", "0o", "1o", "1e"],
        width=WIDTH,
        num_heads=2,
        location_dim=3,
        hidden=8,
    )
    assert sorted(attention.value) == ["0e", "1o"]


def test_the_last_neighbour_leaves_smoothly():
    """The change falls as the envelope does, (4 − r)³ near the cutoff 4, and is 0 beyond."""
    names = representations(1, "natural")
    attention = SteerableAttention(
        inputs=names, harmonics=names, outputs=names, width=WIDTH, num_heads=2, location_dim=16, hidden=8
    ).double()
    lift, f = HarmonicLift(3, lmax=1, cutoff=4.0).double(), random_features(names, count=2)
    sizes = []
    for distance in (3.8, 3.9, 4.0, 5.0):
        q = torch.tensor([[[0.0, 0, 0], [distance, 0, 0]]], dtype=torch.float64)
        pairs = lift(q, Particles(masses=torch.ones(1, 2, dtype=torch.float64)), None, q[..., :1])
        sizes.append(float(attention(f, pairs)["1o"].detach().norm()))
    assert 6 < sizes[0] / sizes[1] < 10
    assert sizes[2:] == [0.0, 0.0]


def test_no_neighbour_outweighs_another_without_bound():
    """However large the features, e¹² times at most."""
    names = representations(1, "natural")
    attention = SteerableAttention(
        inputs=names,
        harmonics=["0e", "1o"],
        outputs=names,
        width=WIDTH,
        num_heads=2,
        location_dim=16,
        hidden=8,
    ).double()
    f = {name: 1e3 * x for name, x in random_features(names).items()}
    lift = HarmonicLift(3, lmax=1, cutoff=9.0).double()
    q = torch.randn(1, COUNT, 3, dtype=torch.float64)
    pairs = lift(q, Particles(masses=torch.ones(1, COUNT, dtype=torch.float64)), None, q[..., :1])
    weights = attention._weights(f["0e"].squeeze(-2), pairs)
    alpha = attention._attention(f, attention.product(f, pairs, weights), pairs)[0].detach()
    others = ~torch.eye(COUNT, dtype=torch.bool)
    each = (alpha / pairs.envelope[0, ..., None])[others].unflatten(0, (COUNT, -1))
    ratios = each.amax(1) / each.amin(1)
    assert 100 < float(ratios.max()) < math.exp(12) * 1.001
