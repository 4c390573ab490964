"""Benchmarks of many parts: each in a process of its own, kept in a folder, never done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lie_sim.files import write_atomically


def do_missing(script: str, keep: Path, names: Iterable[str], options: Sequence[str] = ()) -> None:
    """Run ``script --keep KEEP --part NAME`` for what is not there, and keep what it prints.

    Args:
        script: the file of the benchmark.
        keep: folder of the parts.
        names: of the parts that are wanted.
        options: further words of the command.
    """
    keep.mkdir(parents=True, exist_ok=True)
    for name in tqdm(list(names), unit="part"):
        path = keep / f"{name}.json"
        if not path.exists():
            command = [sys.executable, script, "--keep", str(keep), "--part", name, *options]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            write_atomically(path, done.stdout.encode())


def kept_parts(keep: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The parts that are there, by name."""
    paths = {name: keep / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
