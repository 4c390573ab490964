"""The progress bar of a run that trains elsewhere, from the lines of its metrics."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lie_sim.training import TrainingConfig, read_metrics
from lie_sim.training.progress import Progress

_LOOK = 1.0
"""Seconds between two looks."""


@contextmanager
def followed(folder: Path, config: TrainingConfig, *, metric: str, shown: bool = True) -> Iterator[None]:
    """Show a bar while the block runs.

    Args:
        folder: the run directory.
        config: options of the run.
        metric: name of the validation metric.
        shown: whether there is a bar at all.
    """
    if not shown:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder / "metrics.jsonl", config, metric, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(path: Path, config: TrainingConfig, metric: str, ended: threading.Event) -> None:
    last = _last(path)
    seen = last.get("step", 0)
    bar = Progress(shown=True, fraction=done_part(config, last), batch_size=config.batch_size, metric=metric)
    while True:
        finished = ended.wait(_LOOK)
        row = _last(path)
        if row and row["step"] != seen:
            bar.count(max(0, row["step"] - seen))
            seen = row["step"]
            bar.update(
                fraction=done_part(config, row),
                step=seen,
                loss=_number(row.get("train_loss")),
                validation=row.get(metric),
                learning_rate=_number(row.get("learning_rate")),
            )
        if finished:
            break
    bar.close()


def done_part(config: TrainingConfig, row: dict[str, Any]) -> float:
    """Part of a run that is done by a row of its metrics.

    Example:
        >>> done_part(TrainingConfig(max_steps=200), {"step": 50, "cpu_seconds": 3.0})
        0.25
    """
    steps = row.get("step", 0) / config.max_steps if config.max_steps else 0.0
    seconds = row.get("cpu_seconds", 0.0) / config.max_cpu_seconds if config.max_cpu_seconds else 0.0
    return float(max(steps, seconds))


def _last(path: Path) -> dict[str, Any]:
    rows = read_metrics(path) if path.exists() else []
    return rows[-1] if rows else {}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
