"""The solution of x = g(x; y, θ) as a differentiable function of y and θ, to any order.

    J = ∂g/∂x,      u = x̄ + Jᵀu,      ȳ = (∂g/∂y)ᵀu,      θ̄ = (∂g/∂θ)ᵀu

By the implicit function theorem a gradient x̄ of the solution reaches y and θ as the gradient u of g. The equation for u
is a fixed point too, solved as the first one to the same tolerance by products with Jᵀ, and is differentiated in
the same way; nothing of the iterations is kept.

Shape letters: B batch, s stages, D unknowns of q or of p per stage.
Reference: Bai, Kolter, Koltun, "Deep Equilibrium Models", NeurIPS 2019, section 3.1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.fixed_point import FixedPointSolver, Map, Unknowns
from lie_sim.integrators.isolated import independent, isolated, pulled_back
from lie_sim.integrators.leaves import require_known

MapOf = Callable[..., Map]


def solve_implicit(
    solver: FixedPointSolver,
    map_of: MapOf,
    inputs: tuple[Tensor, ...],
    guess: Unknowns,
    weight: Float[Tensor, "B 1 2 1"],
    *,
    parameters: tuple[Tensor, ...] = (),
    dynamics: object = None,
) -> Unknowns:
    """The solution x = g(x), differentiable in the inputs and parameters.

    Args:
        solver: how to solve, and what to do with systems that fail.
        map_of: makes the map g of the inputs; it must treat every system apart.
        inputs: tensors y that g depends on.
        guess: where to start, shape (B, s, 2, D).
        weight: 1 / scale of the unknowns of q and of p, as for the solver.
        parameters: leaves θ that g depends on too, not passed to ``map_of``; as found by
            :func:`~lie_sim.integrators.leaves.known_leaves`.
        dynamics: what they were found in.

    Raises:
        ConvergenceError: a system has not converged, here or in the backward pass.
        RuntimeError: in the backward pass, if g depends on a leaf that is not among the parameters.

    Example:
        >>> k = torch.full((1, 1, 2, 1), 0.5, dtype=torch.float64, requires_grad=True)
        >>> x = solve_implicit(FixedPointSolver(), lambda k: lambda x: k * x + 1, (k,), k, k)
        >>> x.sum().backward()
        >>> [round(y, 12) for y in (*x.flatten().tolist(), *k.grad.flatten().tolist())]
        [2.0, 2.0, 4.0, 4.0]
    """
    with torch.no_grad():
        value, failed = solver.solve(map_of(*inputs), guess, weight)
    tensors = (*inputs, *parameters)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        problem = _Problem(map_of, solver, len(inputs), dynamics)
        value = _Implicit.apply(value, problem, *tensors)
    return value if failed is None else torch.where(failed[:, None, None, None], torch.nan, value)


@dataclass(frozen=True)
class _Problem:
    """How to make the map again, and to solve with it."""

    map_of: MapOf
    solver: FixedPointSolver
    num_inputs: int
    dynamics: object


class _Implicit(torch.autograd.Function):
    """The solution x of x = g(x) as a function of all that g depends on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, problem: _Problem, *tensors: Tensor) -> Tensor:
        x = x.clone()
        ctx.problem = problem
        ctx.save_for_backward(x, *tensors)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        problem, (x, *tensors) = ctx.problem, ctx.saved_tensors
        inputs, parameters = tuple(tensors[: problem.num_inputs]), tuple(tensors[problem.num_inputs :])
        u = _solved_adjoint(problem, gradient, x, inputs, parameters)

        def slopes(u: Tensor, x: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
            free = independent(inputs)
            with torch.enable_grad():
                value = problem.map_of(*free)(x)
            if not torch.is_grad_enabled():
                require_known(problem.dynamics, [value], (*free, *parameters))
            return pulled_back([value], (*free, *parameters), [u])

        return None, None, *isolated(slopes, (u, x, *inputs), parameters)


def _solved_adjoint(
    problem: _Problem,
    gradient: Tensor,
    x: Tensor,
    inputs: tuple[Tensor, ...],
    parameters: tuple[Tensor, ...],
) -> Tensor:
    """The solution of u = ḡ + Jᵀu, differentiable in the gradient, the solution, the inputs and the parameters."""
    adjoint_of = _adjoint_of(problem.map_of)
    with torch.no_grad():
        guess = adjoint_of(gradient, x, *inputs)(gradient)
    return solve_implicit(
        problem.solver,
        adjoint_of,
        (gradient, x, *inputs),
        guess,
        _weight(guess),
        parameters=parameters,
        dynamics=problem.dynamics,
    )


def _adjoint_of(map_of: MapOf) -> MapOf:
    """The map u ↦ ḡ + Jᵀu of (ḡ, x, inputs), J being the derivative of g at x."""

    def adjoint_of(gradient: Tensor, x: Tensor, *inputs: Tensor) -> Map:
        x, *others = independent((x, *inputs))
        with torch.enable_grad():
            value = map_of(*others)(x)
        return lambda u: gradient + pulled_back([value], [x], [u])[0]

    return adjoint_of


def _weight(gradient: Unknowns) -> Float[Tensor, "B 1 2 1"]:
    """1 / size of the gradient of q and of p; where one is 0 (or has no inverse), of both."""
    size, smallest = gradient.detach().abs().amax((1, 3), keepdim=True), torch.finfo(gradient.dtype).tiny
    size = torch.where(size > smallest, size, size.amax(2, keepdim=True))
    return torch.where(size > smallest, 1 / size, 0.0)
