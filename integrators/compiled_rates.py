"""The force and its pull-back as two compiled functions, for runs that are stepped back.

    forth      F(q)
    back       F(q),   (∂F/∂q)ᵀ c,   (∂F/∂θ)ᵀ c       in one function: energy, gradient and double backward, fused

Both are recorded as the operations that autograd executes (as :mod:`lie_sim.integrators.compiled` records a block), so
the derivatives of derivatives need no support of the compiler. What tracing fixes: shapes, dtype, device, every branch
taken in Python, and attributes that are plain numbers. State, cotangent, the values of the weights and the particles of
a :class:`~lie_sim.hamiltonian.Hamiltonian` stay free, so one compilation serves all batches of a training run.

Shape letters: B batch, N particles, d space dimension, W numbers in all weights.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lie_sim.hamiltonian import Hamiltonian
from lie_sim.integrators.leaves import require_known
from lie_sim.integrators.rates import Rates, Slopes, add_slopes
from lie_sim.integrators.taken_for_granted import taken_for_granted
from lie_sim.integrators.tracing import trace
from lie_sim.state import Particles

_FUNCTIONS: WeakKeyDictionary[Any, dict[Any, tuple[Callable[..., Any], Any]]] = WeakKeyDictionary()
"""Compiled functions by the potential or dynamics they were traced from, which this table does not keep alive."""
MOST_FUNCTIONS = 64
"""Functions that are kept of one potential; the oldest goes first."""


class CompiledRates(Rates):
    """A force that is compiled with its pull-back; the velocity, one division, is left as it is.

    Args:
        dynamics: what ``method.dynamics`` returned.
        leaves: tensors behind force and velocity that gradients are wanted for.
        backend: of ``torch.compile``; "none" runs the traced operations as they are.

    Raises:
        ValueError: the particles' tensors were computed from others that want gradients.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> state, particles = Springs().sample(1, generator=torch.Generator().manual_seed(0))
        >>> dynamics, ones = SystemDynamics(Springs(), particles), torch.ones_like(state.q)
        >>> found = CompiledRates(dynamics, (), backend="none").pull_back(0, state.q, ones)
        >>> expected = Rates(dynamics, ()).pull_back(0, state.q, ones)
        >>> bool((found[0] == expected[0]).all() and (found[1] - expected[1]).abs().max() < 1e-14)
        True
    """

    def __init__(self, dynamics: Any, leaves: tuple[Tensor, ...], *, backend: str = "inductor") -> None:
        super().__init__(dynamics, leaves)
        self.backend = backend
        self._free = _free_tensors(dynamics)
        self._functions: dict[str, tuple[Callable[..., Any], Any]] = {}

    def rate(self, source: int, x: Tensor) -> Tensor:
        """The force at positions x (source 0), compiled, or the velocity at momenta x (source 1)."""
        if source:
            return super().rate(source, x)
        with torch.no_grad():
            force: Tensor = self._function("forth", x)[0](x, *self._free.values())
        return force

    def pull_back(self, source: int, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor | None, Slopes]:
        """As :meth:`Rates.pull_back`; slopes of the force's leaves as one vector, those of the velocity's after it."""
        if source:
            velocity, slope, others = super().pull_back(source, x, cotangent)
            return velocity, slope, [None, *others] if others else []
        with torch.no_grad():
            force, slope, flat = self._function("back", x)[0](x, cotangent, *self._free.values())
        return force, slope, [flat, *[None] * len(self.leaves)]

    def by_leaf(self, collected: Slopes) -> Slopes:
        """The vector cut into leaves, and what the velocity adds."""
        if not collected:
            return [None] * len(self.leaves)
        flat, *others = collected
        if flat is None:
            return others
        used: list[bool] = self._functions["back"][1]
        sizes = [leaf.numel() if there else 0 for leaf, there in zip(self.leaves, used, strict=True)]
        parts = zip(flat.split(sizes), self.leaves, used, strict=True)
        return add_slopes(
            [part.reshape(leaf.shape) if there else None for part, leaf, there in parts], others
        )

    def _function(self, name: str, q: Tensor) -> tuple[Callable[..., Any], Any]:
        if name not in self._functions:
            self._functions[name] = self._known_function(name, q)
        return self._functions[name]

    def _known_function(self, name: str, q: Tensor) -> tuple[Callable[..., Any], Any]:
        """From the table, or compiled now."""
        identity, kept = taken_for_granted(_without_particles(self.dynamics, self._free), q.device)
        free = [(key, x.shape, x.dtype) for key, x in self._free.items()]
        leaves = [(id(leaf), leaf.shape) for leaf in self.leaves] if name == "back" else []
        key = (name, self.backend, q.shape, q.dtype, q.device, *free, *leaves, identity)
        anchor = self.dynamics.potential if isinstance(self.dynamics, Hamiltonian) else self.dynamics
        known = _FUNCTIONS.setdefault(anchor, {})
        if key not in known:
            function, note = self._forth(q) if name == "forth" else self._back(q)
            if len(known) >= MOST_FUNCTIONS:
                del known[next(iter(known))]
            alive = [x for x in (*kept, *self.leaves) if x is not anchor]
            known[key] = (function, (note, alive))
        function, (note, _) = known[key]
        return function, note

    def _forth(self, q: Tensor) -> tuple[Callable[..., Any], None]:
        force = _force_function(self.dynamics, tuple(self._free))

        def forth(q: Tensor, *free: Tensor) -> Tensor:
            with torch.no_grad():
                return force(q, *free)

        return compiled(forth, (q, *self._free.values()), self.backend), None

    def _back(self, q: Tensor) -> tuple[Callable[..., Any], list[bool]]:
        """And which leaves the force depends on."""
        force = _force_function(self.dynamics, tuple(self._free))
        used: list[bool] = []

        def back(q: Tensor, cotangent: Tensor, *free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with torch.enable_grad():
                node = q.detach().requires_grad_(True)
                rate = force(node, *free)
                slopes: list[Tensor | None] = [None] * (1 + len(self.leaves))
                if rate.requires_grad:
                    require_known(self.dynamics, [rate], (node, *self.leaves))
                    wanted = (node, *self.leaves)
                    slopes = list(torch.autograd.grad(rate, wanted, cotangent, allow_unused=True))
            slope, *others = slopes
            used[:] = [x is not None for x in others]
            flat = [x.reshape(-1) for x in others if x is not None]
            flat_slopes = torch.cat(flat) if flat else rate.new_zeros(0)
            return rate.detach(), torch.zeros_like(rate) if slope is None else slope, flat_slopes

        function = compiled(back, (q, torch.ones_like(q), *self._free.values()), self.backend)
        return function, used


def compiled(function: Callable[..., Any], example: tuple[Tensor, ...], backend: str) -> Callable[..., Any]:
    """A function traced for the shapes of its example and compiled; where that fails, as traced, with a warning.

    Args:
        function: of tensors.
        example: its arguments.
        backend: of ``torch.compile``, or "none".

    Raises:
        ValueError: it decides by numbers what it computes.

    Example:
        >>> compiled(lambda x: 2 * x, (torch.ones(2),), "none")(torch.ones(2))
        tensor([2., 2.])
    """
    traced = trace(function, example)
    if backend == "none":
        return traced
    try:
        fast: Callable[..., Any] = torch.compile(traced, backend=backend, fullgraph=True, dynamic=False)
        with torch.no_grad():
            fast(*example)
    except Exception as error:  # whatever a compiler that is missing or broken raises
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)
        warnings.warn(
            f"the force could not be compiled and is run as it was traced, more slowly ({reason}); "
            "torch.compile needs a C++ compiler: install one, set CXX, or leave compile out",
            RuntimeWarning,
            stacklevel=2,
        )
        return traced
    return fast


def _free_tensors(dynamics: Any) -> Mapping[str, Tensor]:
    """Tensors of the particles by name, which are arguments of the functions; empty where they are constants of them.

    Raises:
        ValueError: one of them has a graph behind it.
    """
    particles = getattr(dynamics, "_particles", None) or getattr(dynamics, "particles", None)
    if not isinstance(particles, Particles):
        return {}
    named = {field.name: getattr(particles, field.name) for field in fields(particles)}
    found = {name: x for name, x in named.items() if x is not None}
    computed = [name for name, x in found.items() if x.grad_fn is not None]
    if computed:
        raise ValueError(
            f"a compiled force takes the particles as numbers, and particles.{computed[0]} was computed from tensors "
            "that want gradients: leave compile out"
        )
    free = isinstance(dynamics, Hamiltonian) and not any(x.requires_grad for x in found.values())
    return found if free else {}


def _without_particles(dynamics: Any, free: Mapping[str, Tensor]) -> Any:
    """The dynamics without what changes from batch to batch."""
    if not free:
        return dynamics
    bare = copy.copy(dynamics)
    bare._particles = bare._velocity = None
    return bare


def _force_function(dynamics: Any, names: tuple[str, ...]) -> Callable[..., Tensor]:
    """The force as a function of positions and particles' tensors."""

    def force(q: Tensor, *free: Tensor) -> Tensor:
        system = dynamics
        if names:
            particles = Particles(**dict(zip(names, free, strict=True)))
            system = dynamics.bind(particles, dynamics._neighbours)
        found: Tensor = system.force(q)
        return found

    return force
