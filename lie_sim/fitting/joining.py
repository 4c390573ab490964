"""Rows that belong together: of the same particle at the same time, and of particles at times that hardly differ."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

_ROUNDING, _CLOSE = 1e-15, 1e-5
"""Of the largest time, and of the time between two observations of a particle: closer times are the same."""


def joined(a: Sequence[float], b: Sequence[float]) -> tuple[float, ...] | None:
    """What two rows of a particle at a time say together; None if they contradict each other.

    Example:
        >>> joined((1.0, math.nan), (1.0, 2.0)), joined((1.0, math.nan), (3.0, math.nan))
        ((1.0, 2.0), None)
    """
    pairs = list(zip(a, b, strict=True))
    if any(x != y and not math.isnan(x) and not math.isnan(y) for x, y in pairs):
        return None
    return tuple(y if math.isnan(x) else x for x, y in pairs)


def says_nothing_new(known: Sequence[float], values: Sequence[float]) -> bool:
    """Whether all that a row says is known."""
    return all(math.isnan(y) or not math.isnan(x) for x, y in zip(known, values, strict=True))


def without_jitter(
    rows: Mapping[tuple[float, str], tuple[float, ...]],
) -> tuple[dict[tuple[float, str], tuple[float, ...]], int]:
    """Times of different particles that hardly differ are one; and how many were moved.

    Example:
        >>> rows = {(t, "a"): (1.0,) for t in (0.0, 0.3)} | {(0.30000000000000004, "b"): (2.0,)}
        >>> [time for time, _ in without_jitter(rows)[0]]
        [0.0, 0.3, 0.3]
    """
    at: defaultdict[float, set[str]] = defaultdict(set)
    own: defaultdict[str, list[float]] = defaultdict(list)
    for time, particle in sorted(rows):
        at[time].add(particle)
        own[particle].append(time)
    steps = [b - a for times in own.values() for a, b in pairwise(times)]
    times = sorted(at)
    tolerance = max(_ROUNDING * max(abs(times[0]), abs(times[-1])), _CLOSE * float(np.median(steps or [0.0])))
    first: dict[float, float] = {}
    begun, there = -math.inf, set[str]()
    for time in times:
        if time - begun > tolerance or there & at[time]:
            begun, there = time, set()
        first[time] = begun
        there |= at[time]
    moved = sum(time != begun for time, begun in first.items())
    return {(first[time], particle): row for (time, particle), row in rows.items()}, moved
