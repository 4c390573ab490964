"""Run a schedule of steps, and choose how its gradient is computed.

    autograd      the graph of every step is kept                memory ∝ steps
    checkpoint    √n segments, each recomputed on the way back   memory ∝ √steps, one forward run more
    reversible    the state is stepped back                      memory of the saved states only

All three give the gradient of the discrete steps.

Shape letters: B batch, N particles, d space dimension, K saved states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.compiled import Compiled
from lie_sim.integrators.method import Memory, Method
from lie_sim.integrators.recompute import recomputed_run
from lie_sim.integrators.reversible import reversible_run
from lie_sim.integrators.schedule import Piece
from lie_sim.integrators.splitting import SplittingMethod

ADJOINTS = ("autograd", "reversible", "checkpoint", "continuous")


def run(
    method: Method,
    dynamics: Any,
    q: Tensor,
    p: Tensor,
    pieces: Sequence[Piece],
    *,
    adjoint: str = "autograd",
    fixed_point: bool = False,
    memory: Memory | None = None,
) -> tuple[Tensor, Tensor]:
    """The states that a schedule saves, the initial one not among them.

    Args:
        method: any method of this package.
        dynamics: what ``method.dynamics`` returned.
        q: positions, shape (B, N, d).
        p: momenta, shape (B, N, d).
        pieces: the schedule, at least one piece.
        adjoint: "autograd", "checkpoint" or "reversible".
        fixed_point: hold the state in integers; for ``adjoint="reversible"`` and a splitting method.
        memory: what the method starts with, such as the names of the trajectories that key its noise.

    Returns:
        Positions and momenta, each (K, B, N, d).

    Raises:
        ValueError: the method cannot be reversed, the states to be reversed are of half precision, or fixed point is
            asked for where there is none.
    """
    splitting = isinstance(method, SplittingMethod)
    if fixed_point and not (adjoint == "reversible" and splitting):
        raise ValueError(
            f'fixed_point goes with adjoint="reversible" and a splitting method, not with {adjoint!r} and {method.name}'
        )
    if adjoint == "reversible" and has_half_precision(q):
        raise ValueError(
            f'adjoint="reversible" needs states of float32 or float64, got {q.dtype}: stepping back loses them to '
            'rounding, and the gradient with them; use adjoint="checkpoint", or q.float() and p.float() (the model '
            "itself may run under autocast)"
        )
    if adjoint == "reversible" and (not method.reversible or method.stochastic):
        raise ValueError(
            f'{method.name} cannot be stepped back: use adjoint="checkpoint", or a reversible method'
        )
    if isinstance(method, Compiled) and adjoint == "reversible":
        plain = method.method
        assert isinstance(plain, SplittingMethod)
        return reversible_run(plain, dynamics, q, p, pieces, compiler=method.backend)
    if isinstance(method, SplittingMethod) and adjoint == "reversible":
        return reversible_run(method, dynamics, q, p, pieces, fixed_point=fixed_point)
    if adjoint in ("reversible", "checkpoint"):
        return recomputed_run(
            method, dynamics, q, p, pieces, step_back=adjoint == "reversible", memory=memory
        )
    return _plain_run(method, dynamics, q, p, pieces, memory)


def has_half_precision(x: Tensor) -> bool:
    """Whether the numbers are shorter than float32: too short to be stepped back.

    Example:
        >>> has_half_precision(torch.ones(1, dtype=torch.bfloat16)), has_half_precision(torch.ones(1))
        (True, False)
    """
    return x.is_floating_point() and torch.finfo(x.dtype).bits < 32


def _plain_run(
    method: Method, dynamics: Any, q: Tensor, p: Tensor, pieces: Sequence[Piece], memory: Memory | None
) -> tuple[Tensor, Tensor]:
    saved = []
    for piece in pieces:
        q, p, memory = method.advance(
            dynamics, q, p, step_size=piece.step, num_steps=piece.num_steps, memory=memory
        )
        if piece.save:
            saved.append((q, p))
    return torch.stack([q for q, _ in saved]), torch.stack([p for _, p in saved])
