"""States between the steps, from what the steps have computed anyway.

    q(t) on [t_k, t_{k+1}]   quintic Hermite through q, v, a at both ends        error O(h⁶)
    p(t)                     cubic Hermite through p and F at both ends           error O(h⁴)

With v = ∂T/∂p = p/m and a = F/m. Methods that begin and end with a kick know the force at every step; the others
need one evaluation more per step here. Steps may be common to all systems, or of each system its own.

Shape letters: T output times, K steps, B batch, N particles, d space dimension.
Reference: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", Springer 1993, section II.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics


@dataclass(frozen=True)
class DenseOutput:
    """A trajectory at any time between its first and last step.

    Args:
        times: times of the steps, monotonic, float64, shape (K + 1,), or (K + 1, B) if each system has its own.
        q: positions there, shape (K + 1, B, N, d).
        p: momenta there, shape (K + 1, B, N, d).
        velocity: ∂T/∂p there.
        acceleration: dv/dt there.
        force: dp/dt there.
    """

    times: Float[Tensor, " steps"] | Float[Tensor, "steps B"]
    q: Float[Tensor, "steps ..."]
    p: Float[Tensor, "steps ..."]
    velocity: Float[Tensor, "steps ..."]
    acceleration: Float[Tensor, "steps ..."]
    force: Float[Tensor, "steps ..."]

    def __call__(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Positions and momenta at the times t, shape (*t, B, N, d); t is (…, B) if each system has its own times.

        Raises:
            ValueError: a time is outside the run.
        """
        t = torch.as_tensor(t, dtype=torch.float64, device=self.times.device)
        if not bool(self.covers(t).all()):
            raise ValueError(
                f"times must lie between {_shown(self.times[0])} and {_shown(self.times[-1])}, got {t.tolist()}"
            )
        return self.at(t)

    def covers(self, t: Tensor) -> Tensor:
        """Which times lie between the first and the last step."""
        sign = self._sign()
        first, last = (sign * end.detach() for end in (self.times[0], self.times[-1]))
        return (sign * t >= first) & (sign * t <= last)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The same as calling it, with the first state at times that are not covered."""
        batch, columns = self.q.shape[1], self.times.reshape(len(self.times), -1)
        outer = t.shape if self.times.ndim == 1 else t.shape[:-1]
        shape = (outer.numel(), batch, *(1,) * (self.q.ndim - 2))  # -1 is no number where batch is 0
        wanted = torch.where(self.covers(t), t, self.times[0].detach()).reshape(shape[0], columns.shape[1])
        left = self._left(wanted.detach())
        right = (left + 1).clamp(max=len(columns) - 1)
        start, h = columns.gather(0, left), columns.gather(0, right) - columns.gather(0, left)
        h = torch.where(h == 0, 1.0, h)
        share, h = (x.to(self.q.dtype).expand(-1, batch).reshape(shape) for x in ((wanted - start) / h, h))
        left, right = left.expand(-1, batch), right.expand(-1, batch)
        row = torch.arange(batch, device=left.device)
        q_ends, v_ends, a_ends, p_ends, f_ends = (
            (x[left, row], x[right, row])
            for x in (self.q, self.velocity, self.acceleration, self.p, self.force)
        )
        q, p = _quintic(share, h, q_ends, v_ends, a_ends), _cubic(share, h, p_ends, f_ends)
        return q.reshape(*outer, *self.q.shape[1:]), p.reshape(*outer, *self.p.shape[1:])

    def _sign(self) -> Tensor:
        """+1 where time grows, −1 where it falls."""
        return torch.where(self.times[-1] >= self.times[0], 1.0, -1.0).to(self.times)

    def _left(self, t: Float[Tensor, "M C"]) -> Tensor:
        """The last step that is not after t; of the last one that before it."""
        sign, columns = self._sign(), self.times.detach().reshape(len(self.times), -1)
        grid, wanted = ((sign * x).mT.contiguous() for x in (columns, t))
        found = torch.searchsorted(grid, wanted, right=True).mT - 1
        return found.clamp(0, max(len(columns) - 2, 0))


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


def _shown(time: Tensor) -> str:
    return f"{float(time):g}" if not time.ndim else "[" + ", ".join(f"{x:g}" for x in time.tolist()) + "]"


def node(dynamics: SeparableDynamics, q: Tensor, p: Tensor, force: Tensor) -> tuple[Tensor, ...]:
    """What a :class:`DenseOutput` keeps of one step: q, p, v, a and F.

    The acceleration dv/dt = (∂v/∂p) F is v(F), because velocities p/m are linear in p.
    """
    return q, p, dynamics.velocity(p), dynamics.velocity(force), force
