"""What happens during a run, as lines of JSON for people and reports, and as a progress bar.

    {"time": …, "event": "new", "chunk": 3, "number": 7, "seconds": 29.8, "ended": 0, "drift": 1e-6, "worker": …}

The journal is advisory: nothing is computed from it, and a line that cannot be written is not missed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from lie_sim.distributed.manifest import Manifest

NAME = "events.jsonl"


class Journal:
    """Tells the file and the progress bar.

    Args:
        folder: of the run.
        manifest: what the run is.
        present: which segments are there, shape (C, K).
        progress: show a bar on standard error.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, present: np.ndarray, *, progress: bool = False
    ) -> None:
        self._path, self._manifest = folder / NAME, manifest
        self._steps = steps_of(manifest)
        self._counts: Counter[str] = Counter()
        self._ended: dict[int, int] = {}
        self._drift = 0.0
        sizes = np.array([chunk.size for chunk in manifest.chunks])
        self._bar = tqdm(
            total=int(sizes.sum()) * manifest.steps,
            initial=int((sizes[:, None] * self._steps[None] * present).sum()),
            unit="system-steps",
            unit_scale=True,
            desc="simulate",
            disable=not progress,
        )

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.tell("stop", reason=type(error).__name__)
        self._bar.close()

    def tell(self, event: str, **facts: Any) -> None:
        """Something happened."""
        self._counts[event] += 1
        append(self._path, {"time": time.time(), "event": event, **facts})
        if event in ("new", "duplicate", "present"):
            self._ended[facts["chunk"]] = facts["ended"]
            self._drift = max(self._drift, facts["drift"]) if not math.isnan(facts["drift"]) else self._drift
            size = self._manifest.chunks[facts["chunk"]].size
            self._bar.update(size * int(self._steps[facts["number"]]))
        self._bar.set_postfix(
            drift=f"{self._drift:.1e}",
            ended=sum(self._ended.values()),
            retries=self._counts["retry"] + self._counts["lost"],
            failed=self._counts["failed"],
            refresh=False,
        )


def steps_of(manifest: Manifest) -> np.ndarray:
    """Steps of every segment of a chunk, shape (K,)."""
    ends = np.minimum(np.arange(1, manifest.num_segments + 1) * manifest.segment_steps, manifest.steps)
    steps: np.ndarray = np.diff(ends, prepend=0)
    return steps


def append(path: Path, entry: dict[str, Any]) -> None:
    """One line at the end of a file, by one call of the system, so that lines of two drivers do not mix."""
    known = {name: x for name, x in entry.items() if not (isinstance(x, float) and math.isnan(x))}
    line = json.dumps(known, default=str) + "\n"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError:  # the disk is full, say
        return


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """What was written down; lines that are cut short are left out."""
    path = folder / NAME
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry
