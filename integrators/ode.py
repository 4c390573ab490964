"""One door to every solver: torchdiffeq's signature and methods, and the splitting methods beside them.

    dy/dt = f(t, y);      splitting methods:  y = (q, p),  f = (v(p), F(q))

A splitting method refuses a right-hand side that it cannot split. In particular it never sees the augmented
system of a continuous adjoint, one flat vector that could be cut in half by mistake without any sign of it
but a wrong gradient.

Shape letters: T output times.
Reference: Chen, "torchdiffeq", 2018, https://github.com/rtqichen/torchdiffeq.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torchdiffeq
from jaxtyping import Float
from torch import Tensor

from lie_sim.integrators.method import Method
from lie_sim.integrators.registry import get_method, is_method, methods

UNIFORM_GRID_ULPS = 4
"""Times within so many rounding errors of equal spacing are taken as equally spaced."""

State = Tensor | tuple[Tensor, ...]


def odeint(
    func: Callable[[Tensor, Any], Any],
    y0: State,
    t: Float[Tensor, " T"],
    *,
    rtol: float | Tensor = 1e-7,
    atol: float | Tensor = 1e-9,
    method: str | Method | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
) -> Any:
    """Solve an initial value problem; ``torchdiffeq.odeint`` with splitting methods added.

    Args:
        func: for a splitting method, a Hamiltonian bound to its particles (or its ``vector_field``), or any
            object with ``force(q)`` and ``velocity(p)``; for the others any ``f(t, y)``.
        y0: state at ``t[0]``; (q, p) for a splitting method.
        t: times, strictly monotonic, shape (T,).
        rtol: for adaptive methods of torchdiffeq; the others ignore it.
        atol: likewise.
        method: a splitting method (``lie_sim.integrators.methods()``), or a method of torchdiffeq; None means
            its default.
        options: for a splitting method only ``{"step_size": h}``: each interval between two times is cut into
            the whole number of equal steps nearest to its length over h, at least one; without it, into one.
        event_fn: for torchdiffeq's methods only.

    Returns:
        As torchdiffeq: y at the times, times first; for (q, p) the pair of (T, …) tensors.

    Raises:
        TypeError: a splitting method cannot split ``func``, or ``y0`` is not (q, p).
        ValueError: an option is unknown or impossible.

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
    if is_method(method):
        assert method is not None
        if event_fn is not None:
            raise ValueError(
                f"{_name(method)} has no events: leave out event_fn, or use a torchdiffeq method"
            )
        return _odeint_splitting(func, y0, t, method, options)
    tolerances = {"rtol": rtol, "atol": atol}
    return _passed_through(
        torchdiffeq.odeint, func, y0, t, method=method, options=options, event_fn=event_fn, **tolerances
    )


def odeint_adjoint(
    func: Callable[[Tensor, Any], Any],
    y0: State,
    t: Float[Tensor, " T"],
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

    A splitting method differentiates its own steps by autograd instead: the gradient is exact for the
    discrete map and reaches every parameter, so ``adjoint_params`` is not needed; memory grows with time.

    Raises:
        ValueError: an adjoint option (other than ``adjoint_params``) is given with a splitting method, or
            ``adjoint_method`` is one: the adjoint system is not separable.

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
            "separable; use it as method (its gradients are then exact), or choose a torchdiffeq method for "
            "the adjoint"
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
    return odeint(func, y0, t, method=method, options=options, event_fn=event_fn)


def _name(method: str | Method) -> str:
    return method.name if isinstance(method, Method) else method


def _passed_through(solver: Callable[..., Any], *args: Any, method: Any, **keywords: Any) -> Any:
    """Call torchdiffeq; if it does not know the method, mention the names it cannot know."""
    try:
        return solver(*args, method=method, **keywords)
    except ValueError as error:
        if "Invalid method" in str(error):
            error.add_note(f"lie_sim adds: {', '.join(known.name for known in methods())}")
        raise


def _odeint_splitting(
    func: object, y0: State, t: Tensor, method: str | Method, options: dict[str, Any] | None
) -> tuple[Tensor, Tensor]:
    h, own_options = _checked_options(options, method)
    chosen = get_method(method, **own_options)
    dynamics, memory = chosen.dynamics(func), None
    q, p = _checked_state(y0, method)
    saved = [(q, p)]
    for step_size, num_steps in _steps(t, h):
        q, p, memory = chosen.advance(dynamics, q, p, step_size=step_size, num_steps=num_steps, memory=memory)
        saved.append((q, p))
    return torch.stack([q for q, _ in saved]), torch.stack([p for _, p in saved])


def _checked_state(y0: State, method: str | Method) -> tuple[Tensor, Tensor]:
    if isinstance(y0, Tensor) or len(y0) != 2 or y0[0].shape != y0[1].shape:
        got = tuple(y0.shape) if isinstance(y0, Tensor) else [tuple(part.shape) for part in y0]
        raise TypeError(f"{_name(method)} needs y0 = (q, p), two tensors of one shape; got {got}")
    return y0[0], y0[1]


def _checked_options(
    options: dict[str, Any] | None, method: str | Method
) -> tuple[float | None, dict[str, Any]]:
    """The step size, and the options of the method itself."""
    given = dict(options or {})
    step_size = given.pop("step_size", None)
    known = get_method(method).options()
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise ValueError(
            f"{_name(method)} has no option {', '.join(unknown)}; its options are {', '.join(['step_size', *known])}"
        )
    if step_size is not None and not float(step_size) > 0:
        raise ValueError(f"step_size must be positive (t gives the direction of time), got {step_size}")
    return (None if step_size is None else float(step_size)), given


def _steps(t: Tensor, step_size: float | None) -> list[tuple[float | Tensor, int]]:
    """Step length and number of steps of every interval; all have one length if t is equally spaced."""
    times = t.detach().to("cpu", torch.float64)
    lengths = times.diff()
    if t.ndim != 1 or len(t) < 1 or not (bool((lengths > 0).all()) or bool((lengths < 0).all())):
        raise ValueError(
            f"t must be strictly increasing or decreasing, shape (T,); got shape {tuple(t.shape)}"
        )
    even = torch.linspace(float(times[0]), float(times[-1]), len(times), dtype=torch.float64)
    rounding = UNIFORM_GRID_ULPS * torch.finfo(t.dtype).eps * float(times.abs().max())
    if len(times) > 1 and bool(((times - even).abs() <= rounding).all()):
        lengths = torch.full_like(lengths, float(times[-1] - times[0]) / len(lengths))
    counts = [
        1 if step_size is None else max(1, round(abs(length) / step_size)) for length in lengths.tolist()
    ]
    exact: list[float | Tensor] = list(t.diff()) if t.requires_grad else lengths.tolist()
    return [(length / count, count) for length, count in zip(exact, counts, strict=True)]
