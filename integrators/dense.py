"""States between the steps, from what the steps have computed anyway.

    q(t) on [t_k, t_{k+1}]   quintic Hermite through q, v, a at both ends        error O(h⁶)
    p(t)                     cubic Hermite through p and F at both ends           error O(h⁴)

With v = ∂T/∂p = p/m and a = F/m. Methods that begin and end with a kick know the force at every step; the others
need one evaluation more per step here.

Shape letters: T output times, K steps, B batch, N particles, d space dimension.
Reference: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", Springer 1993, section II.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics
from lie_sim.integrators.method import Method
from lie_sim.integrators.registry import get_method
from lie_sim.integrators.schedule import schedule
from lie_sim.integrators.splitting import SplittingMethod


@dataclass(frozen=True)
class DenseOutput:
    """A trajectory at any time between its first and last step.

    Args:
        times: times of the steps, strictly monotonic, float64, shape (K + 1,).
        q: positions there, shape (K + 1, B, N, d).
        p: momenta there, shape (K + 1, B, N, d).
        velocity: ∂T/∂p there.
        acceleration: dv/dt there.
        force: dp/dt there.
    """

    times: Float[Tensor, " steps"]
    q: Float[Tensor, "steps ..."]
    p: Float[Tensor, "steps ..."]
    velocity: Float[Tensor, "steps ..."]
    acceleration: Float[Tensor, "steps ..."]
    force: Float[Tensor, "steps ..."]

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Positions and momenta at the times t, shape (*t, B, N, d).

        Raises:
            ValueError: a time is outside the run.
        """
        t = torch.as_tensor(t, dtype=torch.float64, device=self.times.device)
        sign = 1.0 if len(self.times) < 2 or float(self.times[-1]) > float(self.times[0]) else -1.0
        grid = sign * self.times
        if bool(((sign * t < grid[0]) | (sign * t > grid[-1])).any()):
            raise ValueError(
                f"times must lie between {float(self.times[0]):g} and {float(self.times[-1]):g}, got {t.tolist()}"
            )
        left = (torch.searchsorted(grid, sign * t.reshape(-1), right=True) - 1).clamp(
            0, max(len(grid) - 2, 0)
        )
        q, p = self._at(t.reshape(-1), left)
        return q.reshape(*t.shape, *q.shape[1:]), p.reshape(*t.shape, *p.shape[1:])

    def _at(self, t: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        right = (left + 1).clamp(max=len(self.times) - 1)
        h = torch.where(right > left, self.times[right] - self.times[left], 1.0)
        shape = (-1, *(1,) * (self.q.ndim - 1))
        s, h = ((x.to(self.q.dtype)).reshape(shape) for x in ((t - self.times[left]) / h, h))
        q = _quintic(s, h, *((x[left], x[right]) for x in (self.q, self.velocity, self.acceleration)))
        return q, _cubic(s, h, (self.p[left], self.p[right]), (self.force[left], self.force[right]))


Ends = tuple[Tensor, Tensor]


def _cubic(s: Tensor, h: Tensor, x: Ends, dx: Ends) -> Tensor:
    """Values and slopes at both ends of a step of length h; s from 0 to 1."""
    rest = 1 - s
    return rest * rest * ((1 + 2 * s) * x[0] + s * h * dx[0]) + s * s * (
        (3 - 2 * s) * x[1] - rest * h * dx[1]
    )


def _quintic(s: Tensor, h: Tensor, x: Ends, dx: Ends, ddx: Ends) -> Tensor:
    """Values, slopes and curvatures at both ends."""
    rest = 1 - s
    first = (1 + 3 * s + 6 * s * s) * x[0] + s * (1 + 3 * s) * h * dx[0] + 0.5 * s * s * h * h * ddx[0]
    last = (
        (1 + 3 * rest + 6 * rest * rest) * x[1]
        - rest * (1 + 3 * rest) * h * dx[1]
        + 0.5 * rest * rest * h * h * ddx[1]
    )
    return rest**3 * first + s**3 * last


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
        rows.append((q, p, *_velocity_and_acceleration(dynamics, p, force), force))
    q, p, v, a, forces = (torch.stack(column) for column in zip(*rows, strict=True))
    times = torch.linspace(t0, t1, piece.num_steps + 1, dtype=torch.float64, device=q.device)
    return DenseOutput(times, q, p, v, a, forces)


def _velocity_and_acceleration(
    dynamics: SeparableDynamics, p: Tensor, force: Tensor
) -> tuple[Tensor, Tensor]:
    """v(p), and its change dv/dt = (∂v/∂p) F; exact because velocities p/m are linear in p."""
    velocity = dynamics.velocity(p)
    return velocity, dynamics.velocity(force)
