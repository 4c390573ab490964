"""Read every byte of a run again, and say what is wrong.

    digest of the content = digest in the header;    after(k) = digest(k − 1);    manifest, chunk, number: of this place

A damaged segment can be set aside: the run that is continued makes it again, to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lie_sim.distributed.models import load_moving
from lie_sim.distributed.pack import read_index
from lie_sim.distributed.run import Run
from lie_sim.errors import CheckpointError, DataError


@dataclass(frozen=True)
class Findings:
    """What :func:`verify` found.

    Args:
        segments: that were read.
        missing: segments that are not there yet.
        problems: what is wrong, in words; none if all is well.
        quarantined: files in ``quarantine/``.
    """

    segments: int
    missing: int
    problems: tuple[str, ...]
    quarantined: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with what is there."""
        return not self.problems


def verify(run: Run, *, repair: bool = False) -> Findings:
    """Check every segment, the initial states and the model.

    Args:
        run: the run.
        repair: move damaged segments to ``quarantine/``, so that :meth:`Run.finish` makes them again.

    Example:
        >>> import tempfile, torch
        >>> from lie_sim.distributed import simulate
        >>> from lie_sim.systems import Springs
        >>> springs = Springs(num_particles=2)
        >>> start = springs.sample(3, generator=torch.Generator().manual_seed(0))
        >>> run = simulate(springs, start, steps=4, dt=0.01, segment=2, store=tempfile.mkdtemp())
        >>> verify(run)
        Findings(segments=2, missing=0, problems=(), quarantined=())
    """
    manifest, count, problems = run.manifest, 0, [*_inputs(run), *_packs(run, repair=repair)]
    there = np.array(
        [
            [run.store.has(chunk, k) for k in range(manifest.num_segments)]
            for chunk in range(len(manifest.chunks))
        ]
    )
    digest = manifest.digest
    for chunk, entry in enumerate(manifest.chunks):
        after: str | None = entry.start
        for number in np.flatnonzero(there[chunk]):
            if number > 0 and not there[chunk, number - 1]:
                after = None
            try:
                after = _checked(run, chunk, int(number), digest, after)
            except (DataError, FileNotFoundError) as error:
                after = None
                problems.append(str(error))
                if repair:
                    run.store.set_aside(chunk, int(number))
            count += 1
    return Findings(count, int((~there).sum()), tuple(problems), tuple(run.store.quarantined()))


def _packs(run: Run, *, repair: bool) -> Iterator[str]:
    """Packs whose segments cannot even be found."""
    for chunk in range(len(run.manifest.chunks)):
        pack = run.store.packs.path(chunk)
        try:
            if pack.exists():
                read_index(pack)
        except DataError as error:
            yield str(error)
            if repair:
                run.store.set_aside(chunk, 0)


def _checked(run: Run, chunk: int, number: int, manifest: str, after: str | None) -> str:
    """The digest of a segment, if all of it is right; ``after`` is None if what is before it is unknown."""
    found = run.store.read(chunk, number, check=True)
    expected = {"manifest": manifest, "chunk": chunk, "number": number}
    if after is not None:
        expected["after"] = after
    wrong = [name for name, value in expected.items() if found.metadata.get(name) != value]
    if wrong == ["after"]:
        raise DataError(
            f"{found.source} does not follow from the segment before it, which is another one now"
        )
    if wrong:
        raise DataError(f"{found.source} is not of this run, chunk and place: {', '.join(wrong)} differs")
    if found.num_frames != len(run.manifest.frames_of(number)):
        raise DataError(
            f"{found.source} has {found.num_frames} frames instead of {len(run.manifest.frames_of(number))}"
        )
    return found.digest


def _inputs(run: Run) -> Iterator[str]:
    """What is wrong with the initial states and the model."""
    for chunk, entry in enumerate(run.manifest.chunks):
        try:
            if run.start(chunk).digest() != entry.start:
                yield f"{run.store.start_path(chunk)} holds other initial states than the manifest names"
        except DataError as error:
            yield str(error)
    try:
        load_moving(run.manifest.model, run.folder)
    except (DataError, CheckpointError) as error:
        yield str(error)
