"""Gradients that can be differentiated again: the run once more by plain autograd.

    λ(z, θ, λ') = (∂z'/∂z)ᵀ λ',      θ̄(z, θ, λ') = (∂z'/∂θ)ᵀ λ',      z' = Φ(z, θ) the saved states

as functions of z, θ and λ' with derivatives of their own; memory is proportional to the number of steps.

Shape letters: B batch, N particles, d space dimension, K saved states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lie_sim.integrators.method import Memory, Method
from lie_sim.integrators.schedule import Piece


def differentiable_gradients(
    method: Method,
    dynamics: Any,
    pieces: Sequence[Piece],
    start: tuple[Tensor, Tensor],
    others: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    memory: Memory | None = None,
) -> tuple[Tensor | None, ...]:
    """The same gradients by plain autograd, which can differentiate them again.

    Args:
        method: any method.
        dynamics: what ``method.dynamics`` returned.
        pieces: the schedule.
        start: q and p, as nodes of the graph.
        others: steps and leaves.
        cotangents: of the saved positions and momenta.
        memory: what the method starts with.

    Returns:
        Slopes with respect to q, p and the others; None where a tensor needs none.
    """
    slopes: tuple[Tensor | None, ...] = _Gradients.apply(
        _Replay(method, dynamics, pieces, tuple(others), memory or None), *start, *cotangents, *others
    )
    return slopes


@dataclass(frozen=True)
class _Replay:
    """A run to be computed once more by plain autograd."""

    method: Method
    dynamics: Any
    pieces: Sequence[Piece]
    others: tuple[Tensor, ...]
    memory: Memory | None = None

    def saved(self, q: Tensor, p: Tensor, steps: dict[int, Tensor]) -> list[Tensor]:
        """Saved positions and momenta, with the steps replaced by those given under the id of the original."""
        found, memory = [], self.memory
        for piece in self.pieces:
            q, p, memory = self.method.advance(
                self.dynamics,
                q,
                p,
                step_size=steps.get(id(piece.step), piece.step),
                num_steps=piece.num_steps,
                memory=memory,
            )
            if piece.save:
                found.append((q, p))
        return [torch.stack(part) for part in zip(*found, strict=True)]


class _Gradients(torch.autograd.Function):
    """The slopes as functions of state, cotangents, steps and leaves, which can be differentiated once more.

    State and steps enter as copies, so that one which was computed from another, or from a leaf, counts as independent;
    autograd adds up the parts outside.
    """

    @staticmethod
    def forward(
        ctx: Any, replay: _Replay, q: Tensor, p: Tensor, to_q: Tensor, to_p: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        used = {id(piece.step) for piece in replay.pieces}
        with torch.enable_grad():
            x, y, gx, gy = (tensor.detach().requires_grad_(True) for tensor in (q, p, to_q, to_p))
            own = [z.detach().requires_grad_(True) if id(z) in used else z for z in replay.others]
            steps = {id(z): copy for z, copy in zip(replay.others, own, strict=True) if id(z) in used}
            outputs = replay.saved(x, y, steps)
            slopes = torch.autograd.grad(
                outputs, [x, y, *own], (gx, gy), create_graph=True, materialize_grads=True
            )
        ctx.inputs, ctx.slopes = [x, y, gx, gy, *own], slopes
        return tuple(slope.detach() for slope in slopes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        pairs = [(s, c) for s, c in zip(ctx.slopes, cotangents, strict=True) if s.requires_grad]
        values, given = zip(*pairs, strict=True)
        return None, *torch.autograd.grad(values, ctx.inputs, given, allow_unused=True, retain_graph=True)
