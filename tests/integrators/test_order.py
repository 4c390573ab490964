"""The order that a method declares against its error on three systems, two of them far from harmonic.

    slope = log₂(error(2h) / error(h)),      error against DOP853 at 3e-14

Rigid bodies, thermostats, constraints and steps that adapt have systems of their own, in the tests of their files.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lie_sim.integrators import Method, get_method, integrate, splitting_methods

ORDER_TOLERANCE = 0.1  # measured: within 0.04
METHODS = [
    *splitting_methods(),
    *map(get_method, ("implicit_midpoint_h", "gauss4", "gauss6", "tao2", "tao4")),
]


class System:
    """Unit mass, one particle; q has the shape (B, 1, d)."""

    start: tuple[tuple[float, ...], tuple[float, ...]]
    duration: float
    steps: ClassVar[
        dict[int, int]
    ]  # by order: fine enough for the leading term, coarse enough to be above round-off

    def force(self, q: Tensor) -> Tensor:
        raise NotImplementedError

    def velocity(self, p: Tensor) -> Tensor:
        return p


class HenonHeiles(System):
    """V = (x² + y²)/2 + x²y − y³/3."""

    start, duration = ((0.3, -0.2), (0.1, 0.25)), 8.0
    steps: ClassVar = {1: 512, 2: 256, 4: 256, 6: 64, 8: 48}

    def force(self, q: Tensor) -> Tensor:
        x, y = q.unbind(-1)
        return torch.stack([-x - 2 * x * y, -y - x.square() + y.square()], -1)


class Pendulum(System):
    """V = −cos q."""

    start, duration = ((1.2,), (0.4,)), 6.0
    steps: ClassVar = {1: 512, 2: 256, 4: 256, 6: 48, 8: 48}

    def force(self, q: Tensor) -> Tensor:
        return -q.sin()


class Kepler(System):
    """V = −1/|q|, from the perihelion of an orbit with eccentricity 0.6."""

    start, duration = ((0.4, 0.0), (0.0, 2.0)), 3.0
    steps: ClassVar = {1: 1024, 2: 256, 4: 384, 6: 96, 8: 64}

    def force(self, q: Tensor) -> Tensor:
        return -q / q.square().sum(-1, keepdim=True) ** 1.5


SYSTEMS = [HenonHeiles(), Pendulum(), Kepler()]


@pytest.fixture(scope="module")
def truths() -> dict[str, Tensor]:
    return {type(system).__name__: truth(system) for system in SYSTEMS}


def truth(system: System) -> Tensor:
    """(q, p) at the end, by an independent integrator."""
    dim = len(system.start[0])

    def rate(_: float, z: np.ndarray) -> np.ndarray:
        return np.concatenate([z[dim:], system.force(torch.tensor(z[None, None, :dim])).numpy().ravel()])

    found = solve_ivp(rate, (0, system.duration), np.ravel(system.start), "DOP853", rtol=3e-14, atol=1e-15)
    return torch.tensor(found.y[:, -1])


def error(system: System, method: Method, num_steps: int, exact: Tensor) -> float:
    q, p = (torch.tensor(part, dtype=torch.float64).reshape(1, 1, -1) for part in system.start)
    step = {"step_size": system.duration / num_steps, "num_steps": num_steps, "save_every": num_steps}
    q, p = integrate(system, q, p, **step, method=method)
    return float((torch.cat([q[0, -1], p[0, -1]], -1).flatten() - exact).norm())


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: type(system).__name__)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_order_is_as_declared(method: Method, system: System, truths: dict[str, Tensor]) -> None:
    fine = (
        1024 if method.name == "tao4" else system.steps[method.order]
    )  # its copies must hold together first
    exact = truths[type(system).__name__]
    slope = math.log2(error(system, method, fine // 2, exact) / error(system, method, fine, exact))
    assert abs(slope - method.order) < ORDER_TOLERANCE, f"slope {slope:.3f}, declared {method.order}"
