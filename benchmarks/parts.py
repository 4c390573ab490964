"""Benchmarks of many parts: each in a process of its own, kept in a folder, never done again."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from record import RESULTS, surroundings
from tqdm import tqdm

from lie_sim.files import write_atomically

Part = dict[str, Any]


def parser_of_parts(description: str | None) -> argparse.ArgumentParser:
    """The options that all such benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, required=True, help="folder of the parts")
    parser.add_argument("--only", default="*", help="pattern of the names of the parts to do")
    parser.add_argument("--restore", action="store_true", help="begin with the parts that are recorded")
    parser.add_argument("--record", action="store_true", help="write what is there, and run nothing")
    parser.add_argument("--part", help="do this one here, and print it")
    return parser


def measured(
    script: str,
    names: Iterable[str],
    run: Callable[[str, argparse.Namespace], Part],
    options: argparse.Namespace,
    *,
    asked: Sequence[str] = (),
    places: Sequence[str] = (),
) -> dict[str, Part] | None:
    """All parts that are there, by name, after those that are missing and wanted were done.

    Args:
        script: the file of the benchmark.
        names: of all parts.
        run: does one.
        options: of :func:`parser_of_parts` and those of the benchmark.
        asked: names of options that change what is measured; a part keeps them, and parts of others are refused.
        places: names of options that are handed on without that.

    Returns:
        None in a process that does one part, and prints it.

    Raises:
        SystemExit: a part in the folder was done with other options or cannot be read, there is no such part, or
            nothing is recorded that could be restored.
    """
    names = list(names)
    if options.part:
        if options.part not in names:
            raise SystemExit(f"there is no part {options.part!r}; there are {', '.join(names)}")
        print(json.dumps(run(options.part, options)))
        return None
    wanted = [name for name in names if fnmatch(name, options.only)]
    if not wanted:
        raise SystemExit(f"no part is called {options.only!r}; there are {', '.join(names)}")
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.restore:
        restore(options.keep, RESULTS / f"{Path(script).stem}.json", names)
    choices = {name: getattr(options, name) for name in asked}
    kept = kept_parts(options.keep, names)
    for name, part in kept.items():
        _check(options.keep / f"{name}.json", part, choices)
    if options.record:
        return kept
    words = [word for name in (*asked, *places) for word in _words(name, getattr(options, name))]
    for name in tqdm([name for name in wanted if name not in kept], unit="part"):
        command = [sys.executable, script, "--keep", str(options.keep), "--part", name, *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        part = json.loads(done.stdout) | {"asked": choices, "made": surroundings()}
        write_atomically(options.keep / f"{name}.json", json.dumps(part).encode())
    return kept_parts(options.keep, names)


def _words(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name.replace('_', '-')}"] * value
    return [] if value is None else [f"--{name.replace('_', '-')}", str(value)]


def _check(path: Path, part: Part, choices: Part) -> None:
    """Was the part done with the same options?"""
    earlier = part.get("asked", "options that it does not tell")
    if earlier != choices:
        raise SystemExit(
            f"{path} was done with {earlier}, and {choices} are asked for now; "
            "give the same options or another folder to --keep"
        )


def restore(keep: Path, result: Path, names: Iterable[str]) -> None:
    """Write the parts of a record into the folder, but not over what is there."""
    if not result.exists():
        raise SystemExit(f"{result.name} is not recorded yet: leave out --restore")
    details = json.loads(result.read_text(encoding="utf-8"))["details"]
    parts = details.get("parts", details)
    for name in names:
        path = keep / f"{name}.json"
        if name in parts and not path.exists():
            write_atomically(path, json.dumps(parts[name]).encode())


def kept_parts(keep: Path, names: Iterable[str]) -> dict[str, Part]:
    """The parts that are there, by name."""
    found = {}
    for name in names:
        path = keep / f"{name}.json"
        if path.exists():
            try:
                found[name] = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError as error:
                raise SystemExit(
                    f"{path} cannot be read ({error}): remove it, and it is done again"
                ) from None
    return found
