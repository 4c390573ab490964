"""The published N-body data against a plain loop over one system, and their published baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lie_sim.data.charged import benchmark_error, charged_trajectories, linear_motion
from lie_sim.systems.clipped_charges import clipped_motion, published_states

ROUNDING = 1e-9
"""Of a hundred steps; an encounter amplifies rounding."""
PUBLISHED_LINEAR = 0.0819
"""Of 2000 systems; a few close encounters make the mean of 200 uncertain by a fifth."""


def one_system(
    q: np.ndarray, v: np.ndarray, charges: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    q, v = q.copy(), v.copy()
    for _ in range(steps):
        force = np.zeros_like(q)
        for i in range(len(q)):
            for j in range(len(q)):
                if i != j:
                    r = q[i] - q[j]
                    force[i] += charges[i] * charges[j] * r / np.linalg.norm(r) ** 3
        v += 1e-3 * np.clip(force, -100, 100)
        q += 1e-3 * v
    return q, v


def test_a_batch_moves_as_its_systems_one_by_one() -> None:
    q, v, charges = published_states(3, seed=43)
    positions, velocities = clipped_motion(q, v, charges, num_frames=1)
    for k in range(3):
        expected = one_system(q[k].numpy(), v[k].numpy(), charges[k].numpy(), 100)
        for found, number in ((positions, 0), (velocities, 1)):
            assert np.abs(found[k, 0].numpy() - expected[number]).max() < ROUNDING


def test_a_force_is_clipped() -> None:
    q = torch.tensor([[[0.0, 0, 0], [1e-3, 0, 0]]], dtype=torch.float64)
    _, v = clipped_motion(q, torch.zeros_like(q), torch.ones(1, 2, dtype=torch.float64), num_frames=1)
    assert 1 < float(v.abs().max()) < 100 * 1e-3 * 100


def test_the_draws_are_the_published_ones() -> None:
    """Speeds, charges, and the first numbers of the generator in the order of the released code."""
    q, v, charges = published_states(1000, seed=43)
    random = np.random.RandomState(43)
    uniform = random.random_sample(5)
    assert charges[0].tolist() == np.where(uniform < 0.5, -1.0, 1.0).tolist()
    assert np.array_equal(q[0].numpy(), random.randn(3, 5).T)
    torch.testing.assert_close(v.norm(dim=-1), torch.full((1000, 5), 0.5, dtype=torch.float64))
    assert abs(float(charges.mean())) < 0.05
    assert abs(float(q.std()) - 1) < 0.02


def test_linear_motion_has_the_published_error() -> None:
    data = charged_trajectories("test", count=200, num_frames=41)
    found = benchmark_error(data, linear_motion(data))
    assert found == pytest.approx(PUBLISHED_LINEAR, rel=0.2)
    assert data.times[30] == pytest.approx(3.1)
    assert not torch.equal(charged_trajectories("train", count=2, num_frames=1).q, data.q[:2, :1])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "dev"}, "unknown split 'dev'; choose one of train, validation, test"),
        ({"split": "test", "count": 2001}, "count of test must be from 1 to 2000, got 2001"),
        ({"split": "test", "num_frames": 50}, "num_frames of test must be from 1 to 49, got 50"),
    ],
)
def test_what_is_not_there_is_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        charged_trajectories(**options)


def test_trajectories_and_predictions_that_do_not_fit_are_refused() -> None:
    short, long = (charged_trajectories("test", count=2, num_frames=n) for n in (20, 41))
    for use in (linear_motion, lambda data: benchmark_error(data, data.q[:, 0])):
        with pytest.raises(ValueError, match="have 20 frames: make them with num_frames=41 or more"):
            use(short)
    with pytest.raises(ValueError, match=r"predicted must have the shape \(2, 5, 3\), got \(5, 3\)"):
        benchmark_error(long, long.q[0, 40])
