"""``lie-sim data``: data sets that come as packages, checked and kept as one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from lie_sim.cli.errors import UsageError, suggestion
from lie_sim.cli.parsing import parse
from lie_sim.cli.runs import show
from lie_sim.data.qm9 import NUM_MOLECULES, QM9_TARGETS, qm9, qm9_file

SETS = ("qm9",)


@dataclass(frozen=True)
class DataOptions:
    """Read, check and keep the 130,831 molecules of QM9 (from the package qm9pack).

    Args:
        out: also write them to this file, as .safetensors.
        progress: show a progress bar.
    """

    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    progress: bool = True


def data(argv: Sequence[str]) -> None:
    """Make the set that the first word names, and say where it is."""
    if not argv:
        raise UsageError(f"name a data set: {', '.join(SETS)}")
    if argv[0] in ("-h", "--help"):
        print(f"usage: lie-sim data SET [...]\n\nSets: {', '.join(SETS)}.")
        print("lie-sim data SET --help shows the options.")
        return
    if argv[0] not in SETS:
        raise UsageError(f"unknown data set {argv[0]!r}{suggestion(argv[0], SETS) or '; there is qm9'}")
    options = parse(DataOptions, argv[1:], prog="lie-sim data qm9")
    if options.out is not None and options.out.suffix != ".safetensors":
        raise UsageError(f"the set is written as .safetensors, not as {options.out.name}")
    with tqdm(total=NUM_MOLECULES, disable=not options.progress, unit="molecule") as bar:
        molecules = qm9(progress=lambda count: bar.update(count - bar.n))
        bar.update(len(molecules) - bar.n)
    if options.out is not None:
        molecules.save(options.out)
    kept = qm9_file() if options.out is None else options.out
    rows = [
        ("molecules", len(molecules)),
        ("atoms", len(molecules.numbers)),
        ("targets", ", ".join(QM9_TARGETS)),
    ]
    show([*rows, ("written" if options.out else "kept", kept)])
