"""The progress bar of a training run."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

_FORMAT = "{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}"


class Progress:
    """A bar over the done part of the run; the remaining time follows from it, also for CPU budgets.

    Args:
        shown: whether there is a bar at all.
        fraction: part of the run that is done already.
        batch_size: samples per step, for the rate.
        metric: name of the validation metric.
    """

    def __init__(self, *, shown: bool, fraction: float, batch_size: int, metric: str) -> None:
        quiet = 0.2 if sys.stderr.isatty() else 30.0  # a log file gets a line now and then
        self._bar = tqdm(
            total=1.0,
            initial=fraction,
            disable=not shown,
            bar_format=_FORMAT,
            mininterval=quiet,
            file=sys.stderr,
        )
        self._batch_size, self._metric = batch_size, metric
        self._begin, self._steps = time.perf_counter(), 0

    def update(
        self, *, fraction: float, step: int, loss: float, validation: float | None, learning_rate: float
    ) -> None:
        """Show the state after ``step``; called at every line of metrics."""
        if self._bar.disable:
            return
        rate = self._steps * self._batch_size / max(1e-9, time.perf_counter() - self._begin)
        measured = "" if validation is None else f", {self._metric} {validation:.2e}"
        self._bar.set_postfix_str(
            f"step {step}, loss {loss:.2e}{measured}, lr {learning_rate:.1e}, {rate:.0f} samples/s",
            refresh=False,
        )
        self._bar.update(max(0.0, min(1.0, fraction) - self._bar.n))

    def count(self, steps: int = 1) -> None:
        """So many more steps done."""
        self._steps += steps

    def close(self) -> None:
        """Draw the last state and end the line."""
        self._bar.close()
