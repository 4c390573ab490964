"""The metrics of a run: one JSON object per line, never doubled and never half a line after a resumed run."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from lie_sim.files import write_atomically


class MetricsFile:
    """Append rows to a file of JSON lines.

    Args:
        path: the file; None keeps nothing.
        num_rows: rows beyond these, and an unfinished line, are removed first: they belong to a part of an
            earlier run that will be done again.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
        >>> metrics = MetricsFile(path, num_rows=0)
        >>> metrics.append({"step": 1, "train_loss": float("nan")})
        >>> metrics.close()
        >>> read_metrics(path)
        [{'step': 1, 'train_loss': None}]
    """

    def __init__(self, path: Path | None, *, num_rows: int) -> None:
        self._file: TextIO | None = None
        if path is None:
            return
        kept = read_metrics(path)[:num_rows] if path.exists() else []
        write_atomically(path, "".join(_line(row) for row in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; NaN and infinity become null."""
        if self._file is not None:
            self._file.write(_line(row))
            self._file.flush()

    def sync(self) -> None:
        """Flush to disk; done before each checkpoint, so that no row before a checkpoint is lost."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a metrics file in order; a last line that was cut off is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _line(row: dict[str, Any]) -> str:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"
