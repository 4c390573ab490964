"""All methods of the package by their names.

A new family of methods is one more tuple in ``_ALL``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from lie_sim.integrators.adaptive import ADAPTIVE_METHODS
from lie_sim.integrators.coefficients import SPLITTING_METHODS
from lie_sim.integrators.extended import EXTENDED_METHODS
from lie_sim.integrators.implicit import IMPLICIT_METHODS
from lie_sim.integrators.kinetic_baths import RESCALING_METHODS
from lie_sim.integrators.lie_group import LIE_GROUP_METHODS
from lie_sim.integrators.method import Method
from lie_sim.integrators.rattle import CONSTRAINED_METHODS
from lie_sim.integrators.rigid_body import RIGID_BODY_METHODS
from lie_sim.integrators.splitting import SplittingMethod
from lie_sim.integrators.thermostats import LANGEVIN_METHODS

_ALL: tuple[Method, ...] = (
    *SPLITTING_METHODS,
    *IMPLICIT_METHODS,
    *EXTENDED_METHODS,
    *ADAPTIVE_METHODS,
    *LANGEVIN_METHODS,
    *RESCALING_METHODS,
    *CONSTRAINED_METHODS,
    *LIE_GROUP_METHODS,
    *RIGID_BODY_METHODS,
)
_METHODS = MappingProxyType({method.name: method for method in _ALL})
ALIASES = MappingProxyType({"velocity_verlet": "leapfrog"})
"""Other names of the same methods."""


def methods() -> tuple[Method, ...]:
    """All methods of this package.

    Example:
        >>> [method.name for method in methods()][:3]
        ['symplectic_euler', 'leapfrog', 'position_verlet']
    """
    return _ALL


def splitting_methods() -> tuple[SplittingMethod, ...]:
    """The methods that are tables of kicks and drifts, lowest order first.

    Example:
        >>> max(splitting_methods(), key=lambda method: method.order).name
        'kahan_li8'
    """
    return SPLITTING_METHODS


def is_method(name: object) -> bool:
    """Whether ``name`` is one of :func:`methods` or a :class:`Method`, as opposed to a solver of torchdiffeq."""
    return isinstance(name, Method) or (isinstance(name, str) and (name in _METHODS or name in ALIASES))


def get_method(name: str | Method, **options: Any) -> Method:
    """The method of that name, with options of its own; a :class:`Method` is taken as it is.

    Raises:
        ValueError: there is no such method, or it has no such option.

    Example:
        >>> get_method("velocity_verlet").name
        'leapfrog'
    """
    if isinstance(name, Method):
        return name.with_options(**options)
    if not is_method(name):
        raise ValueError(
            f"unknown method {name!r}; choose one of {', '.join([*_METHODS, *ALIASES])}, or call "
            "lie_sim.integrators.odeint, which also knows torchdiffeq's methods"
        )
    return _METHODS[ALIASES.get(name, name)].with_options(**options)
