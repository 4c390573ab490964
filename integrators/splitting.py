"""Splitting methods for separable Hamiltonians, as coefficient tables.

With H(q, p) = T(p) + V(q) both parts are solved exactly; one step of length h is a product of their flows:

    kick    p ← p + b_i h F(q),    F = −∂V/∂q
    drift   q ← q + a_i h v(p),    v =  ∂T/∂p
    Σ a_i = Σ b_i = 1

Every such product is symplectic; it is time-reversible if the sequence reads the same backwards. A new method
is a new row in :mod:`lie_sim.integrators.coefficients`: nothing but the coefficients is needed.

The force is evaluated only after q has changed and neighbouring flows of the same kind are joined across step
borders, so leapfrog costs one force per step, and one more per run. Everything is done by differentiable
operations: with gradients enabled, autograd gives the exact derivative of the discrete map, with respect to
the initial state, the step size and every parameter behind the force.

Shape letters: B batch, N particles, d space dimension.
Reference: Hairer, Lubich, Wanner, "Geometric Numerical Integration", Springer 2006, chapters II and VI.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass
from functools import cached_property
from itertools import chain, zip_longest
from typing import Any

import torch
from torch import Tensor

from lie_sim.integrators.dynamics import SeparableDynamics, check_rate, separable_dynamics
from lie_sim.integrators.method import Memory, Method, StepSize, add_scaled, broadcast_step

COEFFICIENT_SUM_TOLERANCE = 1e-12
"""Published coefficients have 15 to 20 digits; a sum further from 1 than this is a misprint."""


@dataclass(frozen=True)
class Stage:
    """One flow of a splitting: a kick (changes p) or a drift (changes q) over ``coefficient`` steps."""

    is_kick: bool
    coefficient: float


@dataclass(frozen=True)
class SplittingMethod(Method):
    """A splitting method and what it claims; the tests hold every claim against a measurement.

    Kicks and drifts alternate. With one kick more than drifts the step begins and ends with a kick, with one
    drift more it begins and ends with a drift, with as many of each it begins with a kick.

    Args:
        name: the key under which :func:`get_method` knows it.
        order: the error at a fixed time shrinks as h**order.
        kicks: coefficients b_i in the order of use; they sum to 1.
        drifts: coefficients a_i in the order of use; they sum to 1.
        citation: where the coefficients come from.
        symplectic: whether a step conserves the symplectic form.
        reversible: whether a step of −h undoes a step of h, as it does if the step reads the same backwards.

    Raises:
        ValueError: the coefficients do not alternate or sum to 1, or are not those of a reversible method.

    Example:
        >>> from lie_sim.integrators import get_method
        >>> method = get_method("leapfrog")
        >>> method.order, method.kicks, method.drifts, method.forces_per_step
        (2, (0.5, 0.5), (1.0,), 1)
    """

    name: str
    order: int
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]
    citation: str
    symplectic: bool = True
    reversible: bool = True
    remembers = ("force",)

    def __post_init__(self) -> None:
        if abs(len(self.kicks) - len(self.drifts)) > 1:
            raise ValueError(
                f"{self.name}: kicks and drifts must alternate, so their numbers differ by at most 1; "
                f"got {len(self.kicks)} kicks and {len(self.drifts)} drifts"
            )
        for kind, coefficients in (("kicks", self.kicks), ("drifts", self.drifts)):
            total = math.fsum(coefficients)
            if not abs(total - 1) < COEFFICIENT_SUM_TOLERANCE:
                raise ValueError(
                    f"{self.name}: the {kind} must sum to 1, got {total!r}; check the coefficients"
                )
        if self.reversible and not self._is_palindrome():
            raise ValueError(
                f"{self.name} does not read the same backwards, so it is not reversible: check the coefficients, or "
                "say reversible=False"
            )

    def _is_palindrome(self) -> bool:
        pairs = zip(self.stages, self.stages[::-1], strict=True)
        return all(
            a.is_kick == b.is_kick and abs(a.coefficient - b.coefficient) < COEFFICIENT_SUM_TOLERANCE
            for a, b in pairs
        )

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The flows of one step in the order of use."""
        kicks = [Stage(is_kick=True, coefficient=b) for b in self.kicks]
        drifts = [Stage(is_kick=False, coefficient=a) for a in self.drifts]
        first, second = (drifts, kicks) if len(drifts) > len(kicks) else (kicks, drifts)
        return tuple(stage for stage in chain(*zip_longest(first, second)) if stage is not None)

    @property
    def first_same_as_last(self) -> bool:
        """Whether the force of a step's last kick serves the next step's first kick."""
        return self.stages[0].is_kick and self.stages[-1].is_kick

    @property
    def forces_per_step(self) -> int:
        """Force evaluations of one step in a long run (one more per run if ``first_same_as_last``)."""
        return len(self.kicks) - int(self.first_same_as_last)

    def dynamics(self, candidate: Any) -> SeparableDynamics:
        """Anything with ``force(q)`` and ``velocity(p)``; see :func:`separable_dynamics`."""
        return separable_dynamics(candidate)

    def advance(
        self,
        dynamics: SeparableDynamics,
        q: Tensor,
        p: Tensor,
        *,
        step_size: StepSize,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """Do ``num_steps`` steps; the memory holds the force at q where it is known."""
        return self.steps(dynamics, q, p, broadcast_step(step_size, q), num_steps, memory)

    def steps(
        self,
        dynamics: SeparableDynamics,
        q: Tensor,
        p: Tensor,
        h: float | Tensor,
        num_steps: int,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Tensor, Memory]:
        """:meth:`advance` with a step that broadcasts against q already.

        Without gradients the momenta are changed in place from the second kick on. The positions never are: a force
        may keep those it was called with, as one with a list of neighbours does.
        """
        in_place, owned = not torch.is_grad_enabled(), False
        force, checked = (memory or {}).get("force"), memory is not None
        if not checked:
            check_rate("velocity(p)", dynamics.velocity(p), p)
        for stage in self.joined_stages(num_steps):
            duration = stage.coefficient * h
            if not stage.is_kick:
                q, force = add_scaled(q, dynamics.velocity(p), duration), None
                continue
            if force is None:
                force = dynamics.force(q)
            if not checked:
                check_rate("force(q)", force, q)
                checked = True
            p = add_scaled(p, force, duration, in_place=owned)
            owned = in_place
        return q, p, {} if force is None else {"force": force}

    def joined_stages(self, num_steps: int, *, backwards: bool = False) -> Iterator[Stage]:
        """The flows of several steps; where a step ends with the kind the next begins with, the two are one.

        Args:
            num_steps: how many steps.
            backwards: the same flows, last one first.
        """
        stages = self.stages[::-1] if backwards else self.stages
        first, *inner, last = stages
        if num_steps < 1:
            return
        if first.is_kick != last.is_kick:
            for _ in range(num_steps):
                yield from stages
            return
        joint = Stage(is_kick=first.is_kick, coefficient=last.coefficient + first.coefficient)
        yield first
        for _ in range(num_steps - 1):
            yield from inner
            yield joint
        yield from inner
        yield last

    def _option_fields(self) -> tuple[Field[Any], ...]:
        return ()  # coefficients are what the method is, not options

    def force_evaluations(self, num_steps: int) -> int:
        """Force evaluations of a run of ``num_steps`` steps, however often its state is saved."""
        return num_steps * self.forces_per_step + int(self.first_same_as_last)


def composed_leapfrog(weights: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Kicks and drifts of successive leapfrog steps of lengths w_i h, neighbouring half kicks added up.

    Example:
        >>> composed_leapfrog((0.5, 0.5))
        ((0.25, 0.5, 0.25), (0.5, 0.5))
    """
    ends = (0.0, *weights, 0.0)
    return tuple((ends[i] + ends[i + 1]) / 2 for i in range(len(weights) + 1)), weights
