"""Shape counting: the labels describe the points, and the distribution is the reference's."""

import math
from pathlib import Path

import pytest
import torch

from lie_sim.data import ConstellationConfig, Constellations, constellation_splits, make_constellations
from lie_sim.data.constellations import SHAPES
from lie_sim.errors import DataError

CORNERS = torch.tensor([4, 3, 5, 5])
FLOAT32 = 3e-6
CLEAN = ConstellationConfig(corner_noise=0.0)


@pytest.fixture(scope="module")
def data() -> Constellations:
    return make_constellations(4000, seed=0)


def test_counts_agree_with_the_corners_present(data: Constellations) -> None:
    assert torch.equal((data.counts * CORNERS).sum(1), data.presence.sum(1))
    assert data.counts.min() == 0
    assert data.counts.max() == 2


def test_counts_are_binomial_and_never_all_zero(data: Constellations) -> None:
    for k in range(len(SHAPES)):
        share = torch.bincount(data.counts[:, k], minlength=3) / len(data)
        assert share.tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.03)  # 3 sampling errors
    assert bool(data.presence.any(1).all())
    nothing = make_constellations(500, seed=0, config=ConstellationConfig(drop_probability=1.0))
    assert bool((nothing.counts.sum(1) == 1).all())
    assert nothing.counts.float().mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.08)


def test_normalisation_spans_both_axes_and_absent_corners(data: Constellations) -> None:
    low, high = data.positions.amin((1, 2)), data.positions.amax((1, 2))
    assert (low + 1).abs().max() < FLOAT32
    assert (high - 1).abs().max() < FLOAT32
    present = data.positions.masked_fill(~data.presence[..., None], 0.0)
    assert (present.amax((1, 2)) < 0.999).float().mean() > 0.2  # else only the present ones were used


def test_distribution_matches_the_reference(data: Constellations) -> None:
    """Moments and quantiles of 4000 examples of the reference's own generator."""
    x = data.positions.flatten()
    assert x.mean().item() == pytest.approx(-0.167, abs=0.01)
    assert x.std().item() == pytest.approx(0.631, abs=0.01)
    quantiles = torch.quantile(x[::5], torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist()
    assert quantiles == pytest.approx([-0.962, -0.710, -0.346, 0.375, 0.953], abs=0.02)
    distance = torch.cdist(data.positions, data.positions)
    absent = ~data.presence[:, None, :] | torch.eye(34, dtype=torch.bool)
    nearest = distance.masked_fill(absent, torch.inf).amin(-1)[data.presence]
    nearest = nearest[nearest.isfinite()]
    middle = torch.quantile(nearest[::5], torch.tensor([0.05, 0.5, 0.95])).tolist()
    assert middle == pytest.approx([0.0243, 0.0356, 0.0544], abs=0.001)


def test_shapes_are_congruent_to_their_templates() -> None:
    """Without noise, the sorted distances within a lone shape are those of the template, up to one scale."""
    data = make_constellations(
        300, seed=1, config=ConstellationConfig(corner_noise=0.0, drop_probability=1.0)
    )
    seen = set()
    for example in range(len(data)):
        shape = int(data.counts[example].argmax())
        corners = data.positions[example][data.presence[example]]
        found = torch.pdist(corners).sort().values
        expected = torch.pdist(template(SHAPES[shape])).sort().values
        assert torch.allclose(found / found.mean(), expected / expected.mean(), atol=1e-4)
        seen.add(shape)
    assert seen == {0, 1, 2, 3}


def template(name: str) -> torch.Tensor:
    if name == "L":
        return torch.tensor([[1.0, 1], [2, 1], [3, 1], [3, 2], [3, 3]])
    n = {"triangle": 3, "square": 4, "pentagon": 5}[name]
    angle = 2 * math.pi * torch.arange(n) / n
    return torch.stack([torch.cos(angle), torch.sin(angle)], -1)


def test_corners_are_shuffled_with_their_presence(data: Constellations) -> None:
    assert data.presence.float().mean(0).std() < 0.02  # no position in the list is special
    assert make_constellations(50, seed=0, config=CLEAN).presence.float().mean(0).max() < 1


def test_distance_features_are_sorted_masked_and_invariant(data: Constellations) -> None:
    part = data[:20]
    features = part.features("distances")
    assert features.shape == (20, 34, 33)
    assert bool((features.diff(dim=-1) <= 0).all())
    count = part.presence.sum(1)
    assert bool(((features > 0).sum(-1) <= count[:, None]).all())
    first = part.positions[0]
    by_hand = sorted(((first - first[0]).norm(dim=-1) * part.presence[0]).tolist(), reverse=True)[:33]
    assert features[0, 0].tolist() == pytest.approx(by_hand, abs=1e-5)
    moved = part.transformed(torch.linspace(0, 6, 20), torch.ones(20, 2))
    assert (moved.features("distances") - features).abs().max() < FLOAT32
    assert torch.equal(part.features("constant"), torch.ones(20, 34, 1))
    with pytest.raises(ValueError, match='"constant" or "distances"'):
        part.features("moments")


def test_transformed_turns_about_the_origin_then_shifts(data: Constellations) -> None:
    part = data[:1]
    moved = part.transformed(torch.tensor([math.pi / 2]), torch.tensor([[10.0, 0.0]]))
    x, y = part.positions[0].unbind(-1)
    assert torch.allclose(moved.positions[0], torch.stack([10 - y, x], -1), atol=1e-5)
    assert torch.equal(moved.counts, part.counts)


def test_splits_are_independent_and_tests_are_moved_copies() -> None:
    splits = constellation_splits(30, 20, 25, seed=3)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 30, "val": 20, "test": 25, "test_t2": 25, "test_se2": 25,
    }  # fmt: skip
    together = torch.cat([splits[name].positions for name in ("train", "val", "test")]).flatten(1)
    assert len(together.unique(dim=0)) == 75  # the reference's test set is its training set's beginning
    shift = splits["test_t2"].positions - splits["test"].positions
    assert (shift - shift[:, :1]).abs().max() < 1e-5
    assert shift.std() > 1
    original, turned = (torch.cdist(splits[k].positions, splits[k].positions) for k in ("test", "test_se2"))
    assert (original - turned).abs().max() < 1e-2  # float32 cdist of shifted points
    spread = splits["test_se2"].positions - splits["test_t2"].positions
    assert (spread - spread[:, :1]).abs().max() > 0.5  # really turned
    again = constellation_splits(30, 20, 25, seed=3)
    assert all(again[name].digest() == splits[name].digest() for name in splits)


def test_particles_carry_features_and_presence(data: Constellations) -> None:
    particles = data[:3].particles("distances")
    assert particles.attributes is not None
    assert particles.attributes.shape == (3, 34, 33)
    assert torch.equal(particles.mask, data.presence[:3])


def test_file_round_trip(data: Constellations, tmp_path: Path) -> None:
    digest = data[:5].save(tmp_path / "c")
    loaded = Constellations.load(tmp_path / "c")
    assert loaded.digest() == digest
    assert loaded.metadata["seed"] == 0
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-3])
    with pytest.raises(DataError):
        Constellations.load(tmp_path / "c")


def test_wrong_settings_are_explained() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        ConstellationConfig(repeats=0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        ConstellationConfig(drop_probability=1.5)
    assert make_constellations(2, seed=0, config=ConstellationConfig(repeats=3)).counts.max() <= 3
