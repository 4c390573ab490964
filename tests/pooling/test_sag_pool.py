"""SAGPool on particles: the coarse set turns with the system, whatever the lifting, the order and the padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from lie_sim.attention import AttentionConfig, LieSelfAttention
from lie_sim.groups import random_transform
from lie_sim.lifting import compress
from lie_sim.models import LieTransformer
from lie_sim.neighbors import NeighbourMatrix, neighbour_matrix
from lie_sim.pooling import POOL_MODES, Pooled, SAGPool
from lie_sim.state import Particles

EXACT = 1e-10
"""Of features of order 1 after two layers, float64."""
SMALL = {"width": 8, "num_heads": 2, "num_layers": 1, "kernel_hidden": 8, "use_masses": True}
LIFTINGS: dict[str, dict[str, Any]] = {
    "frame": {"dim": 3},
    "frame, cutoff": {"dim": 3, "cutoff": 2.5},
    "chirality": {"dim": 2, "chirality": True},
    "finite": {"dim": 2, "lifting": "finite", "group": "C4"},
    "haar": {"dim": 2, "lifting": "haar", "group": "SE(2)", "num_lifts": 2},
}


def system(dim: int, count: int = 7) -> tuple[Tensor, Particles]:
    q = torch.randn(2, count, dim, dtype=torch.float64)
    return q, Particles(masses=1 + torch.rand(2, count, dtype=torch.float64))


class Coarse(torch.nn.Module):
    """A backbone, a pool, and attention on what is left."""

    def __init__(self, mode: str, **options: Any) -> None:
        super().__init__()
        model = LieTransformer.default(**SMALL, **options)
        self.backbone = model.backbone
        self.pool = SAGPool(8, mode=mode, temperature=0.5)
        config = AttentionConfig(width=8, num_heads=2, kernel_hidden=8)
        self.deeper = LieSelfAttention(config, self.backbone.lifting.location_dim)
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += 0.3 * torch.randn_like(parameter)

    def pooled(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Pooled:
        features = self.backbone.features(q, particles, neighbours)
        found: Pooled = self.pool(features.points, features.pairs, particles.mask)
        deeper = self.deeper(found.f, found.pairs, compress(found.pairs.location))
        return replace(found, f=found.f + deeper)

    def forward(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Tensor:
        return self.pooled(q, particles, neighbours).sum()


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max() / other.detach().abs().max())


@pytest.mark.parametrize("mode", POOL_MODES)
@pytest.mark.parametrize("lifting", LIFTINGS)
def test_attention_on_what_is_left_is_invariant(mode: str, lifting: str) -> None:
    options = LIFTINGS[lifting]
    model, (q, particles) = Coarse(mode, **options), system(options["dim"])
    symmetry = options.get("group", "SE(2)" if options["dim"] == 2 else "SE(3)")
    if lifting == "haar":  # exact for translations; for rotations on average
        symmetry = "T(2)"
    before = model(q, particles)
    for seed in range(3):
        assert error(model(random_transform(symmetry, q, seed), particles), before) < EXACT
    stretched = q * torch.tensor([1.0, 1.5, 1.0], dtype=q.dtype)[: q.shape[-1]]
    assert error(model(stretched, particles), before) > 1e-4


@pytest.mark.parametrize("mode", POOL_MODES)
@pytest.mark.parametrize("listed", [False, True])
def test_neither_order_nor_padding_matters(mode: str, listed: bool) -> None:
    model, (q, particles) = Coarse(mode, dim=3, cutoff=2.5), system(3)

    def found(q: Tensor, particles: Particles) -> Tensor:
        return model(q, particles, neighbour_matrix(q, particles, cutoff=2.5) if listed else None)

    before, order = found(q, particles), torch.randperm(7)
    assert error(found(q[:, order], Particles(particles.masses[:, order])), before) < EXACT
    padded = torch.cat([q, torch.randn(2, 2, 3, dtype=q.dtype)], 1)
    masses = torch.cat([particles.masses, torch.ones(2, 2, dtype=q.dtype)], 1)
    mask = torch.arange(9).expand(2, 9) < 7
    assert error(found(padded, Particles(masses, mask=mask)), before) < EXACT


def test_all_pairs_and_a_list_of_them_are_pooled_alike() -> None:
    model, (q, particles) = Coarse("hard", dim=3, cutoff=2.5), system(3)
    listed = model(q, particles, neighbour_matrix(q, particles, cutoff=2.5))
    assert error(model(q, particles), listed) < EXACT


def test_the_hard_pool_keeps_the_highest_with_their_elements() -> None:
    model, (q, particles) = Coarse("hard", dim=3), system(3)
    features = model.backbone.features(q, particles)
    found = model.pool(features.points, features.pairs)
    scores = model.pool.score(features.points, features.pairs)
    assert torch.equal(found.index.sort().values, scores.topk(4).indices.sort().values)
    first, second = found.index[0, 0], found.index[0, 1]
    assert torch.equal(found.pairs.location[0, 0, 1], features.pairs.location[0, first, second])
    kept = features.points[0, first] * torch.tanh(scores[0, first])
    torch.testing.assert_close(found.f[0, 0], kept, rtol=1e-12, atol=1e-12)


def test_weights_of_the_soft_pool_sum_to_k_and_reach_the_pairs() -> None:
    model, (q, particles) = Coarse("soft", dim=3), system(3)
    features = model.backbone.features(q, particles)
    found = model.pool(features.points, features.pairs)
    torch.testing.assert_close(found.weights.sum(1), torch.full((2,), 3.5).double(), rtol=1e-12, atol=0)
    expected = features.pairs.envelope * found.weights[:, None]
    torch.testing.assert_close(found.pairs.envelope, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", ["soft", "gate"])
def test_forces_and_their_derivatives(mode: str) -> None:
    model = Coarse(mode, dim=2)
    q, particles = system(2, count=3)
    q = q[:1].requires_grad_()
    assert gradcheck(lambda q: model(q, particles[:1]).sum(), q)
    assert gradgradcheck(lambda q: model(q, particles[:1]).sum(), q)


def test_particles_that_all_see_each_other_have_different_scores() -> None:
    model, (q, particles) = Coarse("hard", dim=3), system(3)
    features = model.backbone.features(q, particles)
    assert (features.pairs.envelope == 1 - torch.eye(7)).all()
    assert model.pool.score(features.points, features.pairs).std(1).min() > 1e-3


def test_unknown_modes_and_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one of hard, soft, gate"):
        SAGPool(8, mode="sag")
    with pytest.raises(ValueError, match="ratio must be above 0"):
        SAGPool(8, ratio=0.0)


@pytest.mark.parametrize("mode", ["hard", "soft", "gate"])
def test_landmarks_share_out_what_is_left(mode: str) -> None:
    torch.manual_seed(0)
    options = {"attention": "induced", "cutoff": 2.5, "num_landmarks": 3}
    model = LieTransformer.default(dim=3, **SMALL, **options).double()
    q, particles = system(3)
    features = model.backbone.features(q, particles)
    assert features.pairs.landmarks is not None
    found = SAGPool(8, mode=mode).double()(features.points, features.pairs)
    left = found.pairs.landmarks
    assert left is not None
    changed = model.backbone.blocks[0].induced(found.f, left)
    assert changed.shape == found.f.shape
    index = found.index[..., None].expand(-1, -1, 3)
    expected = features.pairs.landmarks.shares.gather(1, index) * found.weights[..., None]
    assert torch.equal(left.shares, expected)
