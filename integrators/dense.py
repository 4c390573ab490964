"""Runs that keep every step, to be asked for any time between.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.hermite import DenseOutput, node
from lie_sim.integrators.method import Method
from lie_sim.integrators.registry import get_method
from lie_sim.integrators.schedule import schedule
from lie_sim.integrators.splitting import SplittingMethod


def odeint_dense(
    func: Any,
    y0: tuple[Tensor, Tensor],
    t0: float,
    t1: float,
    *,
    step_size: float,
    method: str | Method = "leapfrog",
) -> DenseOutput:
    """Integrate from t0 to t1 and keep every step, to be asked for any time between.

    Args:
        func: a Hamiltonian bound to its particles, or any object with ``force(q)`` and ``velocity(p)``.
        y0: positions and momenta at t0, each (B, N, d).
        t0: first time.
        t1: last time, before or after it.
        step_size: h > 0; the whole number of equal steps nearest to |t1 − t0|/h is done.
        method: a splitting method.

    Raises:
        TypeError: the method is no splitting method, or cannot split ``func``.
        ValueError: the times or the step are impossible.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> state, particles = Springs().sample(2, generator=torch.Generator().manual_seed(0))
        >>> path = odeint_dense(
        ...     SystemDynamics(Springs(), particles), (state.q, state.p), 0.0, 1.0, step_size=0.01
        ... )
        >>> q, p = path(torch.tensor([0.123, 0.456]))
        >>> q.shape
        torch.Size([2, 2, 6, 2])
    """
    chosen = get_method(method)
    if not isinstance(chosen, SplittingMethod):
        raise TypeError(f"dense output is for splitting methods, not for {chosen.name}")
    dynamics, (q, p) = chosen.dynamics(func), y0
    chosen.check_shapes(q, p)
    (piece,) = schedule(torch.tensor([t0, t1], dtype=torch.float64), step_size)
    rows, memory = [], None
    for number in range(piece.num_steps + 1):
        if number:
            q, p, memory = chosen.advance(dynamics, q, p, step_size=piece.step, num_steps=1, memory=memory)
        force = (memory or {}).get("force")
        force = dynamics.force(q) if force is None else force
        memory = {"force": force} if chosen.first_same_as_last else memory
        rows.append(node(dynamics, q, p, force))
    times = torch.linspace(t0, t1, piece.num_steps + 1, dtype=torch.float64, device=q.device)
    return DenseOutput(times, *(torch.stack(column) for column in zip(*rows, strict=True)))
