"""Gradients of long runs by computing parts of them again, for any method.

    z_{k+1} = Ψ_k(z_k),      λ_k = (∂Ψ_k/∂z)(z_k)ᵀ λ_{k+1},      z = (q, p, memory),   Ψ_k some steps in a row

Backward, each Ψ_k is computed again, now with its graph, from a state z_k that is either

    kept           √n states of a run of n steps, each the start of √n steps: memory ∝ √n
    stepped back   z_k = Φ_{−h}(z_{k+1}), one step at a time, for reversible methods: constant memory

For kicks and drifts :mod:`lie_sim.integrators.reversible` is cheaper than stepping back here. (PyTorch's own
``torch.utils.checkpoint`` needs time ∝ n² here: a force is a gradient, whose graph it recomputes tensor by tensor.)

Shape letters: B batch, N particles, d space dimension, K saved states.
Reference: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.leaves import known_leaves, require_known
from lie_sim.integrators.method import Memory, Method
from lie_sim.integrators.replay import differentiable_gradients
from lie_sim.integrators.reversal_check import check_repeated, check_start, distance_travelled
from lie_sim.integrators.schedule import Piece
from lie_sim.integrators.surroundings import Autocast, no_random_numbers

_State = tuple[Tensor, Tensor, Memory]
_States = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Run:
    """What a run does, apart from its tensors."""

    method: Method
    dynamics: Any
    pieces: Sequence[Piece]
    start: Memory
    step_back: bool
    steps: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]

    def segments(self) -> list[list[Piece]]:
        """What is computed between two states that are kept: everything, if the run is stepped back."""
        return [list(self.pieces)] if self.step_back else list(sqrt_segments(self.pieces))

    def forth(self, state: _State, segment: Sequence[Piece]) -> tuple[_States, _State]:
        """The states that a segment saves, and its last one."""
        saved: _States = []
        q, p, memory = state
        for piece in segment:
            q, p, memory = self.method.advance(
                self.dynamics, q, p, step_size=piece.step, num_steps=piece.num_steps, memory=memory or None
            )
            if piece.save:
                saved.append((q, p))
        return saved, (q, p, memory)


def recomputed_run(
    method: Method,
    dynamics: Any,
    q: Tensor,
    p: Tensor,
    pieces: Sequence[Piece],
    *,
    step_back: bool,
    memory: Memory | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a schedule; its gradient is computed by computing parts of it again.

    Args:
        method: any method; reversible and without noise if ``step_back``.
        dynamics: what ``method.dynamics`` returned.
        q: positions, shape (B, N, d).
        p: momenta, shape (B, N, d).
        pieces: the schedule.
        step_back: step back instead of keeping √n states.
        memory: what the method starts with, such as the names of the trajectories.

    Returns:
        The saved positions and momenta, each (K, B, N, d); the initial ones are not among them.

    Raises:
        ReversalError: in the backward pass, if stepping back does not arrive at the initial state, or steps that are
            done again end elsewhere.
        ValueError: the force draws random numbers.
    """
    start = dict(memory or {})
    unique = {id(x.step): x.step for x in pieces if isinstance(x.step, Tensor) and x.step.requires_grad}
    leaves = _leaves_of_a_step(method, dynamics, q, p, pieces[0], start) if torch.is_grad_enabled() else ()
    run = _Run(method, dynamics, pieces, start, step_back, tuple(unique.values()), leaves)
    saved: tuple[Tensor, Tensor] = _RecomputedRun.apply(run, q, p, *run.steps, *leaves)
    return saved


def sqrt_segments(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The schedule in about √n segments of about √n steps, long pieces cut.

    Example:
        >>> [[piece.num_steps for piece in segment] for segment in sqrt_segments([Piece(0.1, 7), Piece(0.1, 2)])]
        [[3], [3], [1, 2]]
    """
    length = math.ceil(math.sqrt(sum(piece.num_steps for piece in pieces)))
    segment: list[Piece] = []
    room = length
    for piece in pieces:
        left = piece.num_steps
        while left > room:
            yield [*segment, replace(piece, num_steps=room, save=False)] if room else segment
            left, segment, room = left - room, [], length
        segment, room = [*segment, replace(piece, num_steps=left)], room - left
    if segment:
        yield segment


def _leaves_of_a_step(
    method: Method, dynamics: Any, q: Tensor, p: Tensor, piece: Piece, start: Memory
) -> tuple[Tensor, ...]:
    step = piece.step.detach() if isinstance(piece.step, Tensor) else piece.step
    with torch.enable_grad():
        probes = [x.detach().requires_grad_(True) for x in (q, p)]
        with no_random_numbers(q.device):
            *state, memory = method.advance(
                dynamics, *probes, step_size=step, num_steps=1, memory=start or None
            )
    return known_leaves(dynamics, [*state, *memory.values()], probes)


class _RecomputedRun(torch.autograd.Function):
    """The whole run as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, run: _Run, q: Tensor, p: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        saved: _States = []
        state: _State = (q, p, run.start)
        kept = []
        for segment in run.segments():
            kept.append(state)
            found, state = run.forth(state, segment)
            saved += found
        ctx.run, ctx.kept, ctx.end, ctx.autocast = run, kept, state, Autocast(q.device)
        ctx.save_for_backward(q, p, *run.leaves)  # the leaves so that a change in place is noticed
        return torch.stack([q for q, _ in saved]), torch.stack([p for _, p in saved])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.autocast.restored():
            return _RecomputedRun._slopes(ctx, *cotangents)

    @staticmethod
    def _slopes(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        run, start = ctx.run, ctx.saved_tensors[:2]
        if torch.is_grad_enabled():
            return None, *differentiable_gradients(
                run.method, run.dynamics, run.pieces, start, (*run.steps, *run.leaves), cotangents, run.start
            )
        slopes = _Slopes(run, ctx.end, cotangents)
        if run.step_back:
            _step_back(run, start, ctx.end, slopes)
        else:
            ends = [*ctx.kept[1:], ctx.end]
            for state, segment, end in reversed(list(zip(ctx.kept, run.segments(), ends, strict=True))):
                found = slopes.pull_back(state, segment)
                check_repeated(found, end[:2], travelled=distance_travelled(state[:2], end[:2]))
        return None, *slopes.state, *slopes.others


def _step_back(run: _Run, start: Sequence[Tensor], end: _State, slopes: _Slopes) -> None:
    """One step back and one forth at a time; the first is repeated from its true start, without a memory."""
    state = end
    for position, piece in reversed(list(enumerate(run.pieces))):
        for number in reversed(range(piece.num_steps)):
            with torch.no_grad():
                _, state = run.forth(state, [Piece(-piece.step, 1, save=False)])
            single = Piece(piece.step, 1, save=piece.save and number == piece.num_steps - 1)
            slopes.pull_back((start[0], start[1], run.start) if position == number == 0 else state, [single])
    check_start(state[:2], start, exact=False, travelled=distance_travelled(start, end[:2]))


class _Slopes:
    """Slopes of the loss with respect to the state on its way back, the steps and the leaves."""

    def __init__(self, run: _Run, end: _State, cotangents: Sequence[Tensor]) -> None:
        self.run, self.cotangents, self.remaining = run, cotangents, len(cotangents[0])
        self.state = [torch.zeros_like(x) for x in end[:2]]
        self.memory = {k: torch.zeros_like(x) for k, x in end[2].items() if x.is_floating_point()}
        self.others: list[Tensor | None] = [None] * (len(run.steps) + len(run.leaves))

    def pull_back(self, start: _State, segment: Sequence[Piece]) -> tuple[Tensor, Tensor]:
        """From the end of a segment to its start; returns q and p at its end, as found this time."""
        with torch.enable_grad():
            q, p = (x.detach().requires_grad_(True) for x in start[:2])
            memory = {k: _entry(x) for k, x in start[2].items()}
            # copies: a step that was computed from a leaf counts as independent of it here
            steps = {id(x): x.detach().requires_grad_(True) for x in self.run.steps}
            copied = [replace(piece, step=steps.get(id(piece.step), piece.step)) for piece in segment]
            saved, end = self.run.forth((q, p, memory), copied)
        outputs = self._outputs(saved, end)
        variables = {k: x for k, x in memory.items() if x.requires_grad}
        inputs = [q, p, *variables.values(), *steps.values(), *self.run.leaves]
        require_known(self.run.dynamics, [x for x, _ in outputs], tuple(inputs))
        values, slopes = zip(*outputs, strict=True) if outputs else ((), ())
        # parts of the graph that were made before the run are shared by all segments
        found = torch.autograd.grad(values, inputs, slopes, allow_unused=True, retain_graph=True)
        self.state = [_or_zero(s, x) for s, x in zip(found[:2], (q, p), strict=True)]
        of_memory = zip(variables.items(), found[2 : 2 + len(variables)], strict=True)
        self.memory = {k: _or_zero(s, x) for (k, x), s in of_memory}
        for number, other in enumerate(found[2 + len(variables) :]):
            mine = self.others[number]
            self.others[number] = other if mine is None else mine if other is None else mine + other
        return end[0].detach(), end[1].detach()

    def _outputs(self, saved: _States, end: _State) -> list[tuple[Tensor, Tensor]]:
        """What the loss depends on beyond this segment, with its slopes."""
        self.remaining -= len(saved)
        pairs = [
            (x, self.cotangents[kind][self.remaining + number])
            for number, state in enumerate(saved)
            for kind, x in enumerate(state)
        ]
        pairs += [(x, slope) for x, slope in zip(end[:2], self.state, strict=True)]
        pairs += [(end[2][k], slope) for k, slope in self.memory.items() if k in end[2]]
        return [(x, slope) for x, slope in pairs if x.requires_grad]


def _entry(x: Tensor) -> Tensor:
    return x.detach().requires_grad_(True) if x.is_floating_point() else x


def _or_zero(slope: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if slope is None else slope
