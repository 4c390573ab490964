"""Stopping a run: at the first number that is not finite, and on Ctrl-C at the end of a step."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

_WINDOW_ON_ACCELERATORS = 16  # steps between two looks, each of which waits for the device


class FiniteGuard:
    """Watch losses and gradient norms; the weights to return to are those before the first bad one.

    On the CPU every step is looked at before the weights change. Elsewhere a look means waiting for the
    device, so it happens every 16 steps, and a copy of the weights is kept from the last one.

    Args:
        parameters: the weights.
        window: steps between two looks; None chooses by the device.

    Example:
        >>> guard = FiniteGuard([torch.zeros(1)])
        >>> guard.first_bad(1, torch.tensor(0.5), torch.tensor(1.0))
        >>> guard.first_bad(2, torch.tensor(0.5), torch.tensor(float("nan")))
        2
    """

    def __init__(self, parameters: Sequence[Tensor], *, window: int | None = None) -> None:
        on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
        self.window = window or (1 if on_cpu else _WINDOW_ON_ACCELERATORS)
        self._parameters = list(parameters)
        self._good = [p.detach().clone() for p in parameters] if self.window > 1 else []
        self._pending: list[tuple[int, Tensor, Tensor]] = []

    @torch.no_grad()
    def first_bad(self, step: int, loss: Tensor, norm: Tensor) -> int | None:
        """Note a step, between the gradient and the update of the weights.

        Returns:
            The first step whose loss or gradient is not finite, when it is time to look and there is one.
        """
        if self.window == 1:
            return None if math.isfinite(loss.item()) and math.isfinite(norm.item()) else step
        self._pending.append((step, loss.detach(), norm.detach()))
        return self.look() if len(self._pending) >= self.window else None

    @torch.no_grad()
    def look(self) -> int | None:
        """Look at the noted steps now; if all are finite, their weights become the ones to return to."""
        if not self._pending:
            return None
        steps, losses, norms = zip(*self._pending, strict=True)
        finite = (torch.stack(losses).isfinite() & torch.stack(norms).isfinite()).tolist()
        self._pending.clear()
        if not all(finite):
            return int(steps[finite.index(False)])
        torch._foreach_copy_(self._good, self._parameters)
        return None

    @torch.no_grad()
    def restore(self) -> None:
        """Set the weights back to the last ones known to be good."""
        if self._good:
            torch._foreach_copy_(self._parameters, self._good)


@contextmanager
def interruptions() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C interrupts at once, as it does outside.

    Outside the main thread signals cannot be caught: the event is then never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
