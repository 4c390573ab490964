"""Random numbers that are a function of their name: of seed, trajectory, step and particle, and of nothing else.

    words = Philox4x32-10(counter, key),    key = seed,    counter = (step, trajectory, pair of numbers, stream)
    z_1, z_2 = √(−2 ln u) (cos 2πv, sin 2πv),    u ∈ (0, 1], v ∈ [0, 1) of 53 bits each (Box, Muller 1958)

There is no state: a run can be stopped, continued, cut into batches, padded or given to any number of workers, and
every trajectory still meets the same noise, to the bit. One round of Philox is two products of 32-bit words,
split into high and low halves; in int64 arithmetic, which wraps, both halves are exact.

Shape letters: B batch, N particles, d space dimension.
Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11,
doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
"""Constants of Philox4x32: the multipliers of Salmon et al., the golden ratio and √3 − 1 in 32 bits."""
ROUNDS = 10
MASK = 0xFFFFFFFF
MAX_TRAJECTORY = 2**32 - 1
MAX_STREAM = 2**16 - 1
BLOCK_SIZE = 2**14
"""So many numbers are made at once where a run needs them anyway; below, a call costs the same for fewer."""


def philox(counter: Int[Tensor, "*shape 4"], key: Int[Tensor, "*#shape 2"]) -> Int[Tensor, "*shape 4"]:
    """Philox4x32-10: a bijection of 128-bit counters for every 64-bit key, statistically random.

    Args:
        counter: four 32-bit words, int64, shape (…, 4).
        key: two 32-bit words, int64, shape (…, 2), broadcast against the counter.

    Returns:
        Four 32-bit words, int64, shape (…, 4).

    Example:
        >>> words = philox(torch.zeros(4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
        >>> " ".join(f"{word:08x}" for word in words.tolist())
        '6627e8d5 e169c58d bc57ac4c 9b00dbd8'
    """
    words = _rounds(*(counter & MASK).unbind(-1), *(key & MASK).unbind(-1))
    return torch.stack(torch.broadcast_tensors(*words), -1)


def normal_noise(
    *,
    seed: int,
    trajectory: Int[Tensor, " B"],
    step: int | Int[Tensor, " B"],
    num_particles: int,
    dim: int,
    stream: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Float[Tensor, "B N d"]:
    """Independent standard normal numbers, one for every particle and direction.

    The number for particle i and direction k depends on (seed, trajectory, step, stream, i·d + k) only.

    Args:
        seed: 0 to 2⁶⁴ − 1.
        trajectory: the name of every system of the batch, 0 to 2³² − 1, int64, shape (B,); not checked here.
        step: number of the step, 0 to 2⁴⁸ − 1, one for all or int64 of shape (B,).
        num_particles: N, padding included.
        dim: d.
        stream: which of several independent sets of numbers of one step, 0 to 65535.
        dtype: of the result; the numbers are made in float64 and rounded.
        device: of the result; that of ``trajectory``, if None.

    Returns:
        Noise of mean 0 and variance 1, shape (B, N, d).

    Raises:
        ValueError: seed or stream is out of range.

    Example:
        >>> batch = {"seed": 1, "step": 5, "num_particles": 2, "dim": 3}
        >>> many = normal_noise(trajectory=torch.tensor([7, 8, 9]), **batch)
        >>> bool((normal_noise(trajectory=torch.tensor([8]), **batch) == many[1:2]).all())
        True
    """
    check_seed(seed)
    if not 0 <= stream <= MAX_STREAM:
        raise ValueError(f"stream must be from 0 to {MAX_STREAM}, got {stream}")
    device = trajectory.device if device is None else device
    trajectory = trajectory.to(device)[:, None]
    steps = step.to(device)[:, None] if isinstance(step, Tensor) else torch.full_like(trajectory, step)
    pairs = torch.arange((num_particles * dim + 1) // 2, device=device)[None]
    last = (stream << 16) | (steps >> 32)
    words = _rounds(steps & MASK, trajectory, pairs, last, seed & MASK, seed >> 32)
    numbers = _box_muller(*words).flatten(1)[:, : num_particles * dim]
    return numbers.to(dtype).reshape(len(trajectory), num_particles, dim)


def keyed_noise(
    *,
    seed: int,
    trajectory: Int[Tensor, " B"],
    step: Int[Tensor, " B"],
    advances: Bool[Tensor, " B"],
    num_steps: int,
    num_streams: int,
    like: Float[Tensor, "B N d"],
) -> Iterator[Float[Tensor, "B N d"]]:
    """The noise of consecutive steps, ``num_streams`` sets for each: :func:`normal_noise`, made in blocks.

    Args:
        seed: as in :func:`normal_noise`.
        trajectory: names of the systems, shape (B,).
        step: number of the first step of each system, shape (B,).
        advances: whether the step of a system counts on, shape (B,).
        num_steps: how many steps.
        num_streams: sets of numbers of one step.
        like: gives N, d, dtype and device.
    """
    (B, N, d), device = like.shape, like.device
    at_once = max(1, BLOCK_SIZE // max(1, like.numel()))
    for start in range(0, num_steps, at_once):
        later = torch.arange(start, min(start + at_once, num_steps), device=device)[:, None]
        names, steps = trajectory.repeat(len(later)), (step + later * advances).flatten()
        streams = [
            normal_noise(
                seed=seed,
                trajectory=names,
                step=steps,
                num_particles=N,
                dim=d,
                stream=stream,
                dtype=like.dtype,
            )
            for stream in range(num_streams)
        ]
        for numbers in zip(*(z.reshape(len(later), B, N, d) for z in streams), strict=True):
            yield from numbers


def check_seed(seed: int) -> None:
    """Refuse a seed that is no 64-bit word."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")


def _rounds(
    c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, k0: Tensor | int, k1: Tensor | int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds; the words c1 and c3 keep rubbish above 32 bits until they have been mixed in."""
    for _ in range(ROUNDS):
        left, right = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = ((right >> 32) ^ c1 ^ k0) & MASK
        c2 = ((left >> 32) ^ c3 ^ k1) & MASK
        c1, c3 = right, left
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & MASK, (k1 + KEY_INCREMENTS[1]) & MASK
    return c0, c1 & MASK, c2, c3 & MASK


def _box_muller(c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor) -> Float[Tensor, "*shape 2"]:
    """Two standard normal numbers of four 32-bit words."""
    u = ((c0 << 21 | c1 >> 11) + 1).double() * 2.0**-53
    angle = (c2 << 21 | c3 >> 11).double() * (2 * math.pi * 2.0**-53)
    radius = (-2 * u.log()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
