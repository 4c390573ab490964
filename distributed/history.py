"""The journal of a run as numbers: when which segment was done, by whom, and what went wrong.

    work done until t   W(t) = Σ_e w_e · clip(1 + (t − t_e) / s_e, 0, 1)

A segment e of w_e system-steps took s_e seconds and ended at t_e. Times are seconds since the first line; a clock that
jumps back stands still instead. The journal is advisory, and so are these numbers.

Shape letters: E segments that were computed, T places in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lie_sim.distributed.journal import steps_of
from lie_sim.distributed.manifest import Manifest

COMPUTED = ("new", "duplicate")
"""Events that tell of a segment that was computed."""


@dataclass(frozen=True, eq=False)
class Computed:
    """Segments that were computed, in the order in which they ended.

    Args:
        ended: when, in seconds, ascending, shape (E,).
        seconds: of computing, shape (E,).
        idle: seconds that the worker waited before, 0 where it is not known, shape (E,).
        steps: system-steps, shape (E,).
        kept: whether the segment was not there before, shape (E,).
        worker: machine and process, E words.
    """

    ended: np.ndarray
    seconds: np.ndarray
    idle: np.ndarray
    steps: np.ndarray
    kept: np.ndarray
    worker: np.ndarray

    @property
    def node(self) -> np.ndarray:
        """The machine, E words."""
        return np.array([name.rsplit(":", 1)[0] for name in self.worker], dtype=str)

    def of(self, chosen: np.ndarray) -> Computed:
        """Some of them, by a mask or by their places."""
        return Computed(**{name: values[chosen] for name, values in vars(self).items()})

    def work(self, times: np.ndarray) -> np.ndarray:
        """System-steps done until each of some times, shape (T,)."""
        took = np.maximum(self.seconds, 1e-9)
        return np.array([np.clip(1 + (time - self.ended) / took, 0.0, 1.0) @ self.steps for time in times])


@dataclass(frozen=True, eq=False)
class History:
    """What the journal says.

    Args:
        times: of every event, by its name, in seconds.
        errors: what was said when a segment failed, each with its event; in the order in which it was said.
        computed: segments that were computed.
        length: seconds from the first to the last line.
    """

    times: dict[str, np.ndarray]
    errors: list[tuple[str, str]]
    computed: Computed
    length: float


def history(entries: Iterable[Mapping[str, Any]], manifest: Manifest) -> History:
    """Read a journal.

    Args:
        entries: its lines, as :func:`lie_sim.distributed.journal.events` gives them; strange ones are left out.
        manifest: of the run.

    Example:
        >>> one = Manifest({}, "leapfrog", {}, 0.1, 100, 1, 100, (), "", "float64")
        >>> history([{"time": 5.0, "event": "begin"}, {"time": 7.5, "event": "end"}], one).length
        2.5
    """
    known = [entry for entry in entries if _is_known(entry)]
    clock = np.maximum.accumulate([entry["time"] for entry in known]) if known else np.zeros(0)
    clock = clock - clock[:1].sum()
    times: dict[str, list[float]] = {}
    for entry, time in zip(known, clock.tolist(), strict=True):
        times.setdefault(entry["event"], []).append(time)
    return History(
        times={event: np.array(found) for event, found in times.items()},
        errors=[(entry["event"], str(entry["error"])) for entry in known if entry.get("error")],
        computed=_computed(known, clock, manifest),
        length=float(clock[-1]) if known else 0.0,
    )


def _computed(entries: list[Mapping[str, Any]], clock: np.ndarray, manifest: Manifest) -> Computed:
    places = [k for k, entry in enumerate(entries) if _is_segment(entry, manifest)]
    found, steps = [entries[k] for k in places], steps_of(manifest)
    sizes = [manifest.chunks[entry["chunk"]].size * int(steps[entry["number"]]) for entry in found]
    return Computed(
        ended=clock[places] if places else np.zeros(0),
        seconds=_numbers(found, "seconds"),
        idle=_numbers(found, "idle"),
        steps=np.array(sizes, dtype=float),
        kept=np.array([entry["event"] == "new" for entry in found], dtype=bool),
        worker=np.array([str(entry.get("worker") or "unknown") for entry in found], dtype=str),
    )


def _numbers(entries: list[Mapping[str, Any]], name: str) -> np.ndarray:
    """One number of each entry; 0 where there is none."""
    found = [entry.get(name) for entry in entries]
    return np.array([max(x, 0.0) if isinstance(x, int | float) and math.isfinite(x) else 0.0 for x in found])


def _is_known(entry: Mapping[str, Any]) -> bool:
    time = entry.get("time")
    return isinstance(entry.get("event"), str) and isinstance(time, int | float) and math.isfinite(time)


def _is_segment(entry: Mapping[str, Any], manifest: Manifest) -> bool:
    chunk, number = entry.get("chunk"), entry.get("number")
    if entry["event"] not in COMPUTED or not isinstance(chunk, int) or not isinstance(number, int):
        return False
    return 0 <= chunk < len(manifest.chunks) and 0 <= number < manifest.num_segments
