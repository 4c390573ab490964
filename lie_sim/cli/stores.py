"""``lie-sim status``, ``watch``, ``verify``, ``compact``, ``export``: look at a run of lie-sim simulate, or after it.

None of them disturbs a run that is being computed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from lie_sim.cli.errors import UsageError
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import is_run, show, training_status
from lie_sim.cli.simulate import describe
from lie_sim.distributed import Run
from lie_sim.distributed import compact as pack
from lie_sim.distributed import export as write
from lie_sim.distributed import verify as check
from lie_sim.distributed.journal import events
from lie_sim.errors import DataError

_EVENTS = {
    "begin": "times begun",
    "stop": "times stopped",
    "retry": "retries",
    "lost": "workers lost",
    "duplicate": "computed twice",
    "failed": "failed",
    "quarantine": "set aside",
}
"""Events of a run, for people."""

_RunFolder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR_OR_URL")]


@dataclass(frozen=True)
class StatusOptions:
    """How far a simulation is, and what has gone wrong in it so far; or how far a training run is.

    Args:
        run: folder of the run, or the URL of a simulation on object storage.
    """

    run: _RunFolder


@dataclass(frozen=True)
class WatchOptions:
    """Follow a run that is computed elsewhere, until it is complete.

    Args:
        run: folder of the run, or its URL on object storage.
        every: seconds between two looks.
    """

    run: _RunFolder
    every: float = 2.0


@dataclass(frozen=True)
class VerifyOptions:
    """Read every byte of a run and compare it with its digest; the exit code is 2 if something is wrong.

    Args:
        run: folder of the run, or its URL on object storage.
        repair: set damaged segments aside, so that lie-sim resume makes them again.
    """

    run: _RunFolder
    repair: bool = False


@dataclass(frozen=True)
class CompactOptions:
    """Put the segments of every complete chunk into one file.

    Args:
        run: folder of the run, or its URL on object storage.
    """

    run: _RunFolder


@dataclass(frozen=True)
class ExportOptions:
    """Write a run in a format of others.

    Args:
        run: folder of the run, or its URL on object storage.
        to: file (h5md; .extxyz or .traj of one trajectory) or folder to write; it is there when all of it is written.
        format: zarr, parquet, h5md, extxyz or traj (of ASE); by default what the ending of TARGET says, .zarr or .h5,
            or, for one trajectory, .extxyz or .traj.
        trajectories: numbers of the trajectories to write; by default all.
    """

    run: _RunFolder
    to: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    format: Literal["zarr", "parquet", "h5md", "extxyz", "traj"] | None = None
    trajectories: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N …")] = ()


def status(argv: Sequence[str]) -> None:
    """Print how far a run is."""
    where = parse(StatusOptions, argv, prog="lie-sim status").run
    if is_run(Path(where)):
        show(training_status(Path(where)))
        return
    run = Run(where)
    counts: dict[str, int] = {}
    last = None
    for entry in events(run.folder):
        counts[entry.get("event", "")] = counts.get(entry.get("event", ""), 0) + 1
        last = entry if entry.get("event") in ("failed", "quarantine") else last
    happened = [(text, counts[name]) for name, text in _EVENTS.items() if counts.get(name)]
    show([*describe(run).items(), *happened])
    if last is not None:
        print(f"last error: {last.get('error')}")


def watch(argv: Sequence[str]) -> None:
    """Show a progress bar until the run is complete."""
    options = parse(WatchOptions, argv, prog="lie-sim watch")
    if options.every <= 0:
        raise UsageError(f"--every must be positive, got {options.every}")
    run = Run(options.run)
    found = run.status()
    with tqdm(
        total=found.total_segments,
        initial=found.segments,
        unit="segments",
        desc=Path(run.store.location).name,
    ) as bar:
        while not found.complete:
            time.sleep(options.every)
            found = run.status()
            bar.n = found.segments
            ended = len(found.diverged) + len(found.drifted)
            bar.set_postfix(frames=f"{found.frames:,}", drift=f"{found.drift:.1e}", ended=ended)
    show(describe(run).items())


def verify(argv: Sequence[str]) -> None:
    """Print what is wrong."""
    options = parse(VerifyOptions, argv, prog="lie-sim verify")
    found = check(Run(options.run), repair=options.repair)
    for problem in found.problems:
        print(problem, file=sys.stderr)
    show(
        {
            "segments": found.segments,
            "missing": found.missing,
            "in quarantine": len(found.quarantined),
            "sound": "yes" if found.sound else "no",
        }.items()
    )
    if not found.sound:
        aside = "they were set aside where that helps, and" if options.repair else "with --repair,"
        raise DataError(
            f"{len(found.problems)} problems in {options.run}; {aside} lie-sim resume {options.run} makes damaged "
            "segments again"
        )


def compact(argv: Sequence[str]) -> None:
    """Pack complete chunks."""
    run = Run(parse(CompactOptions, argv, prog="lie-sim compact").run)
    print(f"{pack(run)} of {len(run.manifest.chunks)} chunks are packed")


def export(argv: Sequence[str]) -> None:
    """Write another format."""
    options = parse(ExportOptions, argv, prog="lie-sim export")
    chosen = options.trajectories or None
    try:
        run = Run(options.run)
        target = write(run, options.to, format=options.format, trajectories=chosen)
    except (FileExistsError, IndexError) as error:
        raise UsageError(str(error)) from error
    status = run.status()
    so_far = (
        "" if status.complete else f", as far as it is: {status.segments} of {status.total_segments} segments"
    )
    print(f"written {target}{so_far}")
