"""From output times to steps: which step length, how often, and where to save.

    n_k = max(1, round(|t_{k+1} − t_k| / h)),      h_k = (t_{k+1} − t_k) / n_k

h is the step that is wanted; the nearest whole number of steps is done, so the step h_k lies between h/2 and 3h/2 where
an interval is at least h/2 long, and is the interval itself where it is shorter.

Every interval is cut into equal steps, and all intervals of an equally spaced grid get one step to the last bit,
whatever the dtype of t. Systems may have times of their own, shape (T, B): one that needs fewer steps than another
in an interval does its last ones with length 0, which change nothing.

Shape letters: T output times, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lie_sim.integrators.method import StepSize

UNIFORM_GRID_ULPS = 4
"""Times within so many rounding errors of equal spacing are taken as equally spaced."""
RESOLVED_ULPS = 8
"""Times closer than so many rounding errors of the largest are refused: their steps would be mostly rounding."""
MOST_STEPS = 10**12
"""Steps of one interval: at a microsecond each, twelve days. More is a mistake in the unit of time."""


@dataclass(frozen=True)
class Piece:
    """Equal steps in a row.

    Args:
        step: h, one for all or one per system.
        num_steps: how many.
        save: whether the state after them is asked for.
    """

    step: StepSize
    num_steps: int
    save: bool = True


def schedule(t: Tensor, step_size: float | Tensor | None) -> list[Piece]:
    """The steps that lead through the output times.

    Args:
        t: times, strictly monotonic, shape (T,), or (T, B) with times for each system.
        step_size: the step wanted, one for all or one per system; each interval is cut into the whole number of
            equal steps nearest to its length over it, at least one. None takes one step per interval.

    Raises:
        ValueError: the times are not finite, not strictly monotonic or not resolved by their dtype, or a step is
            impossible, or so short that its steps cannot be counted to the end.

    Example:
        >>> schedule(torch.tensor([0.0, 1.0, 3.0]), 0.5)
        [Piece(step=0.5, num_steps=2, save=True), Piece(step=0.5, num_steps=4, save=True)]
    """
    h = checked_step(step_size)
    lengths = checked_lengths(t)
    exact = t.diff(dim=0) if t.requires_grad else lengths
    if t.ndim == 1 and not (isinstance(h, Tensor) and h.ndim):
        counts = _counts(lengths, h).tolist()
        steps = list(exact) if t.requires_grad else exact.tolist()
        return [Piece(length / count, int(count)) for length, count in zip(steps, counts, strict=True)]
    batch = t.shape[1] if t.ndim == 2 else h.shape[0] if isinstance(h, Tensor) else 1
    if t.ndim == 1:
        lengths, exact = lengths[:, None].expand(-1, batch), exact[:, None].expand(-1, batch)
    return [piece for k in range(len(lengths)) for piece in _per_system(exact[k], _counts(lengths[k], h))]


def _per_system(lengths: Tensor, counts: Tensor) -> list[Piece]:
    """One interval of systems that need different numbers of steps, shortest first."""
    step = lengths / counts.to(lengths)
    ends = sorted({int(count) for count in counts.tolist()}) or [
        1
    ]  # without systems, too, every time is saved
    pieces, done = [], 0
    for end in ends:
        running = torch.where((counts > done).to(step.device), step, 0.0)
        pieces.append(Piece(running, end - done, save=end == ends[-1]))
        done = end
    return pieces


def _counts(lengths: Tensor, step_size: float | Tensor | None) -> Tensor:
    if step_size is None:
        return torch.ones_like(lengths)
    counts = (lengths.abs() / step_size).round().clamp(min=1)
    if bool((counts > MOST_STEPS).any()):
        raise ValueError(
            f"step_size={_shortest(step_size):.3g} cuts an interval of {float(lengths.abs().max()):.3g} into "
            f"{float(counts.max()):.3g} steps, more than {MOST_STEPS:.0e}: take longer steps"
        )
    return counts


def _shortest(step_size: float | Tensor) -> float:
    return float(torch.as_tensor(step_size).min())


def checked_step(step_size: float | Tensor | None) -> float | Tensor | None:
    """The step as float64, detached; refused if it is not positive and finite."""
    if step_size is None:
        return None
    if not isinstance(step_size, Tensor | int | float):
        raise TypeError(
            f"step_size must be a number or a tensor, got {type(step_size).__name__} {step_size!r}"
        )
    value = torch.as_tensor(step_size, dtype=torch.float64).detach().cpu()
    if value.ndim > 1 or not bool((value > 0).all()) or not bool(value.isfinite().all()):
        raise ValueError(
            f"step_size must be positive and finite (t gives the direction of time), one number or one per "
            f"system; got {step_size}"
        )
    return value if value.ndim else float(value)


def checked_lengths(t: Tensor) -> Tensor:
    """Interval lengths in float64, all equal if the grid is equally spaced, shape (T − 1, …)."""
    if t.ndim not in (1, 2) or len(t) < 1 or not t.is_floating_point():
        raise ValueError(
            f"t must be real times of shape (T,), or (T, B) for each system its own; got {tuple(t.shape)}, {t.dtype}"
        )
    times = t.detach().to("cpu", torch.float64)
    if not bool(times.isfinite().all()):
        raise ValueError(f"t must be finite, got {_shortened(t)}")
    lengths = times.diff(dim=0)
    if not bool(((lengths > 0).all(0) | (lengths < 0).all(0)).all()):
        repeated = bool((lengths == 0).any()) and t.dtype != torch.float64
        advice = (
            f"; {t.dtype} may be too coarse for them: give t in float64, or count time from 0"
            if repeated
            else ""
        )
        raise ValueError(f"t must be strictly increasing or decreasing, got {_shortened(t)}{advice}")
    if len(times) < 2:
        return lengths
    rounding = torch.finfo(t.dtype).eps * times.abs().amax(0)
    if bool((lengths.abs().amin(0) <= RESOLVED_ULPS * rounding).any()):
        raise ValueError(
            f"t has intervals as short as {float(lengths.abs().min()):.3g}, which {t.dtype} does not resolve beside "
            f"times of {float(times.abs().max()):.6g}: give t in float64, or count time from 0"
        )
    shares = torch.linspace(0, 1, len(times), dtype=torch.float64).reshape(-1, *(1,) * (times.ndim - 1))
    even = times[0] + shares * (times[-1] - times[0])
    uniform = ((times - even).abs() <= UNIFORM_GRID_ULPS * rounding).all(0)
    return torch.where(uniform, (times[-1] - times[0]) / len(lengths), lengths)


def _shortened(t: Tensor) -> str:
    values = t.detach().flatten().tolist()
    return f"{values[:6]}{' …' if len(values) > 6 else ''} of shape {tuple(t.shape)}"
