"""The charged N-body benchmark: from positions and velocities at one frame to the positions ten frames later.

    error = mean over systems, particles and coordinates of (q_predicted − q)² at frame 40, from frame 30

Published, of the position: linear motion 0.0819, SE(3)-Transformer 0.0244, EGNN 0.0071 (Satorras et al., 2021).

Reference: Satorras, Hoogeboom, Welling, ICML 2021, arXiv:2102.09844.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.data.trajectories import Trajectories
from lie_sim.state import Particles
from lie_sim.systems.clipped_charges import FRAMES, STEP, STEPS_PER_FRAME, clipped_motion, published_states

CHARGED_SPLITS = {"train": (0, 3000), "validation": (10_000, 2000), "test": (12_000, 2000)}
"""Number of the first system of each part, and how many there are."""
FIRST_FRAME, LAST_FRAME = 30, 40
_SEED = 43


def charged_trajectories(split: str, *, count: int | None = None, num_frames: int = FRAMES) -> Trajectories:
    """A part of the published data, made again: all of it takes minutes.

    Args:
        split: "train", "validation" or "test".
        count: so many systems, the first ones; None for all.
        num_frames: T, at most all 49.

    Returns:
        Charges are ``particles.attributes``, masses 1; momenta, which equal velocities, belong half a step before.

    Raises:
        ValueError: there is no such part, or not so many systems or frames.

    Example:
        >>> charged_trajectories("train", count=2, num_frames=3).q.shape
        torch.Size([2, 3, 5, 3])
    """
    if split not in CHARGED_SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(CHARGED_SPLITS)}")
    first, size = CHARGED_SPLITS[split]
    count = size if count is None else count
    for name, value, largest in (("count", count, size), ("num_frames", num_frames, FRAMES)):
        if not 1 <= value <= largest:
            raise ValueError(f"{name} of {split} must be from 1 to {largest}, got {value}")
    q, v, charges = published_states(count, seed=_SEED, first=first)
    positions, velocities = clipped_motion(q, v, charges, num_frames=num_frames)
    return Trajectories(
        positions,
        velocities,
        STEP * STEPS_PER_FRAME * torch.arange(1, num_frames + 1, dtype=torch.float64),
        Particles(masses=torch.ones_like(charges), attributes=charges[..., None]),
        {"system": "clipped charges", "split": split, "seed": _SEED},
    )


def benchmark_error(trajectories: Trajectories, predicted: Float[Tensor, "S N 3"]) -> float:
    """The error of positions at frame 40.

    Raises:
        ValueError: trajectories end before, or predictions have another shape.

    Example:
        >>> some = charged_trajectories("train", count=2, num_frames=41)
        >>> benchmark_error(some, some.q[:, 40])
        0.0
    """
    _require_frames(trajectories)
    true = trajectories.q[:, LAST_FRAME]
    if predicted.shape != true.shape:
        raise ValueError(f"predicted must have the shape {tuple(true.shape)}, got {tuple(predicted.shape)}")
    return float((predicted - true).square().mean())


def _require_frames(trajectories: Trajectories) -> None:
    if trajectories.q.shape[1] <= LAST_FRAME:
        raise ValueError(
            f"the task is from frame {FIRST_FRAME} to {LAST_FRAME}, the trajectories have {trajectories.q.shape[1]} "
            f"frames: make them with num_frames={LAST_FRAME + 1} or more"
        )


def linear_motion(trajectories: Trajectories) -> Float[Tensor, "S N 3"]:
    """The published baseline, q + τ v at frame 30, with the τ that fits these trajectories best; shape (S, N, 3).

    The ten frames last 1.0, but particles turn away from their path: τ is about 0.75.

    Example:
        >>> linear_motion(charged_trajectories("train", count=2, num_frames=41)).shape
        torch.Size([2, 5, 3])
    """
    _require_frames(trajectories)
    q, v = trajectories.q[:, FIRST_FRAME], trajectories.p[:, FIRST_FRAME]
    moved = trajectories.q[:, LAST_FRAME] - q
    return q + (v * moved).sum() / v.square().sum() * v
