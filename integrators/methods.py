"""Splitting methods for separable Hamiltonians, as coefficient tables.

With H(q, p) = T(p) + V(q) both parts are solved exactly; one step of length h is a product of their flows:

    kick    p ← p + b_i h F(q),    F = −∂V/∂q
    drift   q ← q + a_i h v(p),    v =  ∂T/∂p
    Σ a_i = Σ b_i = 1

Every such product is symplectic; it is time-reversible if the sequence reads the same backwards. A new method
is a new row in ``_TABLE``: the stepper needs nothing but the coefficients.

Reference: Hairer, Lubich, Wanner, "Geometric Numerical Integration", Springer 2006, chapters II and VI.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from types import MappingProxyType

COEFFICIENT_SUM_TOLERANCE = 1e-12
"""Published coefficients have 15 to 20 digits; a sum further from 1 than this is a misprint."""


@dataclass(frozen=True)
class Stage:
    """One flow of a splitting: a kick (changes p) or a drift (changes q) over ``coefficient`` steps."""

    is_kick: bool
    coefficient: float


@dataclass(frozen=True)
class SplittingMethod:
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
        reversible: whether a step of −h undoes a step of h.

    Example:
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


_YOSHIDA4_OUTER = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
_YOSHIDA4_KICKS, _YOSHIDA4_DRIFTS = composed_leapfrog(
    (_YOSHIDA4_OUTER, 1.0 - 2.0 * _YOSHIDA4_OUTER, _YOSHIDA4_OUTER)
)
_XI, _LAMBDA, _CHI = 0.1786178958448091, -0.2123418310626054, -0.06626458266981849

_TABLE = (
    SplittingMethod(
        name="leapfrog",
        order=2,
        kicks=(0.5, 0.5),
        drifts=(1.0,),
        citation="Verlet, Phys. Rev. 159 (1967) 98; kick-drift-kick form (velocity Verlet): "
        "Swope et al., J. Chem. Phys. 76 (1982) 637",
    ),
    SplittingMethod(
        name="yoshida4",
        order=4,
        kicks=_YOSHIDA4_KICKS,
        drifts=_YOSHIDA4_DRIFTS,
        citation="Forest, Ruth, Physica D 43 (1990) 105; Yoshida, Phys. Lett. A 150 (1990) 262",
    ),
    SplittingMethod(
        name="pefrl",
        order=4,
        kicks=(0.5 - _LAMBDA, _LAMBDA, _LAMBDA, 0.5 - _LAMBDA),
        drifts=(_XI, _CHI, 1.0 - 2.0 * (_CHI + _XI), _CHI, _XI),
        citation="Omelyan, Mryglod, Folk, Comput. Phys. Commun. 146 (2002) 188",
    ),
)
_METHODS = MappingProxyType({method.name: method for method in _TABLE})


def methods() -> tuple[SplittingMethod, ...]:
    """All splitting methods, lowest order first.

    Example:
        >>> [method.name for method in methods()]
        ['leapfrog', 'yoshida4', 'pefrl']
    """
    return tuple(_METHODS.values())


def is_splitting_method(name: object) -> bool:
    """Whether ``name`` is one of :func:`methods`, as opposed to a solver of torchdiffeq."""
    return isinstance(name, SplittingMethod) or (isinstance(name, str) and name in _METHODS)


def get_method(name: str | SplittingMethod) -> SplittingMethod:
    """The splitting method of that name; a :class:`SplittingMethod` is returned as it is.

    Raises:
        ValueError: there is no such splitting method.
    """
    if isinstance(name, SplittingMethod):
        return name
    if name not in _METHODS:
        raise ValueError(
            f"unknown splitting method {name!r}; choose one of {', '.join(_METHODS)}, or call "
            "lie_sim.integrators.odeint, which also knows torchdiffeq's methods"
        )
    return _METHODS[name]
