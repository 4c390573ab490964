"""The state at the end of every track: one motion through the last observations, by an energy that is not changed.

Segments are short where the energy is learned, so the start of the last one is known from few observations only. A
forecast begins with a motion through more of them, whose start a quasi-Newton method finds.

Shape letters: K tracks, N particles, d space dimension.
Reference: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming
45, 503 (1989).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lie_sim.fitting.gaps import Filled
from lie_sim.fitting.segments import Segments
from lie_sim.fitting.shooting import Shooting, ShootingTask
from lie_sim.fitting.table import Track
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.state import Particles

_LOOK_BACK = 3.0
"""Units of time that one motion is fitted to."""
_ENOUGH = 4
"""Observations of each particle in them; the motion begins earlier where there are fewer."""
_TRIES = 3
"""Evaluations a step, on average."""


def motions_at_ends(
    hamiltonian: Hamiltonian,
    tracks: Sequence[Track],
    filled: Sequence[Filled],
    dim: int,
    particles: Particles,
    noise: float,
    *,
    steps: int,
    starts: tuple[Tensor, Tensor] | None = None,
) -> tuple[Segments, Shooting]:
    """Tracks of a few units of time as one segment each, and their fitted starts.

    Args:
        hamiltonian: its weights are not changed.
        tracks: in units of their spread and pace.
        filled: the same without gaps; what was filled in does not count.
        dim: components of a position.
        particles: one system.
        noise: of what was observed.
        steps: of the quasi-Newton method; 0 keeps the first guess.
        starts: a first guess of positions and momenta, each (K, N, d); by default from the first times.
    """
    segments = Segments(tracks, dim, particles, max(len(each.times) for each in tracks) - 1)
    first = segments.starts(filled) if starts is None else starts
    shooting = Shooting(hamiltonian, *first).requires_grad_(False)
    task = ShootingTask(
        segments.tensors(filled, noise, trusted=False), joint=1.0, step_size=segments.step_size
    )
    states = [shooting.q.requires_grad_(), shooting.p.requires_grad_()]
    optimizer = torch.optim.LBFGS(
        states, max_iter=steps, max_eval=_TRIES * (steps + 1), line_search_fn="strong_wolfe"
    )
    before = _losses(task, shooting)
    usable = before.isfinite().nonzero()[:, 0]
    if not steps or not len(usable):
        return segments, shooting.requires_grad_(False)
    every = task.batch(usable, torch.Generator())

    def missed() -> float:
        optimizer.zero_grad()
        loss = len(usable) * task.loss(shooting, every)
        loss.backward()
        return float(loss.detach())

    optimizer.step(missed)
    shooting.requires_grad_(False)
    worse = ~(_losses(task, shooting) <= before)
    for state, guess in zip(states, first, strict=True):
        state[worse] = guess[worse].to(state)
    return segments, shooting


@torch.no_grad()
def _losses(task: ShootingTask, shooting: Shooting) -> Tensor:
    """Of every track, (K,)."""
    count, none = len(shooting.q), torch.Generator()
    return torch.stack([task.loss(shooting, task.batch(torch.tensor([k]), none)) for k in range(count)])


def last_parts(
    segments: Segments, shooting: Shooting, filled: Sequence[Filled]
) -> tuple[list[Track], list[Filled], tuple[Tensor, Tensor]]:
    """The last segments of every track, and where the fitted motion begins them."""
    tracks, parts, begins = [], [], []
    for track, part, count, last in zip(
        segments.tracks, filled, segments.counts, segments.lasts.tolist(), strict=True
    ):
        first = _look_back(track, segments.dim) // segments.steps
        first = min(first, count - 1)
        begin = slice(first * segments.steps, None)
        tracks.append(Track(track.name, track.times[begin], track.values[begin]))
        parts.append(Filled(part.values[begin], part.scale[begin]))
        begins.append(last - (count - 1 - first))
    return tracks, parts, (shooting.q[begins].detach(), shooting.p[begins].detach())


def _look_back(track: Track, dim: int) -> int:
    """The time from which one motion begins: some units before the end, and enough observations of every particle.

    Example:
        >>> x = np.full((60, 2, 1), 1.0)
        >>> x[20:58, 1] = np.nan
        >>> [_look_back(Track("", 0.1 * np.arange(60.0), part), 1) for part in (x, x[:, :1])]
        [18, 29]
    """
    there = np.isfinite(track.values[..., :dim]).all(-1)
    enough = [np.flatnonzero(seen)[-_ENOUGH:][0] for seen in there.T]
    return int(min(np.searchsorted(track.times, track.times[-1] - _LOOK_BACK), *enough))
