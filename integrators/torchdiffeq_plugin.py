"""The methods of this package inside torchdiffeq itself, for programs that call ``torchdiffeq.odeint``.

    register_torchdiffeq()
    torchdiffeq.odeint(hamiltonian.bind(particles), (q, p), t, method="leapfrog", options={"step_size": h})

torchdiffeq keeps its solvers in a plain dictionary without a public way in, so registration checks first that it finds
what it expects. A solver here unpacks torchdiffeq's flat state, runs the whole schedule by the package's own loop and
packs the result: one force per leapfrog step, equal steps, gradients by autograd through the steps. A splitting never
calls the function that torchdiffeq would have integrated; its value is compared once.

``torchdiffeq.odeint_adjoint`` with such a method raises in its backward pass, and at once where another adjoint method
is named: the augmented system of a continuous adjoint is no pair (q, p), cutting it in half gives wrong gradients
without a warning, and those of another method are not those of these steps. Use
:func:`lie_sim.integrators.odeint_adjoint`, whose gradients are exact.

Reference: torchdiffeq 0.2.5, ``_impl/odeint.py`` and ``_impl/misc.py``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Any, ClassVar

import torch
from torch import Tensor

from lie_sim.integrators.adaptive import AdaptiveLeapfrog
from lie_sim.integrators.gradients import run
from lie_sim.integrators.method import Method
from lie_sim.integrators.registry import ALIASES, get_method, is_method, methods
from lie_sim.integrators.right_hand_side import check_function
from lie_sim.integrators.schedule import schedule

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
        _refuse_foreign_adjoint(self.method_name)
        self.step_size, trajectory = options.pop("step_size", None), options.pop("trajectory", None)
        self.method = _with_options(self.method_name, options)
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
        check_function(self.user, self.dynamics, self.sign * t, self.q, self.p, must_be_one=True)
        q, p = run(self.method, self.dynamics, self.q, self.p, pieces, memory=self.memory)
        return torch.cat([start, torch.cat([q.flatten(1), p.flatten(1)], dim=1)])

    def integrate_until_event(self, t0: Tensor, event_fn: Any) -> Any:
        """Refused: torchdiffeq stops the whole batch at its first event."""
        raise ValueError(
            f"{self.method_name} has its own events, for each system of a batch: use lie_sim.integrators.odeint"
        )


def _with_options(name: str, options: dict[str, Any]) -> Method:
    known = get_method(name).options()
    unknown = [str(option) for option in options if option not in known]
    if unknown:
        has = ", ".join(["step_size", "trajectory", *known])
        raise ValueError(f"{name} has no option {', '.join(unknown)}; its options are {has}")
    return get_method(name, **options)


def _refuse_foreign_adjoint(name: str) -> None:
    """Refuse to be the forward half of ``torchdiffeq.odeint_adjoint`` whose backward half is another method.

    Raises:
        ValueError: the gradient would be that of other steps.
    """
    frame = sys._getframe(1)
    while frame is not None and not (
        frame.f_code.co_name == "forward" and frame.f_globals.get("__name__") == "torchdiffeq._impl.adjoint"
    ):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return
    adjoint = frame.f_locals.get("adjoint_method")
    if adjoint is not None and not is_method(adjoint):
        raise ValueError(
            f"adjoint_method={adjoint!r} would give gradients that are not those of the steps of {name}: use "
            "lie_sim.integrators.odeint_adjoint, whose gradients are exact and need no adjoint method"
        )


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
