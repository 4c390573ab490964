"""The methods of this package inside torchdiffeq itself, for programs that call ``torchdiffeq.odeint``.

    register_torchdiffeq()
    torchdiffeq.odeint(hamiltonian.bind(particles), (q, p), t, method="leapfrog", options={"step_size": h})

torchdiffeq keeps its solvers in a plain dictionary without a public way in, so registration checks first that it finds
what it expects. A solver here unpacks torchdiffeq's flat state, runs the whole schedule by the package's own loop and
packs the result: one force per leapfrog step, equal steps, gradients by autograd through the steps. A splitting never
calls the function that torchdiffeq would have integrated; its value is compared once, at the start.

``torchdiffeq.odeint_adjoint`` with such a method raises in its backward pass: the augmented system of a continuous
adjoint is no pair (q, p), and cutting it in half gives wrong gradients without a warning. Use
:func:`lie_sim.integrators.odeint_adjoint`, whose gradients are exact.

Reference: torchdiffeq 0.2.5, ``_impl/odeint.py`` and ``_impl/misc.py``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.integrators.adaptive import AdaptiveLeapfrog
from lie_sim.integrators.dynamics import SeparableDynamics, SystemDynamics
from lie_sim.integrators.gradients import run
from lie_sim.integrators.registry import ALIASES, get_method, methods
from lie_sim.integrators.schedule import schedule
from lie_sim.integrators.vector_field import VectorField

_TESTED = "0.2.5"
_WRAPPERS = ("_PerturbFunc", "_ReverseFunc", "_TupleFunc")


def register_torchdiffeq() -> tuple[str, ...]:
    """Make every method of this package a ``method`` of ``torchdiffeq.odeint``; safe to call again.

    Returns:
        The names added by this call.

    Raises:
        RuntimeError: torchdiffeq is built differently from what this registration needs, or a name belongs to
            another package.

    Example:
        >>> import torchdiffeq
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> added = register_torchdiffeq()
        >>> state, particles = Springs().sample(2, generator=torch.Generator().manual_seed(0))
        >>> t = torch.linspace(0, 1, 5, dtype=torch.float64)
        >>> func = SystemDynamics(Springs(), particles)
        >>> q, p = torchdiffeq.odeint(func, (state.q, state.p), t, method="pefrl", options={"step_size": 0.01})
        >>> q.shape, "pefrl" in unregister_torchdiffeq()
        (torch.Size([5, 2, 6, 2]), True)
    """
    solvers = _solvers()
    names = [*(method.name for method in methods()), *ALIASES]
    foreign = [name for name in names if name in solvers and not _is_ours(solvers[name])]
    if foreign:
        raise RuntimeError(
            f"torchdiffeq already has {', '.join(foreign)} from "
            f"{', '.join(sorted({solvers[name].__module__ for name in foreign}))}: nothing was registered; "
            "use lie_sim.integrators.odeint, which needs no registration"
        )
    added = tuple(name for name in names if name not in solvers)
    solvers.update({name: type(f"LieSim_{name}", (_Solver,), {"method_name": name}) for name in added})
    return added


def unregister_torchdiffeq() -> tuple[str, ...]:
    """Undo :func:`register_torchdiffeq`; solvers of others stay.

    Returns:
        The names removed.
    """
    solvers = _solvers()
    removed = tuple(name for name, solver in solvers.items() if _is_ours(solver))
    for name in removed:
        del solvers[name]
    return removed


def _solvers() -> dict[str, Any]:
    """Torchdiffeq's table of solvers, after a look at everything that a solver here relies on."""
    try:
        odeint = importlib.import_module("torchdiffeq._impl.odeint")
        misc = importlib.import_module("torchdiffeq._impl.misc")
        solvers = odeint.SOLVERS
        usable = isinstance(solvers, dict) and callable(odeint._check_inputs) and "rk4" in solvers
        usable &= all(isinstance(getattr(misc, name), type) for name in _WRAPPERS)
        usable &= callable(solvers["rk4"].integrate) and callable(solvers["rk4"].valid_callbacks)
    except (ImportError, AttributeError, KeyError):
        usable = False
    if not usable:
        raise RuntimeError(
            f"torchdiffeq {importlib.metadata.version('torchdiffeq')} has no table of solvers as version {_TESTED} has "
            "it; use lie_sim.integrators.odeint, which needs no registration"
        )
    table: dict[str, Any] = solvers
    return table


def _is_ours(solver: Any) -> bool:
    return isinstance(solver, type) and issubclass(solver, _Solver)


class _Solver:
    """What torchdiffeq makes and calls: ``Solver(func, y0, …).integrate(t)``."""

    method_name: ClassVar[str]

    def __init__(self, func: Any, y0: Tensor, rtol: Any, atol: Any, norm: Any = None, **options: Any) -> None:
        self.step_size, trajectory = options.pop("step_size", None), options.pop("trajectory", None)
        self.method = get_method(self.method_name, **options)
        user, shapes, self.sign = _unwrapped(func)
        if shapes is None or len(shapes) != 2:
            raise TypeError(
                f"{self.method_name} needs y0 = (q, p), a tuple of two tensors"
                if shapes is None or _is_users(user)
                else f"{self.method_name} cannot integrate the augmented system of a continuous adjoint: its gradients "
                "would be wrong. Use lie_sim.integrators.odeint_adjoint, whose gradients are exact"
            )
        self.dynamics = self.method.dynamics(user)
        sizes = [shape.numel() for shape in shapes]
        self.q, self.p = (x.reshape(shape) for x, shape in zip(y0.split(sizes), shapes, strict=True))
        self.method.check_shapes(self.q, self.p)
        self.memory, self.user = self.method.named_start(trajectory, self.q), user

    @classmethod
    def valid_callbacks(cls) -> set[str]:
        """None: the steps are not torchdiffeq's."""
        return set()

    def integrate(self, t: Tensor) -> Tensor:
        """The flat states at the times, shape (T, state)."""
        if isinstance(self.method, AdaptiveLeapfrog):
            found = self.method.integrate_to(self.dynamics, self.q, self.p, self.sign * t, self.step_size)
            return torch.cat([x.flatten(1) for x in found], dim=1)
        pieces = schedule(self.sign * t, self.step_size)
        start = torch.cat([self.q.reshape(-1), self.p.reshape(-1)])[None]
        if not pieces:
            return start
        check_function(self.user, self.dynamics, self.sign * t[0], self.q, self.p)
        q, p = run(self.method, self.dynamics, self.q, self.p, pieces, memory=self.memory)
        return torch.cat([start, torch.cat([q.flatten(1), p.flatten(1)], dim=1)])

    def integrate_until_event(self, t0: Tensor, event_fn: Any) -> Any:
        """Refused: torchdiffeq stops the whole batch at its first event."""
        raise ValueError(
            f"{self.method_name} has its own events, for each system of a batch: use lie_sim.integrators.odeint"
        )


def check_function(func: Any, dynamics: Any, t: Tensor, q: Tensor, p: Tensor) -> None:
    """Refuse a function whose value at the start is not what the method takes for the right-hand side.

    Args:
        func: what the user gave; called as ``func(t, (q, p))``, unless it is a class of ours.
        dynamics: what the method made of it.
        t: first time.
        q: positions there.
        p: momenta there.

    Raises:
        TypeError: they differ by more than the root of the machine precision.
    """
    if not _computes_something_itself(func):
        return
    with torch.no_grad():
        if isinstance(dynamics, VectorField):
            ours = dynamics(q, p)
        elif isinstance(dynamics, SeparableDynamics):
            ours = (dynamics.velocity(p), dynamics.force(q))
        else:
            return
        theirs = func(t, (q, p))
    for name, mine, other in zip(("velocity(p)", "force(q)"), ours, theirs, strict=True):
        allowed = (
            torch.finfo(mine.dtype).eps ** 0.5 * mine.abs().nan_to_num(0.0).max() if mine.numel() else 0.0
        )
        if mine.shape != other.shape or bool(((mine - other).abs() > allowed).any()):
            raise TypeError(
                f"{type(func).__name__}, called as f(t, (q, p)), does not return (velocity(p), force(q)): its part "
                f"{name} differs, so the method would integrate another equation (without damping, say); put "
                "everything into force and velocity, or use one of torchdiffeq's methods"
            )


def _computes_something_itself(func: Any) -> bool:
    """Whether calling it is not, by our own definition, the same as its force and velocity."""
    owner = getattr(func, "__self__", func)
    for ours in (Hamiltonian, GeneralHamiltonian, SystemDynamics):
        if isinstance(owner, ours):
            names = [name for name in ("__call__", "forward", "vector_field") if hasattr(ours, name)]
            return any(getattr(type(owner), name) is not getattr(ours, name) for name in names)
    if isinstance(owner, nn.Module) and type(owner).forward is nn.Module.forward:
        return False
    return callable(func)


def _unwrapped(func: Any) -> tuple[Any, list[torch.Size] | None, int]:
    """The user's function, the shapes of the state's parts, and −1 if torchdiffeq has reversed the time."""
    shapes, sign = None, 1
    while type(func).__name__ in _WRAPPERS and type(func).__module__.startswith("torchdiffeq"):
        if type(func).__name__ == "_ReverseFunc":
            sign = -sign
        shapes = getattr(func, "shapes", shapes)
        func = func.base_func
    return func, shapes, sign


def _is_users(func: Any) -> bool:
    return not str(getattr(func, "__module__", "")).startswith("torchdiffeq")
