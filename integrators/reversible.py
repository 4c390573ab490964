"""Gradients of long runs in constant memory: step back, and differentiate on the way.

    kick   p' = p + c F(q)       undone by   p = p' − c F(q)        λ_q += c (∂F/∂q)ᵀ λ_p,   θ̄ += c (∂F/∂θ)ᵀ λ_p
    drift  q' = q + a v(p)       undone by   q = q' − a v(p)        λ_p += a (∂v/∂p)ᵀ λ_q,   θ̄ += a (∂v/∂θ)ᵀ λ_q

The gradient is that of the discrete steps, exact to round-off; only the last state and the saved ones are kept. On
the way back each force is evaluated once and serves both for undoing the kick and for its derivative, so a run costs
one force more per step than plain autograd.

Undoing a step is exact in exact arithmetic. Floating point returns to the start up to a rounding error that chaotic
motion amplifies; every backward pass therefore compares the start it arrives at with the true one and raises
:class:`~lie_sim.errors.ReversalError` where they differ too much. With ``fixed_point`` the state is held in 64-bit
integers (:mod:`lie_sim.integrators.held_numbers`), whose additions are undone without any error.

Shape letters: B batch, N particles, d space dimension, K saved states.
References: Zhuang, Dvornek, Tatikonda, Duncan, "MALI: a memory efficient and reverse accurate integrator for neural
ODEs", ICLR 2021 (steps that are undone for their gradient); Maclaurin, Duvenaud, Adams, "Gradient-based
hyperparameter optimization through reversible learning", ICML 2015 (undone without error, in fixed point).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.dynamics import check_rate
from lie_sim.integrators.held_numbers import FixedPoint, FloatingPoint
from lie_sim.integrators.leaves import graph_leaves, require_known
from lie_sim.integrators.method import add_scaled, broadcast_step
from lie_sim.integrators.replay import differentiable_gradients
from lie_sim.integrators.reversal_check import check_start, distance_travelled
from lie_sim.integrators.schedule import Piece
from lie_sim.integrators.splitting import SplittingMethod
from lie_sim.integrators.surroundings import Autocast


@dataclass(frozen=True)
class _Run:
    """What a run does, apart from its tensors."""

    method: SplittingMethod
    dynamics: Any
    pieces: Sequence[Piece]
    fixed_point: bool
    steps: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]

    def rate(self, source: int, x: Tensor) -> Tensor:
        """The force at positions x (source 0) or the velocity at momenta x (source 1)."""
        rate: Tensor = self.dynamics.velocity(x) if source else self.dynamics.force(x)
        check_rate("velocity(p)" if source else "force(q)", rate, x)
        return rate

    def rate_and_input(self, source: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same with its graph, and the node that x is in it."""
        with torch.enable_grad():
            node = x.detach().requires_grad_(True)
            return self.rate(source, node), node

    def flows(self, *, backwards: bool = False) -> Iterator[tuple[int, float, Piece] | None]:
        """(source, coefficient, piece) of every flow in the order of use, and None where a state is saved."""
        for piece in reversed(self.pieces) if backwards else self.pieces:
            if piece.save and backwards:
                yield None
            for stage in self.method.joined_stages(piece.num_steps, backwards=backwards):
                yield 0 if stage.is_kick else 1, stage.coefficient, piece
            if piece.save and not backwards:
                yield None


def reversible_run(
    method: SplittingMethod,
    dynamics: Any,
    q: Tensor,
    p: Tensor,
    pieces: Sequence[Piece],
    *,
    fixed_point: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run a schedule; gradients cost memory for the saved states only.

    The gradient can be differentiated again; that second derivative is computed by plain autograd, in memory
    proportional to the number of steps.

    Args:
        method: a reversible splitting method.
        dynamics: what ``method.dynamics`` returned.
        q: positions, shape (B, N, d).
        p: momenta, shape (B, N, d).
        pieces: the schedule.
        fixed_point: hold the state in integers, so that going back returns to the same bits.

    Returns:
        The saved positions and momenta, each (K, B, N, d); the initial ones are not among them.

    Raises:
        ReversalError: in the backward pass, if it does not arrive at the initial state.
        NonFiniteError: a state does not fit in fixed point.
        TypeError: the force or the velocity has another shape than its argument.
        ValueError: they draw random numbers.

    Example:
        >>> from lie_sim.integrators import SystemDynamics, get_method
        >>> from lie_sim.systems import Springs
        >>> state, particles = Springs().sample(1, generator=torch.Generator().manual_seed(0))
        >>> method, q0 = get_method("leapfrog"), state.q.requires_grad_(True)
        >>> dynamics = method.dynamics(SystemDynamics(Springs(), particles))
        >>> q, p = reversible_run(method, dynamics, q0, state.p, [Piece(0.01, 1000)])
        >>> q.square().sum().backward()
        >>> q.shape, q0.grad.shape
        (torch.Size([1, 1, 6, 2]), torch.Size([1, 6, 2]))
    """
    unique = {id(x.step): x.step for x in pieces if isinstance(x.step, Tensor) and x.step.requires_grad}
    leaves = graph_leaves(dynamics, q, p) if torch.is_grad_enabled() else ()
    run = _Run(method, dynamics, pieces, fixed_point, tuple(unique.values()), leaves)
    saved: tuple[Tensor, Tensor] = _ReversibleRun.apply(run, q, p, *run.steps, *leaves)
    return saved


class _ReversibleRun(torch.autograd.Function):
    """The whole run as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, run: _Run, q: Tensor, p: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        numbers = FixedPoint(q) if run.fixed_point else FloatingPoint()
        saved, end = _forth(run, numbers, q, p)
        if isinstance(numbers, FixedPoint):
            numbers.check()
        ctx.run, ctx.autocast = run, Autocast(q.device)
        ctx.save_for_backward(q, p, *end, *run.leaves)  # the leaves so that a change in place is noticed
        return torch.stack([q for q, _ in saved]), torch.stack([p for _, p in saved])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        with ctx.autocast.restored():
            return _ReversibleRun._slopes(ctx, *cotangents)

    @staticmethod
    def _slopes(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        run, (q, p, *end) = ctx.run, ctx.saved_tensors[:4]
        if torch.is_grad_enabled():
            return None, *differentiable_gradients(
                run.method, run.dynamics, run.pieces, (q, p), (*run.steps, *run.leaves), cotangents
            )
        numbers = FixedPoint(q) if run.fixed_point else FloatingPoint()
        back = _WayBack(run, numbers, end)
        remaining = len(cotangents[0])
        for flow in run.flows(backwards=True):
            if flow is None:
                remaining -= 1
                back.add(cotangents[0][remaining], cotangents[1][remaining])
            else:
                back.undo(*flow)
        back.settle()
        rounded = [numbers.decode(numbers.encode(x)) for x in (q, p)]
        travelled = distance_travelled((q, p), [numbers.decode(x) for x in end])
        check_start(
            [numbers.decode(x) for x in back.state], rounded, exact=run.fixed_point, travelled=travelled
        )
        return None, *back.slopes, *back.step_slopes, *back.leaf_slopes


def _forth(
    run: _Run, numbers: FloatingPoint | FixedPoint, q: Tensor, p: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Saved states, and the last one as it is held."""
    state, saved = [numbers.encode(q), numbers.encode(p)], []
    rates: list[Tensor | None] = [None, None]
    for flow in run.flows():
        if flow is None:
            saved.append((numbers.decode(state[0]), numbers.decode(state[1])))
            continue
        source, coefficient, piece = flow
        rate = rates[source]
        if rate is None:
            x = numbers.decode(state[source])
            # in fixed point by the operations of the way back, lest another kernel round otherwise
            rate = run.rate_and_input(source, x)[0].detach() if run.fixed_point else run.rate(source, x)
        state[1 - source] = numbers.add(state[1 - source], rate, coefficient * broadcast_step(piece.step, q))
        rates[source], rates[1 - source] = rate, None
    return saved, state


class _WayBack:
    """The state as it is undone, and the slopes of the loss with respect to it, the steps and the leaves."""

    def __init__(self, run: _Run, numbers: FloatingPoint | FixedPoint, end: Sequence[Tensor]) -> None:
        self.run, self.numbers, self.state = run, numbers, list(end)
        self.slopes = [torch.zeros_like(numbers.decode(x)) for x in end]
        self.step_slopes = [torch.zeros_like(step) for step in run.steps]
        self.leaf_slopes: list[Tensor | None] = [None] * len(run.leaves)
        self._open: _OpenRate | None = None

    def add(self, *slopes: Tensor) -> None:
        """The loss also depends directly on the state here."""
        self.slopes = [mine + other for mine, other in zip(self.slopes, slopes, strict=True)]

    def undo(self, source: int, coefficient: float, piece: Piece) -> None:
        """Undo x_target += duration · rate(x_source)."""
        target = 1 - source
        if self._open is None or self._open.source != source:
            self.settle()
            rate, node = self.run.rate_and_input(source, self.numbers.decode(self.state[source]))
            self._open = _OpenRate(source, node, rate, torch.zeros_like(rate))
        held, slope = self._open, self.slopes[target]
        duration = coefficient * broadcast_step(piece.step, slope)
        rate = held.rate.detach()
        self.state[target] = self.numbers.add(self.state[target], rate, -duration)
        held.cotangent = add_scaled(held.cotangent, slope, duration)
        for number, step in enumerate(self.run.steps):
            if step is piece.step:
                products = coefficient * (slope * rate)
                self.step_slopes[number] += products.sum_to_size(
                    *step.shape, *(1,) * (products.ndim - step.ndim)
                ).reshape(step.shape)

    def settle(self) -> None:
        """Carry the slope through the force or velocity that is open: once for all flows that shared it."""
        held, self._open = self._open, None
        if held is None or not held.rate.requires_grad:
            return
        require_known(self.run.dynamics, [held.rate], (held.node, *self.run.leaves))
        # another evaluation may share a part of the graph: tensors that were computed before the run
        slope, *others = torch.autograd.grad(
            held.rate, (held.node, *self.run.leaves), held.cotangent, allow_unused=True, retain_graph=True
        )
        if slope is not None:
            self.slopes[held.source] = self.slopes[held.source] + slope
        for number, other in enumerate(others):
            mine = self.leaf_slopes[number]
            self.leaf_slopes[number] = other if mine is None else mine if other is None else mine + other


@dataclass
class _OpenRate:
    """A force or velocity whose derivative is still to be taken, and the cotangent collected for it."""

    source: int
    node: Tensor
    rate: Tensor
    cotangent: Tensor
