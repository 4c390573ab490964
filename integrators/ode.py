"""One door to every solver: torchdiffeq's signature and methods, and the methods of this package beside them.

    dy/dt = f(t, y);      methods of this package:  y = (q, p)

A method refuses a right-hand side that lacks what it needs. In particular a splitting method never sees the augmented
system of a continuous adjoint, one flat vector that could be cut in half by mistake without any sign of it
but a wrong gradient.

Shape letters: T output times, B batch, N particles, d space dimension.
Reference: Chen, "torchdiffeq", 2018, https://github.com/rtqichen/torchdiffeq.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch
import torchdiffeq
from torch import Tensor

from lie_sim.integrators.adaptive import AdaptiveLeapfrog
from lie_sim.integrators.clock import Clocked, is_driven, owner_of
from lie_sim.integrators.compiled import Compiled
from lie_sim.integrators.events import find_events
from lie_sim.integrators.gradients import ADJOINTS, has_half_precision, run
from lie_sim.integrators.method import Method
from lie_sim.integrators.registry import ALIASES, get_method, is_method, methods
from lie_sim.integrators.right_hand_side import check_function
from lie_sim.integrators.schedule import schedule

State = Tensor | tuple[Tensor, ...]


def odeint(
    func: Any,
    y0: State,
    t: Tensor,
    *,
    rtol: float | Tensor = 1e-7,
    atol: float | Tensor = 1e-9,
    method: str | Method | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
    adjoint: str = "autograd",
) -> Any:
    """Solve an initial value problem; ``torchdiffeq.odeint`` with the methods of this package added.

    Args:
        func: for a splitting method, a Hamiltonian bound to its particles (or its ``vector_field``), or any
            object with ``force(q)`` and ``velocity(p)``; other methods say what they need; for torchdiffeq's
            any ``f(t, y)``. One that depends on time, such as a bound :class:`~lie_sim.DrivenHamiltonian`, is
            advanced by a method of this package in extended phase space.
        y0: state at ``t[0]``; (q, p) for a method of this package.
        t: times, strictly monotonic, shape (T,). Methods of this package also take (T, B): times of each system.
        rtol: for adaptive methods of torchdiffeq; the others ignore it.
        atol: likewise.
        method: a method of this package (``lie_sim.integrators.methods()``), or of torchdiffeq; None means
            torchdiffeq's default.
        options: for a method of this package: ``step_size`` h, one for all or one per system, shape (B,) (each
            interval between two times is cut into the whole number of equal steps nearest to its length over h,
            at least one, so that a step is at most 1.5 h; without it, into one; for ``adaptive_leapfrog`` the first
            step, which must be given); ``fixed_point=True`` with the reversible adjoint of a splitting method;
            ``compile=True`` for a splitting method, without gradients or with ``adjoint="reversible"``; ``trajectory``,
            int64 of shape (B,), the names of the systems that key the noise of a stochastic method; and the options of
            the method itself.
        event_fn: stop where ``event_fn(t, y)`` changes sign. For a method of this package it returns one number
            per system, shape (B,); each system stops at its own event while the others go on, at t[1] at the
            latest. For torchdiffeq's methods see there.
        adjoint: how gradients are computed. "autograd" keeps the graph of every step; "checkpoint" recomputes it in
            √n segments; "reversible" steps back, in constant memory; all three are exact for the discrete
            steps. "continuous" is torchdiffeq's ``odeint_adjoint``, for its methods.

    Returns:
        As torchdiffeq: y at the times, times first; for (q, p) the pair of (T, …) tensors. With ``event_fn`` the
        event times, shape (B,) (inf where there was none), and the states at the start and at the end.

    Raises:
        TypeError: ``func`` lacks what the method calls, or ``y0`` is not (q, p).
        ValueError: the times, an option or the adjoint is impossible.
        ReversalError: in the backward pass of ``adjoint="reversible"``, if stepping back misses the start.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=3)
        >>> state, particles = system.sample(2, generator=torch.Generator().manual_seed(0))
        >>> t = torch.linspace(0, 1, 11, dtype=torch.float64)
        >>> y0, func = (state.q, state.p), SystemDynamics(system, particles)
        >>> q, p = odeint(func, y0, t, method="yoshida4", options={"step_size": 0.01})
        >>> reference = odeint(func, y0, t, method="dopri5")
        >>> q.shape, bool((q - reference[0]).abs().max() < 1e-4)
        (torch.Size([11, 2, 3, 2]), True)
    """
    if adjoint not in ADJOINTS:
        raise ValueError(f"adjoint must be one of {', '.join(ADJOINTS)}; got {adjoint!r}")
    if is_method(method):
        assert method is not None
        if adjoint == "continuous":
            raise ValueError(
                f"{_name(method)} solves no adjoint equation, its steps are differentiated exactly: use "
                'adjoint="reversible", "checkpoint" or "autograd", or a method of torchdiffeq'
            )
        return _own(func, y0, t, method, options, event_fn, adjoint)
    if adjoint in ("reversible", "checkpoint"):
        raise ValueError(
            f'adjoint={adjoint!r} is for methods of lie_sim; torchdiffeq\'s have "autograd" and "continuous"'
        )
    solver = torchdiffeq.odeint_adjoint if adjoint == "continuous" else torchdiffeq.odeint
    tolerances = {"rtol": rtol, "atol": atol}
    return _passed_through(
        solver, func, y0, t, method=method, options=options, event_fn=event_fn, **tolerances
    )


def odeint_adjoint(
    func: Any,
    y0: State,
    t: Tensor,
    *,
    rtol: float | Tensor = 1e-7,
    atol: float | Tensor = 1e-9,
    method: str | Method | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
    adjoint_rtol: float | Tensor | None = None,
    adjoint_atol: float | Tensor | None = None,
    adjoint_method: str | None = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: tuple[Tensor, ...] | None = None,
) -> Any:
    """Like :func:`odeint`; torchdiffeq's methods get their gradients from the continuous adjoint equation.

    A method of this package differentiates its own steps instead: it steps back if it is reversible, in constant
    memory, and recomputes segments of √n steps if it is not or the state is of half precision
    (``adaptive_leapfrog``, and runs with events, keep the graph of every step). The gradient is exact for the
    discrete map and reaches every parameter, so ``adjoint_params`` is not needed.

    Raises:
        ValueError: an adjoint option (other than ``adjoint_params``) is given with a method of this package, or
            ``adjoint_method`` is one: the adjoint system is not one that it can step.
        ReversalError: in the backward pass, if stepping back misses the start.

    Example:
        >>> from lie_sim.integrators import SystemDynamics
        >>> from lie_sim.systems import Springs
        >>> system = Springs(num_particles=2)
        >>> state, particles = system.sample(1, generator=torch.Generator().manual_seed(0))
        >>> q0 = state.q.requires_grad_(True)
        >>> t = torch.linspace(0, 1, 21, dtype=torch.float64)
        >>> q, _ = odeint_adjoint(SystemDynamics(system, particles), (q0, state.p), t, method="leapfrog")
        >>> q[-1].sum().backward()
        >>> q0.grad.shape
        torch.Size([1, 2, 2])
    """
    given: dict[str, Any] = {
        "adjoint_rtol": adjoint_rtol,
        "adjoint_atol": adjoint_atol,
        "adjoint_method": adjoint_method,
        "adjoint_options": adjoint_options,
    }
    if is_method(adjoint_method):
        raise ValueError(
            f"adjoint_method={adjoint_method!r} would give wrong gradients: the adjoint system is not "
            "Hamiltonian in (q, p); use it as method (its gradients are then exact), or choose a torchdiffeq method "
            "for the adjoint"
        )
    if not is_method(method):
        given |= {"adjoint_params": adjoint_params, "rtol": rtol, "atol": atol}
        return _passed_through(
            torchdiffeq.odeint_adjoint,
            func,
            y0,
            t,
            method=method,
            options=options,
            event_fn=event_fn,
            **given,
        )
    assert method is not None
    unwanted = [name for name, value in given.items() if value is not None]
    if unwanted:
        raise ValueError(
            f"{_name(method)} solves no adjoint equation, its steps are differentiated exactly: leave out "
            f"{', '.join(unwanted)}, or choose a torchdiffeq method"
        )
    chosen = get_method(method)
    steps_back = chosen.reversible and not chosen.stochastic
    if not isinstance(y0, Tensor) and any(has_half_precision(x) for x in y0):
        steps_back = False
    adjoint = "reversible" if steps_back else "checkpoint"
    if event_fn is not None or chosen.adaptive:
        adjoint = "autograd"
    return odeint(func, y0, t, method=method, options=options, event_fn=event_fn, adjoint=adjoint)


def _name(method: str | Method) -> str:
    return method.name if isinstance(method, Method) else method


def _passed_through(solver: Callable[..., Any], *args: Any, method: Any, **keywords: Any) -> Any:
    """Call torchdiffeq; if it does not know the method, mention the names it cannot know."""
    try:
        return solver(*args, method=method, **keywords)
    except ValueError as error:
        if "Invalid method" in str(error):
            names = [*(known.name for known in methods()), *ALIASES]
            close = difflib.get_close_matches(str(method), names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{error}.{hint} lie_sim adds: {', '.join(names)}") from None
        raise


def _own(
    func: object,
    y0: State,
    t: Tensor,
    name: str | Method,
    options: dict[str, Any] | None,
    event_fn: Callable[..., Tensor] | None,
    adjoint: str,
) -> Any:
    step_size, fixed_point, compiled, trajectory, of_the_method = _split_options(options, name)
    method = get_method(name, **of_the_method)
    method = Compiled(method) if compiled else method
    q, p = _checked_state(y0, method)
    if not isinstance(t, Tensor):
        raise TypeError(
            f"t must be a tensor of times, got {type(t).__name__}: torch.tensor(t, dtype=torch.float64)"
        )
    if is_driven(func) and t.ndim and len(t):
        if compiled or method.adaptive:
            what = "compiled code is" if compiled else f"{method.name} is"
            raise ValueError(f"{what} for systems that do not depend on time: leave it out")
        clock = Clocked(owner_of(func), t[0])
        event = None if event_fn is None else clock.without_clock(event_fn)
        extended = clock.start(q, p)
        given = {"step_size": step_size, "trajectory": trajectory}
        kept = {name: value for name, value in given.items() if value is not None}
        found = _own(clock, extended, t, method, kept | {"fixed_point": fixed_point}, event, adjoint)
        return clock.stripped(found)
    dynamics = method.dynamics(func)
    if t.ndim == 2 and t.shape[1] != q.shape[0]:
        raise ValueError(
            f"t of shape {tuple(t.shape)} has times for {t.shape[1]} systems, but q holds {q.shape[0]}"
        )
    if t.ndim and len(t):
        check_function(func, dynamics, t, q, p)
    if event_fn is not None:
        if adjoint != "autograd" or fixed_point:
            raise ValueError('event_fn goes with adjoint="autograd"')
        return find_events(method, dynamics, (q, p), t, event_fn, step_size=step_size)
    if isinstance(method, AdaptiveLeapfrog):
        if adjoint != "autograd" or fixed_point:
            raise ValueError(
                f'{method.name} has adjoint="autograd" only, without fixed_point: how many steps it does depends on '
                'the motion; leapfrog with adjoint="reversible" has gradients in constant memory'
            )
        return method.integrate_to(dynamics, q, p, t, step_size)
    pieces = schedule(t, step_size)
    if not pieces:
        return q[None], p[None]
    memory = method.named_start(trajectory, q)
    later = run(method, dynamics, q, p, pieces, adjoint=adjoint, fixed_point=fixed_point, memory=memory)
    return torch.cat([q[None], later[0]]), torch.cat([p[None], later[1]])


def _checked_state(y0: State, method: Method) -> tuple[Tensor, Tensor]:
    if isinstance(y0, Tensor) or len(y0) != 2:
        got = tuple(y0.shape) if isinstance(y0, Tensor) else [tuple(part.shape) for part in y0]
        raise TypeError(f"{method.name} needs y0 = (q, p), two tensors of one shape; got {got}")
    q, p = y0
    if not (isinstance(q, Tensor) and isinstance(p, Tensor)):
        got = f"{type(q).__name__} and {type(p).__name__}"
        raise TypeError(f"{method.name} needs tensors q and p, got {got}: torch.as_tensor makes them")
    method.check_shapes(q, p)
    return q, p


def _split_options(
    options: dict[str, Any] | None, method: str | Method
) -> tuple[float | Tensor | None, bool, bool, Tensor | None, dict[str, Any]]:
    """Step size, whether to use fixed point, whether to compile, names that key noise; options of the method itself."""
    given = dict(options or {})
    step_size = given.pop("step_size", None)
    fixed_point, compiled = (_switch(name, given.pop(name, False)) for name in ("fixed_point", "compile"))
    trajectory = given.pop("trajectory", None)
    plain = get_method(method)
    known = {**({"trajectory": None} if plain.stochastic else {}), **plain.options()}
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"{_name(method)} has no option {', '.join(unknown)}; "
            f"its options are {', '.join(['step_size', 'fixed_point', 'compile', *known])}"
        )
    return step_size, fixed_point, compiled, trajectory, given


def _switch(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value
