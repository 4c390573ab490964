"""Gauss–Legendre collocation: symplectic for any Hamiltonian, separable or not, of order 2, 4 and 6.

    k_i = f(y + h Σ_j a_ij k_j),      y ← y + h Σ_i b_i k_i,      y = (q, p),      f = (∂H/∂p, −∂H/∂q)

With s stages at the Gauss nodes c_i the order is 2s. The step is symplectic and time-reversible, conserves every
quadratic invariant (momentum, angular momentum) and is stable at any h for a linear system; all of that holds only as
exactly as the stage equations are solved, hence to round-off by default (:mod:`lie_sim.integrators.fixed_point`).
The first guess extrapolates the slopes of the steps before, which the memory holds; it decides how long the
solution takes, not what it is.

Shape letters: B batch, N particles, d space dimension, s stages, M kept slopes, D = N·d.
References: Hairer, Lubich, Wanner, "Geometric Numerical Integration", Springer 2006, sections II.1.3, VIII.6;
Kuntzmann (1961); Butcher, Math. Comp. 18 (1964) 50.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.fixed_point import FixedPointSolver
from lie_sim.integrators.implicit_function import solve_implicit
from lie_sim.integrators.leaves import known_leaves
from lie_sim.integrators.method import Memory, Method, StepSize, broadcast_step
from lie_sim.integrators.vector_field import VectorField, vector_field

LARGEST_AMPLIFICATION = 1e4
"""Extrapolation that could multiply an error by more is replaced by the latest slope."""


@dataclass(frozen=True)
class Tableau:
    """Coefficients of a Runge–Kutta method, and how many of the last slopes its first guess is drawn from."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    kept: int


_R3, _R15 = math.sqrt(3.0), math.sqrt(15.0)
GAUSS_1 = Tableau(a=((0.5,),), b=(1.0,), c=(0.5,), kept=6)
GAUSS_2 = Tableau(
    a=((1 / 4, 1 / 4 - _R3 / 6), (1 / 4 + _R3 / 6, 1 / 4)),
    b=(1 / 2, 1 / 2),
    c=(1 / 2 - _R3 / 6, 1 / 2 + _R3 / 6),
    kept=4,
)
GAUSS_3 = Tableau(
    a=(
        (5 / 36, 2 / 9 - _R15 / 15, 5 / 36 - _R15 / 30),
        (5 / 36 + _R15 / 24, 2 / 9, 5 / 36 - _R15 / 24),
        (5 / 36 + _R15 / 30, 2 / 9 + _R15 / 15, 5 / 36),
    ),
    b=(5 / 18, 4 / 9, 5 / 18),
    c=(1 / 2 - _R15 / 10, 1 / 2, 1 / 2 + _R15 / 10),
    kept=6,
)


@dataclass(frozen=True)
class GaussMethod(Method):
    """What the Gauss–Legendre methods have in common; use one of its subclasses.

    Args:
        tolerance: largest increment at which the stages of a system count as solved, relative to its q and p;
            None means a few rounding errors. With a looser one the step is symplectic only that far.
        max_iterations: iterations per step at most, each an evaluation of the vector field per stage.
        on_failure: ``"raise"`` a ``ConvergenceError`` if a system does not converge, or mark it with ``"nan"``
            and let the others go on.
    """

    tableau: ClassVar[Tableau]

    tolerance: float | None = None
    max_iterations: int = 60
    on_failure: str = "raise"
    symplectic: bool = field(default=True, init=False)
    reversible: bool = field(default=True, init=False)
    remembers = ("slopes", "times")

    def __post_init__(self) -> None:
        self._solver()

    def _solver(self) -> FixedPointSolver:
        return FixedPointSolver(self.tolerance, self.max_iterations, self.on_failure)

    def dynamics(self, candidate: Any) -> VectorField:
        """Anything with ``vector_field(t, (q, p))``; see :func:`vector_field`."""
        return vector_field(candidate)

    def advance(
        self,
        dynamics: VectorField,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps; the memory holds the last slopes and their times, for the next first guess.

        Raises:
            ConvergenceError: the stages of a system were not solved; h is too large for it, most likely.
        """
        h = broadcast_step(step_size, q.flatten(1)[:, None, None])
        h = h.expand(len(q), 1, 1, 1) if isinstance(h, Tensor) else q.new_full((len(q), 1, 1, 1), h)
        y, memory = torch.stack([q.flatten(1), p.flatten(1)], 1), memory or {}
        stages_of = partial(_Stages, dynamics, q.shape, self.tableau)
        parameters = _parameters(stages_of(y.detach().requires_grad_(True), h)) if num_steps else ()
        solve = partial(solve_implicit, self._solver(), stages_of, parameters=parameters, dynamics=dynamics)
        for _ in range(num_steps):
            stages = stages_of(y, h)
            with torch.no_grad():
                guess = stages.guess(memory)
                weight = stages.weight(guess)
            slopes = solve((y, h), guess, weight)
            y, memory = stages.end(slopes), stages.remember(slopes.detach(), memory)
        return y[:, 0].reshape(q.shape), y[:, 1].reshape(p.shape), memory


def _parameters(stages: _Stages) -> tuple[Tensor, ...]:
    """What the vector field depends on beside q and p, if gradients are recorded."""
    if not torch.is_grad_enabled():
        return ()
    return known_leaves(stages.field, [stages.rate(stages.y)], [stages.y])


class _Stages:
    """The stage equations of one step, k ↦ f(y + h a k), and what surrounds their solution."""

    def __init__(
        self,
        field: VectorField,
        shape: torch.Size,
        tableau: Tableau,
        y: Float[Tensor, "B 2 D"],
        h: Float[Tensor, "B 1 1 1"],
    ) -> None:
        self.field, self.shape, self.tableau, self.y, self.h = field, shape, tableau, y, h
        self.c = y.new_tensor(tableau.c)
        self.a = y.new_tensor(tableau.a)[..., None, None] * h[..., None]
        self.b = y.new_tensor(tableau.b)[:, None, None] * h

    def __call__(self, slopes: Float[Tensor, "B s 2 D"]) -> Float[Tensor, "B s 2 D"]:
        """The vector field at the stages that have these slopes."""
        stages = self.y[:, None] + (self.a * slopes[:, None]).sum(2)
        return torch.stack([self.rate(y) for y in stages.unbind(1)], 1)

    def rate(self, y: Float[Tensor, "B 2 D"]) -> Float[Tensor, "B 2 D"]:
        q, p = (part.contiguous().reshape(self.shape) for part in y.unbind(1))
        dq, dp = self.field(q, p)
        return torch.stack([dq.flatten(1), dp.flatten(1)], 1)

    def end(self, slopes: Float[Tensor, "B s 2 D"]) -> Float[Tensor, "B 2 D"]:
        """The state at the end of the step."""
        return self.y + (self.b * slopes).sum(1)

    def weight(self, slopes: Float[Tensor, "B s 2 D"]) -> Float[Tensor, "B 1 2 1"]:
        """|h| / (size of q, size of p): makes an increment of the slopes a relative one of the state."""
        size = self.y[:, None].abs().amax(3, keepdim=True)
        size = size + self.h.abs() * slopes.abs().amax((1, 3), keepdim=True)
        return torch.where(size > torch.finfo(size.dtype).tiny, self.h.abs() / size, 0.0)

    def guess(self, memory: Memory) -> Float[Tensor, "B s 2 D"]:
        """Slopes of the stages, from the polynomial through the last ones; at the start, that of y."""
        if "slopes" not in memory:
            return self.rate(self.y)[:, None].expand(-1, len(self.tableau.c), -1, -1)
        weights = _lagrange(memory["times"], self.c * self.h[:, 0, 0])
        return (weights[..., None, None] * memory["slopes"][:, None]).sum(2)

    def remember(self, slopes: Float[Tensor, "B s 2 D"], memory: Memory) -> Memory:
        """The last slopes and their times, counted from the end of this step."""
        h = self.h[:, 0, 0].detach()
        times, kept = (self.c - 1) * h, slopes
        if "slopes" in memory:
            times = torch.cat([memory["times"] - h, times], 1)
            kept = torch.cat([memory["slopes"], slopes], 1)
        return {"slopes": kept[:, -self.tableau.kept :], "times": times[:, -self.tableau.kept :]}


def _lagrange(nodes: Float[Tensor, "B M"], at: Float[Tensor, "B s"]) -> Float[Tensor, "B s M"]:
    """Weights of the values at ``nodes`` in the polynomial through them, at other places.

    Where they are large or the nodes coincide, all weight is on the last value.
    """
    same = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
    between = (nodes[:, :, None] - nodes[:, None]).masked_fill(same, 1.0)
    beyond = (at[:, :, None, None] - nodes[:, None, None]).expand(-1, -1, nodes.shape[1], -1)
    weights = (beyond / between[:, None]).masked_fill(same, 1.0).prod(3)
    usable = weights.abs().sum(2, keepdim=True) <= LARGEST_AMPLIFICATION
    return torch.where(usable, weights, same[-1].to(weights))


@dataclass(frozen=True)
class ImplicitMidpoint(GaussMethod):
    """Implicit midpoint rule, order 2: y' = y + h f((y + y')/2). Options as in :class:`GaussMethod`.

    Example:
        >>> from lie_sim import GeneralHamiltonian, Particles
        >>> H = GeneralHamiltonian(lambda q, p, _: ((1 + q**2) * (1 + p**2)).sum((1, 2)) / 2)
        >>> H = H.bind(Particles(masses=torch.ones(1, 1, dtype=torch.float64)))
        >>> method, start = ImplicitMidpoint(), torch.ones(1, 1, 1, dtype=torch.float64)
        >>> q, p, _ = method.advance(method.dynamics(H), start, start, step_size=0.1, num_steps=50)
        >>> abs(float((1 + q**2) * (1 + p**2)) / 4 - 1) < 1e-2
        True
    """

    tableau: ClassVar[Tableau] = GAUSS_1
    name: str = field(default="implicit_midpoint_h", init=False)
    order: int = field(default=2, init=False)
    citation: str = field(
        default="Hairer, Lubich, Wanner, Geometric Numerical Integration (2006), section II.1.3", init=False
    )


@dataclass(frozen=True)
class Gauss4(GaussMethod):
    """Gauss–Legendre collocation with 2 stages, order 4. Options as in :class:`GaussMethod`."""

    tableau: ClassVar[Tableau] = GAUSS_2
    name: str = field(default="gauss4", init=False)
    order: int = field(default=4, init=False)
    citation: str = field(default="Hammer, Hollingsworth, Math. Comp. 9 (1955) 92", init=False)


@dataclass(frozen=True)
class Gauss6(GaussMethod):
    """Gauss–Legendre collocation with 3 stages, order 6. Options as in :class:`GaussMethod`."""

    tableau: ClassVar[Tableau] = GAUSS_3
    name: str = field(default="gauss6", init=False)
    order: int = field(default=6, init=False)
    citation: str = field(default="Kuntzmann (1961); Butcher, Math. Comp. 18 (1964) 50", init=False)


IMPLICIT_METHODS = (ImplicitMidpoint(), Gauss4(), Gauss6())
