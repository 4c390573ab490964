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

from lie_sim.integrators.compiled_rates import CompiledRates
from lie_sim.integrators.held_numbers import FixedPoint, FloatingPoint
from lie_sim.integrators.leaves import graph_leaves
from lie_sim.integrators.method import StepSize, add_scaled, broadcast_step
from lie_sim.integrators.rates import Rates, Slopes, add_slopes
from lie_sim.integrators.replay import differentiable_gradients
from lie_sim.integrators.reversal_check import check_start, distance_travelled
from lie_sim.integrators.schedule import Piece
from lie_sim.integrators.splitting import SplittingMethod
from lie_sim.integrators.surroundings import Autocast


@dataclass(frozen=True)
class _Run:
    """What a run does, apart from its tensors."""

    method: SplittingMethod
    pieces: Sequence[Piece]
    fixed_point: bool
    steps: tuple[Tensor, ...]
    rates: Rates

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
    compiler: str | None = None,
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
        compiler: backend of ``torch.compile`` for the force and its pull-back; None leaves them as they are.

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
    rates = Rates(dynamics, leaves) if compiler is None else CompiledRates(dynamics, leaves, backend=compiler)
    run = _Run(method, pieces, fixed_point, tuple(unique.values()), rates)
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
        ctx.save_for_backward(
            q, p, *end, *run.rates.leaves
        )  # the leaves so that a change in place is noticed
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
                run.method,
                run.rates.dynamics,
                run.pieces,
                (q, p),
                (*run.steps, *run.rates.leaves),
                cotangents,
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
        return None, *back.slopes, *back.step_slopes, *run.rates.by_leaf(back.leaf_slopes)


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
            rate = run.rates.as_pulled_back(source, x) if run.fixed_point else run.rates.rate(source, x)
        state[1 - source] = numbers.add(state[1 - source], rate, coefficient * broadcast_step(piece.step, q))
        rates[source], rates[1 - source] = rate, None
    return saved, state


class _WayBack:
    """The state as it is undone, and the slopes of the loss with respect to it, the steps and the leaves."""

    def __init__(self, run: _Run, numbers: FloatingPoint | FixedPoint, end: Sequence[Tensor]) -> None:
        self.run, self.numbers, self.state = run, numbers, list(end)
        self.slopes = [torch.zeros_like(numbers.decode(x)) for x in end]
        self.step_slopes = [torch.zeros_like(step) for step in run.steps]
        self.leaf_slopes: Slopes = []
        self._source, self._open = 0, list[_Flow]()

    def add(self, *slopes: Tensor) -> None:
        """The loss also depends directly on the state here."""
        self.slopes = [mine + other for mine, other in zip(self.slopes, slopes, strict=True)]

    def undo(self, source: int, coefficient: float, piece: Piece) -> None:
        """Undo x_target += duration · rate(x_source), together with the flows before that share the rate."""
        if source != self._source:
            self.settle()
        self._source = source
        self._open.append(_Flow(coefficient, piece.step, self.slopes[1 - source]))

    def settle(self) -> None:
        """Undo the flows that are open and carry the slope through their force or velocity: one evaluation for all."""
        (source, target), flows, self._open = (self._source, 1 - self._source), self._open, []
        if not flows:
            return
        cotangent = flows[0].duration() * flows[0].slope
        for flow in flows[1:]:
            cotangent = add_scaled(cotangent, flow.slope, flow.duration())
        x = self.numbers.decode(self.state[source])
        rate, slope, others = self.run.rates.pull_back(source, x, cotangent)
        for flow in flows:
            self.state[target] = self.numbers.add(self.state[target], rate, -flow.duration())
            self._add_step_slopes(flow, rate)
        if slope is not None:
            self.slopes[source] = self.slopes[source] + slope
        self.leaf_slopes = add_slopes(self.leaf_slopes, others)

    def _add_step_slopes(self, flow: _Flow, rate: Tensor) -> None:
        for number, step in enumerate(self.run.steps):
            if step is flow.step:
                products = flow.coefficient * (flow.slope * rate)
                ones = (1,) * (products.ndim - step.ndim)
                self.step_slopes[number] += products.sum_to_size(*step.shape, *ones).reshape(step.shape)


@dataclass(frozen=True)
class _Flow:
    """A flow that is still to be undone, and the slope of the loss with respect to what it changed."""

    coefficient: float
    step: StepSize
    slope: Tensor

    def duration(self) -> float | Tensor:
        """How long it is, as it broadcasts against the state."""
        return self.coefficient * broadcast_step(self.step, self.slope)
