"""The figures of an evaluation on disk: ``results.json``, JSON that every reader takes.

JSON has no NaN and no infinity; a figure that is not finite is written as null and read as NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lie_sim.errors import DataError
from lie_sim.files import write_atomically

RESULTS = "results.json"


def write_figures(path: str | Path, figures: Mapping[str, Any]) -> None:
    """Write figures, or tables of figures, as JSON with null for NaN and infinity.

    Args:
        path: the file.
        figures: numbers by name, or further such tables.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_figures(folder / "results.json", {"mse": 0.5, "drift": math.nan})
        >>> read_results(folder)
        {'mse': 0.5, 'drift': nan}
    """
    text = json.dumps(_with_null(figures), indent=2, allow_nan=False)
    write_atomically(Path(path), f"{text}\n".encode())


def read_results(folder: str | Path) -> dict[str, float]:
    """The figures of the last evaluation of a run directory; none if there was none, NaN for null.

    Raises:
        DataError: the file is damaged.
    """
    path = Path(folder) / RESULTS
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_bytes())
        return {name: math.nan if value is None else float(value) for name, value in results.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged: evaluate the run again with lie-sim evaluate {folder}"
        ) from error


def _with_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_null(entry) for name, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
