"""The state at the end of every track: one motion through the last observations, by an energy that is not changed.

Segments are short where the energy is learned, so the start of the last one is known from few observations only. A
forecast begins with a motion through more of them, whose start a quasi-Newton method finds.

Shape letters: K tracks, N particles, d space dimension.
Reference: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming
45, 503 (1989).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lie_sim.fitting.gaps import Filled
from lie_sim.fitting.segments import Segments, spacing
from lie_sim.fitting.shooting import Shooting, ShootingTask
from lie_sim.fitting.table import Track
from lie_sim.hamiltonian import Hamiltonian
from lie_sim.state import Particles

_LOOK_BACK = 3.0
"""Units of time that one motion is fitted to."""


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
        steps: of the quasi-Newton method.
        starts: a first guess of positions and momenta, each (K, N, d); by default from the first times.
    """
    segments = Segments(tracks, dim, particles, max(len(each.times) for each in tracks) - 1)
    first = segments.starts(filled) if starts is None else starts
    shooting = Shooting(hamiltonian, *first).requires_grad_(False)
    task = ShootingTask(
        segments.tensors(filled, noise, trusted=False), joint=1.0, step_size=segments.step_size
    )
    every = task.batch(torch.arange(len(tracks)), torch.Generator())
    states = [shooting.q.requires_grad_(), shooting.p.requires_grad_()]
    optimizer = torch.optim.LBFGS(states, max_iter=steps, line_search_fn="strong_wolfe")

    def missed() -> float:
        optimizer.zero_grad()
        loss = len(tracks) * task.loss(shooting, every)
        loss.backward()
        return float(loss.detach())

    optimizer.step(missed)
    if not all(bool(state.isfinite().all()) for state in states):
        shooting = Shooting(hamiltonian, *first)
    return segments, shooting.requires_grad_(False)


def last_parts(
    segments: Segments, shooting: Shooting, filled: Sequence[Filled]
) -> tuple[list[Track], list[Filled], tuple[Tensor, Tensor]]:
    """The last segments of every track, and where the fitted motion begins them."""
    tracks, parts, begins = [], [], []
    for track, part, count, last in zip(
        segments.tracks, filled, segments.counts, segments.lasts.tolist(), strict=True
    ):
        back = min(count - 1, round(_LOOK_BACK / (spacing(track) * segments.steps)))
        begin = slice((count - 1 - back) * segments.steps, None)
        tracks.append(Track(track.name, track.times[begin], track.values[begin]))
        parts.append(Filled(part.values[begin], part.scale[begin]))
        begins.append(last - back)
    return tracks, parts, (shooting.q[begins].detach(), shooting.p[begins].detach())
