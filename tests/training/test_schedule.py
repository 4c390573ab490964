"""Learning rate, averaging and batches against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lie_sim.training import TrainingConfig
from lie_sim.training.schedule import Sampler, ema_decay, learning_rate

ROUNDING = 1e-12  # relative; a handful of float64 operations


def test_learning_rate_values() -> None:
    config = TrainingConfig(learning_rate=0.01, warmup_steps=4, min_learning_rate_ratio=0.1)
    by_hand = {(0, 0.0): 0.0025, (3, 0.0): 0.01, (50, 0.5): 0.0055, (99, 1.0): 0.001, (120, 1.7): 0.001}
    for (step, fraction), expected in by_hand.items():
        assert learning_rate(config, step, fraction) == pytest.approx(expected, rel=ROUNDING)
    third = 0.01 * (0.1 + 0.9 * (1 + math.cos(math.pi / 3)) / 2)
    assert learning_rate(config, 10, 1 / 3) == pytest.approx(third, rel=ROUNDING)


def test_ema_ramp() -> None:
    config = TrainingConfig(ema_decay=0.9)
    assert [ema_decay(config, n) for n in (1, 8, 79, 80, 500)] == pytest.approx(
        [2 / 11, 0.5, 80 / 89, 0.9, 0.9]
    )
    assert ema_decay(TrainingConfig(ema_decay=0.0), 100) == 0.0


def test_every_epoch_is_another_permutation() -> None:
    sampler = Sampler(12, 4, seed=3)
    epochs = [torch.cat([sampler.indices(3 * epoch + k) for k in range(3)]).tolist() for epoch in range(4)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_do_not_depend_on_the_way_there() -> None:
    forward, backward = Sampler(10, 3, seed=1), Sampler(10, 3, seed=1)
    expected = [forward.indices(step) for step in range(12)]
    assert all(torch.equal(backward.indices(step), expected[step]) for step in reversed(range(12)))
    assert not torch.equal(Sampler(10, 3, seed=2).indices(0), expected[0])


def test_small_and_empty_sets() -> None:
    assert sorted(Sampler(3, 100, seed=0).indices(5).tolist()) == [0, 1, 2]
    with pytest.raises(ValueError, match="empty"):
        Sampler(0, 1, seed=0)


def test_similar_sizes_share_a_batch() -> None:
    sizes = torch.randint(3, 30, (1000,), generator=torch.Generator().manual_seed(0))
    sampler, plain = Sampler(1000, 8, seed=1, sizes=sizes), Sampler(1000, 8, seed=1)
    steps = range(sampler.batches_per_epoch)
    epoch = torch.cat([sampler.indices(step) for step in steps])
    assert sorted(epoch.tolist()) == list(range(1000))  # an epoch is still a permutation

    def padded(which: Sampler) -> int:
        return sum(8 * int(sizes[which.indices(step)].max()) for step in steps)

    assert padded(sampler) < 1.1 * int(sizes.sum())  # measured 1.04; 1.62 without
    assert padded(plain) > 1.4 * int(sizes.sum())
    firsts = [int(sizes[sampler.indices(step)].max()) for step in steps]
    assert firsts[:16] != sorted(firsts[:16])  # small molecules do not always come first
    assert not torch.equal(sampler.indices(0), sampler.indices(sampler.batches_per_epoch))
