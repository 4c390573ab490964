"""``lie-sim label``: energies and forces of structures and their displacements, by any ASE calculator."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from lie_sim.cli.errors import StoppedError, UsageError
from lie_sim.cli.parsing import Inlined, parse
from lie_sim.cli.runs import show
from lie_sim.data.labelling import LabelConfig, LabelSummary, label_file
from lie_sim.data.qm9 import NUM_MOLECULES, qm9
from lie_sim.data.reference_calculators import reference_calculator
from lie_sim.data.sampling import Sampling
from lie_sim.data.structure_files import read_atoms, to_atoms
from lie_sim.distributed import cluster
from lie_sim.distributed import label as distributed_label
from lie_sim.errors import LieSimError

_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class LabelOptions:
    """Label structures with energies, forces and what else a calculator gives; goes on where it stopped.

    Args:
        out: extended XYZ file to write; OUT.journal.jsonl beside it keeps options, versions and failures.
        geometries: which geometries of each structure.
        calculator: "gfn2" or "gfn1" (tblite), "emt", or anything importable as pkg.mod:Name.
        structures: file of structures to start from: .extxyz, .db, .traj, .npz or .safetensors.
        qm9: start from so many molecules of QM9 instead, drawn by the seed.
        largest_force: eV/Å; frames with a larger force on an atom are left out.
        seed: of everything random.
        workers: processes; by default one, and with --address all processors that are there.
        address: label on Ray: local, auto, or the address of a cluster; records of every structure are kept in
            OUT.store/ until you remove it.
        progress: show a progress bar.
        check_units: refuse structures with distances so large or small that they must be in other units.
        overwrite: begin again where the file is of a run with other options.
    """

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.extxyz")]
    geometries: Inlined[Sampling]
    calculator: str = "gfn2"
    structures: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    qm9: int = 0
    largest_force: float = 15.0
    seed: int = 0
    workers: int | None = None
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    progress: bool = True
    check_units: bool = True
    overwrite: bool = False


def label(argv: Sequence[str]) -> None:
    """Label, and print what was done."""
    defaults = LabelOptions(Path("labels.extxyz"), Sampling())
    options = parse(LabelOptions, argv, prog="lie-sim label", default=defaults)
    if options.out.suffix not in (".extxyz", ".xyz"):
        raise UsageError(
            f"labels are written as extended XYZ: name the file *.extxyz, not {options.out.name}"
        )
    if options.structures is not None and options.out.resolve() == options.structures.resolve():
        raise UsageError(f"{options.out} holds the structures: write the labels to another file")
    config = LabelConfig(options.calculator, options.geometries, options.largest_force, options.seed)
    starts = _starts(options)
    reference_calculator(config.calculator)  # before a bar is drawn, or Ray started
    try:
        found = (
            _here(options, starts, config) if options.address is None else _on_ray(options, starts, config)
        )
    except KeyboardInterrupt:
        command = shlex.join(["lie-sim", "label", *(word for word in argv if word != "--overwrite")])
        raise StoppedError(f"stopped; what was labelled is kept. To go on: {command}") from None
    _summarise(found, options)


def _here(options: LabelOptions, starts: list[Any], config: LabelConfig) -> LabelSummary:
    """By processes of this machine."""
    with tqdm(total=len(starts), disable=not options.progress, unit="structure") as bar:
        return label_file(
            options.out,
            starts,
            config,
            workers=1 if options.workers is None else options.workers,
            overwrite=options.overwrite,
            progress=_shown(bar),
        )


def _on_ray(options: LabelOptions, starts: list[Any], config: LabelConfig) -> LabelSummary:
    """The same labels, by workers of a cluster."""
    store = options.out.with_name(options.out.name + ".store")
    with cluster(options.address, workers=options.workers):
        run = distributed_label(starts, config, store=store, wait=False)
        return run.export(options.out, overwrite=options.overwrite, progress=options.progress)


def _starts(options: LabelOptions) -> list[Any]:
    if (options.structures is None) == (options.qm9 == 0):
        raise UsageError("give structures to start from: --structures FILE or --qm9 NUMBER (one of them)")
    if options.structures is not None:
        return read_atoms(options.structures, check_units=options.check_units)
    if options.qm9 > NUM_MOLECULES:
        raise UsageError(f"QM9 has {NUM_MOLECULES} molecules, --qm9 asks for {options.qm9}")
    order = np.random.default_rng(options.seed).permutation(NUM_MOLECULES)
    return to_atoms(qm9()[order[: options.qm9]])


def _shown(bar: tqdm[Any]) -> Callable[[LabelSummary], None]:
    def update(summary: LabelSummary) -> None:
        bar.set_postfix_str(f"{summary.frames} frames, {len(summary.failures)} failed", refresh=False)
        bar.update(summary.structures - bar.n)

    return update


def _summarise(found: LabelSummary, options: LabelOptions) -> None:
    dropped = f"{found.dropped} with forces above {options.largest_force:g} eV/Å"
    rows = [("structures", found.structures), ("frames", found.frames), ("left out", dropped)]
    show([*rows, ("failed", len(found.failures)), ("written", options.out)])
    for number, error in list(found.failures.items())[:_SHOWN_FAILURES]:
        print(f"  structure {number}: {error}")
    if len(found.failures) > _SHOWN_FAILURES:
        print(f"  … all in {options.out}.journal.jsonl")
    if not found.frames:
        raise LieSimError(f"nothing was labelled: {options.out} has no frames")
