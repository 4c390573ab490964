"""Runge–Kutta methods on Lie groups: the group element stays in its group, whatever the error.

    g' = g ξ^(g, μ),    μ' = f(g, μ)

Stages are reached by exponentials, with x_j = h ξ_j and i = 1, …, s + 1, the last of them being the result:

    commutator-free     G_i = g exp(Σ_j α_ij¹ x_j) exp(Σ_j α_ij² x_j) …
    Munthe-Kaas         G_i = g exp(u_i),    u_i = Σ_j a_ij h dexp⁻¹(u_j, ξ_j)
                        dexp⁻¹(u, ξ) = ξ + ½ [u, ξ] + ¹⁄₁₂ [u, [u, ξ]]

Both are written for g' = g ξ^ (velocity seen from the body); in the papers, where it stands on the left, products are
in the opposite order and the single commutator has the other sign. A commutator-free method on G × R^k is the same
table with the product of exponentials replaced by the sum of its exponents, and so the momentum is carried along:
M_i = μ + Σ_j (Σ_l α_ij^l) h f_j. Multiplying g by a constant element from the left commutes with every method.

Exponentials are the closed forms of :mod:`lie_sim.groups`, and each step ends with the return to the group of
:mod:`lie_sim.integrators.lie_algebra`, so that the defect of orthogonality does not grow with time.

None of these methods is symplectic or reversible: energy drifts. They are for accuracy over times that are not long,
for dissipative or driven bodies, and for groups without a splitting.

Shape letters: B batch, m matrix size, a dimension of the Lie algebra, k length of the momentum.
Reference: Iserles, Munthe-Kaas, Nørsett, Zanna, "Lie-group methods", Acta Numerica 9 (2000) 215.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import Field, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.lie_algebra import back_to_group, has_moved, inverse_dexp, structure_constants
from lie_sim.integrators.lie_dynamics import LieGroupDynamics, check_elements, check_state, lie_group_dynamics
from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step

Weights = tuple[float, ...]
CONSISTENCY_TOLERANCE = 1e-12
"""A table whose weights sum to something further from 1 than this is a misprint."""


class LieGroupMethod(Method):
    """What the two families share: the state, and the return to the group after each step."""

    symplectic = False
    reversible = False
    remembers = ()

    def dynamics(self, candidate: Any) -> LieGroupDynamics:
        """Anything with ``group``, ``algebra_velocity`` and ``momentum_rate``, or a system of rigid bodies."""
        return lie_group_dynamics(candidate)

    def check_shapes(self, q: Tensor, p: Tensor) -> None:
        """Elements and momenta have shapes of their own, which :meth:`advance` compares with the group."""

    def advance(
        self,
        dynamics: LieGroupDynamics,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps with q = g, shape (B, …, m, m), and p = μ, shape (B, …, k); nothing is remembered."""
        check_state(dynamics.group, q, p)
        if memory is None:
            check_elements(dynamics.group, q)
        h, moved = broadcast_step(step_size, p), has_moved(step_size, q)
        for _ in range(num_steps):
            q, p = self.step(dynamics, q, p, h)
            q = back_to_group(dynamics.group, q, moved)
        return q, p, {}

    @abstractmethod
    def step(
        self, dynamics: LieGroupDynamics, g: Tensor, mu: Tensor, h: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step, before the return to the group; h broadcasts against μ."""

    def _option_fields(self) -> tuple[Field[Any], ...]:
        return ()  # coefficients are what the method is, not options


@dataclass(frozen=True)
class CommutatorFree(LieGroupMethod):
    """A method of products of exponentials; ``products[i][l]`` holds the weights α_i^l.

    Args:
        name: the key under which :func:`get_method` knows it.
        order: the error at a fixed time shrinks as h**order.
        products: for each stage, and at last for the result, the exponentials from left to right, each given by its
            weights of the velocities of the stages before.
        citation: where the coefficients come from.

    Raises:
        ValueError: a stage uses velocities that are not known yet, or the weights of the result do not sum to 1.

    Example:
        >>> from lie_sim.integrators import get_method
        >>> get_method("commutator_free4").products[-1][0]
        (0.25, 0.16666666666666666, 0.16666666666666666, -0.08333333333333333)
    """

    name: str
    order: int
    products: tuple[tuple[Weights, ...], ...]
    citation: str

    def __post_init__(self) -> None:
        _check_table(self.name, self.momentum_weights)

    @cached_property
    def momentum_weights(self) -> tuple[Weights, ...]:
        """The tables of the sums of exponents, an ordinary Runge–Kutta method."""
        lengths = [max(map(len, product), default=0) for product in self.products]
        return tuple(
            tuple(math.fsum(weights[j] for weights in product if j < len(weights)) for j in range(length))
            for product, length in zip(self.products, lengths, strict=True)
        )

    def step(
        self, dynamics: LieGroupDynamics, g: Tensor, mu: Tensor, h: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step, before the return to the group."""
        velocities: list[Tensor] = []
        rates: list[Tensor] = []
        moves: dict[Weights, Tensor] = {}  # some exponentials occur in two products
        element, momentum = g, mu
        for index, (product, row) in enumerate(zip(self.products, self.momentum_weights, strict=True)):
            element, momentum = g, mu
            for weights in product:
                if weights not in moves:
                    moves[weights] = dynamics.group.exp(h * weighted_sum(weights, velocities))
                element = dynamics.group.compose(element, moves[weights])
            if row:
                momentum = add_scaled(mu, weighted_sum(row, rates), h)
            if index < len(self.products) - 1:
                velocities.append(dynamics.algebra_velocity(element, momentum))
                rates.append(_rate(dynamics, element, momentum))
        return element, momentum


@dataclass(frozen=True)
class MuntheKaas(LieGroupMethod):
    """A Runge–Kutta method in the Lie algebra, of an order up to 4: dexp⁻¹ keeps two commutators.

    Args:
        name: the key under which :func:`get_method` knows it.
        order: the error at a fixed time shrinks as h**order.
        table: rows a_i of an explicit Butcher table and at last its weights b.
        citation: where it comes from.

    Raises:
        ValueError: the table is not explicit, its weights do not sum to 1, or the order is above 4.

    Example:
        >>> from lie_sim.integrators import get_method
        >>> get_method("rkmk4").table[1]
        (0.5,)
    """

    name: str
    order: int
    table: tuple[Weights, ...]
    citation: str

    def __post_init__(self) -> None:
        _check_table(self.name, self.table)
        if self.order > 4:
            raise ValueError(f"{self.name}: two commutators are enough up to order 4, not {self.order}")

    def step(
        self, dynamics: LieGroupDynamics, g: Tensor, mu: Tensor, h: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step, before the return to the group."""
        constants = structure_constants(dynamics.group, mu)
        slopes: list[Tensor] = []
        rates: list[Tensor] = []
        element, momentum = g, mu
        for index, row in enumerate(self.table):
            u = h * weighted_sum(row, slopes) if row else None
            if u is not None:
                element = dynamics.group.compose(g, dynamics.group.exp(u))
                momentum = add_scaled(mu, weighted_sum(row, rates), h)
            if index < len(self.table) - 1:
                velocity = dynamics.algebra_velocity(element, momentum)
                slopes.append(velocity if u is None else inverse_dexp(constants, u, velocity))
                rates.append(_rate(dynamics, element, momentum))
        return element, momentum


def weighted_sum(weights: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    """Σ_j w_j x_j over the weights that are not 0."""
    used = [(weight, term) for weight, term in zip(weights, terms, strict=False) if weight != 0.0]
    total = used[0][0] * used[0][1]
    for weight, term in used[1:]:
        total = torch.add(total, term, alpha=weight)
    return total


def _rate(dynamics: LieGroupDynamics, g: Tensor, mu: Tensor) -> Tensor:
    rate = dynamics.momentum_rate(g, mu)
    if rate.shape != mu.shape:
        raise ValueError(
            f"momentum_rate must have the shape of mu, {tuple(mu.shape)}; got {tuple(rate.shape)}"
        )
    return rate


def _check_table(name: str, rows: Sequence[Weights]) -> None:
    if any(len(row) > index for index, row in enumerate(rows)):
        raise ValueError(f"{name}: stage i may use the velocities of the stages before it only")
    if not rows or not abs(math.fsum(rows[-1]) - 1) < CONSISTENCY_TOLERANCE:
        raise ValueError(
            f"{name}: the weights of the result must sum to 1, got {math.fsum(rows[-1]) if rows else 0}"
        )


_KUTTA = ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6))

LIE_GROUP_METHODS = (
    CommutatorFree(
        name="lie_euler",
        order=1,
        products=((), ((1.0,),)),
        citation="Iserles, Munthe-Kaas, Norsett, Zanna, Acta Numerica 9 (2000) 215, section 2",
    ),
    CommutatorFree(
        name="crouch_grossman3",
        order=3,
        products=(
            (),
            ((3 / 4,),),
            ((119 / 216,), (0.0, 17 / 108)),
            ((13 / 51,), (0.0, -2 / 3), (0.0, 0.0, 24 / 17)),
        ),
        citation="Crouch, Grossman, J. Nonlinear Sci. 3 (1993) 1; Owren, Marthinsen, BIT 39 (1999) 116",
    ),
    MuntheKaas(
        name="rkmk4",
        order=4,
        table=_KUTTA,
        citation="Munthe-Kaas, Appl. Numer. Math. 29 (1999) 115; tableau of Kutta (1901)",
    ),
    CommutatorFree(
        name="commutator_free4",
        order=4,
        products=(
            (),
            ((1 / 2,),),
            ((0.0, 1 / 2),),
            ((1 / 2,), (-1 / 2, 0.0, 1.0)),
            ((1 / 4, 1 / 6, 1 / 6, -1 / 12), (-1 / 12, 1 / 6, 1 / 6, 1 / 4)),
        ),
        citation="Celledoni, Marthinsen, Owren, Future Gener. Comput. Syst. 19 (2003) 341",
    ),
)
