"""Labels for many structures, here or on a cluster, that survive anything: begin, or go on, by the same call.

    job of structure k = f(structure, k, options, seed)

It is :func:`~lie_sim.data.labelling.label_file` with a store in between: every structure has a record that is committed
once; the file that is written from them is the same to the byte, wherever they were computed and whatever was killed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from tqdm import tqdm

from lie_sim.data.journal import Journal
from lie_sim.data.labelling import LabelConfig, LabelSummary, structure_digest, summarised
from lie_sim.data.reference_calculators import calculator_version, reference_calculator
from lie_sim.distributed.driver import drive
from lie_sim.distributed.executors import executor_for
from lie_sim.distributed.journal import NAME as EVENTS
from lie_sim.distributed.journal import append
from lie_sim.distributed.label_store import LabelManifest, LabelStore, digest_of, start_bytes
from lie_sim.distributed.manifest import NAME as RUN
from lie_sim.distributed.run import FailedChunksError
from lie_sim.distributed.schedule import Schedule
from lie_sim.distributed.store import SegmentStore
from lie_sim.errors import ConfigError, DataError
from lie_sim.plain import to_plain


def label(
    structures: Sequence[Atoms],
    calculator: str | LabelConfig,
    *,
    store: str | Path,
    chunk: int = 8,
    retries: int = 3,
    progress: bool = False,
    wait: bool = True,
) -> LabelRun:
    """Label structures; the same call resumes.

    Inside ``with cluster(...)`` they are labelled there, otherwise here. A structure that fails leaves its error in its
    record.

    Args:
        structures: the starts.
        calculator: a name, such as ``"gfn2"``, ``"emt"`` or ``"pkg.mod:Name"``, which workers import; or all options.
        store: folder of the records; made, or gone on with.
        chunk: structures of a task; where there are records already, theirs counts.
        retries: how often in a row a task may fail for reasons that may pass, such as a full disk.
        progress: show a bar on standard error.
        wait: label now; otherwise :meth:`LabelRun.finish` does.

    Returns:
        The records.

    Raises:
        TypeError: the calculator is an object, not its name.
        ConfigError: there is no such calculator, or the folder holds a run, or labels of other structures or options.
        ValueError: there are no structures, or ``chunk`` is not positive.
        FailedChunksError: some tasks could not be done; the others are.

    Example:
        >>> import tempfile
        >>> from ase.build import molecule
        >>> folder = Path(tempfile.mkdtemp())
        >>> run = label([molecule("H2O"), molecule("SiH4")], "emt", store=folder / "store")
        >>> run.export(folder / "a.extxyz")
        LabelSummary(structures=2, frames=5, dropped=0, failures={1: 'NotImplementedError: No EMT-potential for Si'})
    """
    if not isinstance(calculator, str | LabelConfig):
        raise TypeError(
            "calculator must be a name, such as 'emt' or 'ase.calculators.lj:LennardJones', so that workers can make "
            f"it; got a {type(calculator).__name__}"
        )
    config = calculator if isinstance(calculator, LabelConfig) else LabelConfig(calculator)
    reference_calculator(config.calculator)
    if not structures or chunk < 1:
        raise ValueError(
            f"expected structures, and chunk of at least 1; got {len(structures)} structures and {chunk}"
        )
    folder = Path(store).absolute()
    if (folder / RUN).exists():
        raise ConfigError(f"{folder} holds a run, not labels: use another folder")
    if not _exists(folder):
        folder.mkdir(parents=True, exist_ok=True)
        manifest, starts = _described(structures, config, chunk)
        LabelStore.begin(SegmentStore(folder), manifest, starts)
    run = LabelRun(folder, retries=retries)
    wanted, _ = _described(structures, config, run.manifest.chunk)
    differing = [name for name, value in vars(wanted).items() if value != getattr(run.manifest, name)]
    if differing:
        raise ConfigError(f"{folder} holds other labels: {', '.join(differing)} differ; use another folder")
    if wait:
        run.finish(progress=progress)
    return run


class LabelRun:
    """Labels in a folder.

    Args:
        folder: where they are.
        retries: how often in a row a task may fail for reasons that may pass.

    Raises:
        DataError: there are none.
    """

    def __init__(self, folder: str | Path, *, retries: int = 3) -> None:
        self.folder, self.retries = Path(folder).absolute(), retries
        self.store = LabelStore(self.folder)
        self.manifest: LabelManifest = self.store.manifest

    def finish(self, *, progress: bool = False) -> None:
        """Label what has no record: on the cluster in use, or here.

        Args:
            progress: show a bar on standard error.

        Raises:
            FailedChunksError: some tasks could not be done; the others are.
            OSError: the disk is full, or fails in another way, again and again.
        """
        self.store.records.remove_leftovers()
        present = self.present()
        chunks = len(self.manifest.starts)
        whole = np.array([present[list(self.manifest.numbers(chunk))].all() for chunk in range(chunks)])
        schedule = Schedule(whole[:, None], retries=self.retries)
        with tqdm(
            total=len(present), initial=int(present.sum()), unit="structure", disable=not progress
        ) as bar:
            for task in drive(schedule, executor_for(self.folder), on_event=self._tell):
                numbers = self.manifest.numbers(task.chunk)
                bar.update(len(numbers) - int(present[list(numbers)].sum()))
        if schedule.failed:
            chunk, reason = next(iter(schedule.failed.items()))
            raise FailedChunksError(
                f"{len(schedule.failed)} of {chunks} tasks could not be done, the others are; task {chunk}: {reason}"
            )

    def present(self) -> np.ndarray:
        """Which structures have a record, shape (S,)."""
        return self.store.present()

    def export(self, path: str | Path, *, overwrite: bool = False, progress: bool = False) -> LabelSummary:
        """Write the labels as extended XYZ, with the journal that ``lie-sim label`` keeps beside it.

        What is missing is labelled first, but not before the file is known to be ours.

        Args:
            path: the file; what it has already is not written again.
            overwrite: begin again where a file of other labels is in the way.
            progress: show a bar on standard error.

        Raises:
            DataError: a record is damaged, or the file is of other labels or written by another process.
        """
        options, digests = self.manifest.options | self.manifest.version, self.manifest.structures
        with Journal(Path(path), options, digests, overwrite=overwrite) as journal:
            self.finish(progress=progress)
            for number in range(len(journal.rows), len(digests)):
                found = self.store.read(*divmod(number, self.manifest.chunk))
                row = {"frames": found.frames, "dropped": found.dropped, "digest": digests[number]}
                journal.append(found.text, row if found.error is None else row | {"error": found.error})
            return summarised(journal.rows)

    def _tell(self, event: str, **facts: Any) -> None:
        append(self.folder / EVENTS, {"time": time.time(), "event": event, **facts})


def _exists(folder: Path) -> bool:
    try:
        LabelManifest.load(folder)
    except DataError:
        if any(folder.glob("*.json")):
            raise
        return False
    return True


def _described(
    structures: Sequence[Atoms], config: LabelConfig, chunk: int
) -> tuple[LabelManifest, list[bytes]]:
    """The manifest, and the files of the chunks."""
    starts = [start_bytes(structures[k : k + chunk]) for k in range(0, len(structures), chunk)]
    manifest = LabelManifest(
        options=to_plain(config),
        version=calculator_version(config.calculator),
        chunk=chunk,
        structures=tuple(structure_digest(atoms) for atoms in structures),
        starts=tuple(digest_of(content) for content in starts),
    )
    return manifest, starts
