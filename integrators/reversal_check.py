"""Whether a computation that was done again, or undone, arrived where it should.

    max |x − y|  ≤  √ε (max(|x|, |y|) + distance travelled)      of each system, ε the machine precision

A gradient from states that fail this would be wrong without any other sign of it.

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lie_sim.errors import ReversalError


def check_start(
    found: Sequence[Tensor], start: Sequence[Tensor], *, exact: bool, travelled: Tensor | None = None
) -> None:
    """Refuse a way back that does not end where the run began; systems that diverged are left out.

    Args:
        found: q and p that stepping back arrived at.
        start: q and p at the start of the run.
        exact: whether they must agree to the bit; else each system to the root of the machine precision.
        travelled: how far each system came, shape (B,): what a start of 0 is compared with.

    Raises:
        ReversalError: they differ by more.
    """
    missed = _misses(found, start, exact=exact, travelled=travelled)
    if missed is not None:
        _complain(*missed, exact=exact)


def _largest(x: Tensor) -> Tensor:
    """Largest number of each system, shape (B,); states may have any shape (B, …)."""
    return x.reshape(x.shape[0] if x.ndim else 1, -1).amax(1)


def distance_travelled(start: Sequence[Tensor], end: Sequence[Tensor]) -> Tensor:
    """Largest change of a coordinate or momentum of each system, shape (B,)."""
    changes = [_largest((b - a).abs().nan_to_num(0.0)) for a, b in zip(start, end, strict=True) if a.numel()]
    return torch.stack(changes).amax(0) if changes else start[0].new_zeros(start[0].shape[:1])


def check_repeated(found: Sequence[Tensor], known: Sequence[Tensor], *, travelled: Tensor) -> None:
    """Refuse a part of a run that is done again and ends elsewhere; systems that diverged are left out.

    Args:
        found: q and p at the end of the part, this time.
        known: q and p there in the run itself.
        travelled: how far each system came in the part, shape (B,).

    Raises:
        ReversalError: they differ by more than the root of the machine precision.
    """
    missed = _misses(found, known, exact=False, travelled=travelled)
    if missed is not None:
        raise ReversalError(
            f"steps that were computed again ended elsewhere for {missed[1]} systems, by up to {missed[0]:.2g}, so the "
            "gradient would be wrong: the force is not the same twice; it must depend on the positions alone and draw "
            'no random numbers, or use adjoint="autograd"'
        )


def _misses(
    found: Sequence[Tensor], known: Sequence[Tensor], *, exact: bool, travelled: Tensor | None
) -> tuple[float, int] | None:
    """The largest error and the number of systems that are off in one of q and p; None if all are right."""
    for ours, theirs in zip(found, known, strict=True):
        if not theirs.numel():
            continue
        size = _largest(torch.maximum(ours.abs(), theirs.abs()).nan_to_num(0.0, 0.0))
        scale = size + (travelled if travelled is not None else 0.0)
        error = _largest((ours - theirs).abs().nan_to_num(0.0))
        allowed = torch.zeros_like(scale) if exact else torch.finfo(theirs.dtype).eps ** 0.5 * scale
        missed = error > allowed
        if bool(missed.any()):
            return float(error[missed].max()), int(missed.sum())
    return None


def _complain(error: float, count: int, *, exact: bool) -> None:
    advice = (
        "the force is not the same twice: fix the number of threads, use deterministic kernels, and change no weight "
        "between the run and its gradient"
        if exact
        else 'the motion is too chaotic for this length (or the force is not the same twice): options={"fixed_point": '
        'True} of a splitting method returns exactly, and adjoint="checkpoint" does not step back'
    )
    raise ReversalError(
        f"stepping back missed the initial state of {count} systems by up to {error:.2g}, so the gradient would "
        f"be wrong; {advice}"
    )
