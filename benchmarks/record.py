"""Write the figures of a benchmark where the documentation finds them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def record(
    name: str,
    figures: dict[str, float],
    *,
    threads: int,
    details: Any = None,
    earlier: str = "",
    parts: Iterable[dict[str, Any]] = (),
) -> Path:
    """Write ``results/NAME.json``: date, command, versions, threads, figures and, optionally, more detail.

    ``earlier`` is the command of which a part of the record still stands; ``parts`` are those that tell when and where
    they were made.
    """
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_portable, sys.argv[1:])])
    content = {
        "command": f"{earlier}; then {command}" if earlier else command,
        **made_of([part["made"] for part in parts if "made" in part]),
        "threads": threads,
        "figures": figures,
    }
    if details is not None:
        content["details"] = details
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def made_of(places: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last date and its versions, and all machines; those of now where none are known.

    Example:
        >>> made_of([{"date": "2026-01-02", "machine": "b"}, {"date": "2026-01-01", "machine": "a"}])
        {'date': '2026-01-02', 'machine': 'a; b'}
    """
    if not places:
        return surroundings()
    last = max(places, key=lambda place: str(place["date"]))
    return last | {"machine": "; ".join(sorted({place["machine"] for place in places}))}


def surroundings() -> dict[str, Any]:
    """Date, versions and machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "numpy")},
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_vectors()}",
    }


def show_and_record(name: str, figures: dict[str, float], details: Any, *, dry_run: bool) -> None:
    """Print the figures, and write them unless it is a dry run; one thread."""
    for figure, value in figures.items():
        print(f"{figure:36} {value:.5g}")
    if not dry_run:
        print(record(name, figures, threads=1, details=details))


def _vectors() -> str:
    """The vector instructions that torch uses: they change ratios, not only times."""
    return torch.backends.cpu.get_cpu_capability()


def _portable(argument: str) -> str:
    """Options as given, places of the machine as PATH."""
    return "PATH" if Path(argument).is_absolute() else argument


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
