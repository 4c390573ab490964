"""Systems with a known solution, on which the integrators are compared; positions (1, N, d), float64.

    Hénon–Heiles   V = (x² + y²)/2 + x² y − y³/3            from q = (0.3, −0.2), p = (0.1, 0.25) to t = 8
    pendulum       V = 1 − cos q                            from q = 2 at rest to t = 20
    Kepler         V = −1/r, eccentricity 0.6, from the pericentre to t = 20, solved by Kepler's equation
    Plummer        V = −Σ_{i<j} m_i m_j / √(r_ij² + 0.25)   six bodies in the plane to t = 10
    springs        V = ½ Σ_{i<j} k_i k_j |q_i − q_j|²       six particles, highest frequency 0.95, no net momentum

Where there is no closed solution, it is DOP853 of SciPy at the smallest tolerance that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALLEST_RTOL = 3e-14


class Dynamics:
    """Force in closed form, velocity p/m; counts its forces."""

    def __init__(
        self, force: Callable[[Tensor], Tensor], potential: Callable[[Tensor], Tensor], masses: Tensor
    ):
        self._force, self.potential, self.inverse_masses = force, potential, 1 / masses[:, None]
        self.calls = 0

    def force(self, q: Tensor) -> Tensor:
        self.calls += 1
        return self._force(q)

    def velocity(self, p: Tensor) -> Tensor:
        return p * self.inverse_masses

    def vector_field(self, t: Any, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.velocity(state[1]), self.force(state[0])

    def energy(self, q: Tensor, p: Tensor) -> Tensor:
        return 0.5 * (p.square() * self.inverse_masses).sum((-2, -1)) + self.potential(q)


@dataclass
class Problem:
    """Dynamics, a start, and how long to run."""

    dynamics: Dynamics
    q: Tensor
    p: Tensor
    duration: float
    solution: Tensor | None = None

    def dop853(self, rtol: float, atol: float) -> tuple[Tensor, int]:
        """Positions at the end, and the forces that SciPy needed for them."""
        from scipy.integrate import solve_ivp

        shape, size, before = self.q.shape, self.q.numel(), self.dynamics.calls

        def field(t: float, y: Any) -> Any:
            q, p = (torch.from_numpy(half).reshape(shape) for half in (y[:size].copy(), y[size:].copy()))
            velocity, force = self.dynamics.vector_field(t, (q, p))
            return np.concatenate([velocity.reshape(-1).numpy(), force.reshape(-1).numpy()])

        y0 = torch.cat([self.q.reshape(-1), self.p.reshape(-1)]).numpy()
        found = solve_ivp(field, (0.0, self.duration), y0, method="DOP853", rtol=rtol, atol=atol)
        return torch.from_numpy(found.y[:size, -1]).reshape(shape), self.dynamics.calls - before

    @cached_property
    def exact(self) -> Tensor:
        """Positions at the end."""
        return self.dop853(SMALLEST_RTOL, 1e-16)[0] if self.solution is None else self.solution


def tensor(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float64)


def henon_heiles() -> Problem:
    def force(q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x - 2 * x * y, -y - x * x + y * y], -1)

    def potential(q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return (0.5 * (x * x + y * y) + x * x * y - y**3 / 3).sum(-1)

    start = tensor((0.3, -0.2)), tensor((0.1, 0.25))
    return Problem(Dynamics(force, potential, torch.ones(1, dtype=torch.float64)), *start, 8.0)


def pendulum() -> Problem:
    dynamics = Dynamics(
        lambda q: -q.sin(), lambda q: (1 - q.cos()).sum((-2, -1)), torch.ones(1, dtype=torch.float64)
    )
    return Problem(dynamics, tensor((2.0,)), tensor((0.0,)), 20.0)


def kepler(eccentricity: float = 0.6, duration: float = 20.0) -> Problem:
    def force(q: Tensor) -> Tensor:
        return -q * q.square().sum(-1, keepdim=True) ** -1.5

    dynamics = Dynamics(force, lambda q: -(q.square().sum((-2, -1)) ** -0.5), torch.ones(1).double())
    anomaly = duration
    for _ in range(50):  # Newton's method for E − e sin E = t
        residual = anomaly - eccentricity * math.sin(anomaly) - duration
        anomaly -= residual / (1 - eccentricity * math.cos(anomaly))
    minor = math.sqrt(1 - eccentricity**2)
    end = tensor((math.cos(anomaly) - eccentricity, minor * math.sin(anomaly)))
    speed = math.sqrt((1 + eccentricity) / (1 - eccentricity))
    return Problem(dynamics, tensor((1 - eccentricity, 0.0)), tensor((0.0, speed)), duration, end)


def plummer(num_bodies: int = 6) -> Problem:
    generator = torch.Generator().manual_seed(0)
    masses = 0.5 + torch.rand(num_bodies, generator=generator, dtype=torch.float64)
    q, p = torch.randn(2, 1, num_bodies, 2, generator=generator, dtype=torch.float64)
    weights = masses[:, None] * masses

    def separations(q: Tensor) -> tuple[Tensor, Tensor]:
        apart = q[:, :, None] - q[:, None, :]
        return apart, (apart.square().sum(-1) + 0.25).rsqrt()

    def force(q: Tensor) -> Tensor:
        apart, inverse = separations(q)
        return -((weights * inverse**3)[..., None] * apart).sum(2)

    def potential(q: Tensor) -> Tensor:
        return -(weights * separations(q)[1]).triu(1).sum((-2, -1))

    momenta = 0.5 * (p - p.mean(1, keepdim=True))
    return Problem(Dynamics(force, potential, masses), q, momenta, 10.0)


def springs(num_particles: int = 6, highest_frequency: float = 0.95) -> Problem:
    generator = torch.Generator().manual_seed(0)
    masses, k = 0.5 + torch.rand(2, num_particles, generator=generator, dtype=torch.float64)
    q, p = torch.randn(2, 1, num_particles, 2, generator=generator, dtype=torch.float64)
    stiffness = torch.diag(k * k.sum()) - k[:, None] * k
    frequencies = torch.linalg.eigvalsh(stiffness / (masses[:, None] * masses).sqrt()).clamp(min=0).sqrt()
    stiffness *= (highest_frequency / frequencies[-1]) ** 2
    attraction = -stiffness
    dynamics = Dynamics(lambda q: attraction @ q, lambda q: 0.5 * (q * (stiffness @ q)).sum((-2, -1)), masses)
    return Problem(dynamics, q, p - p.mean(1, keepdim=True), 2000.0)


WORK_PRECISION: dict[str, Callable[[], Problem]] = {
    "Hénon–Heiles": henon_heiles,
    "pendulum": pendulum,
    "Kepler, e = 0.6": kepler,
    "six bodies, Plummer": plummer,
}
