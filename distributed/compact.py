"""Fewer files: the segments of every complete chunk in one pack, the same bytes as before.

    C·K files  →  C files

A reader finds every segment at any moment: the pack is linked to its name before the single files go, and a process
that dies in between leaves both, which the next call clears away.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from lie_sim.distributed.pack import packed
from lie_sim.distributed.run import Run
from lie_sim.distributed.store import SegmentStore
from lie_sim.errors import ConfigError, DataError


def compact(run: Run) -> int:
    """Pack the complete chunks of a run; returns how many chunks are packed now.

    Memory for one chunk is needed.

    Raises:
        ConfigError: the run is on object storage.
        DataError: a segment is damaged; nothing of its chunk was changed.
    """
    if not run.store.packable:
        raise ConfigError(f"segments on object storage stay single objects: {run.store.location}")
    present = run.present()
    for chunk in range(len(present)):
        if present[chunk].all():
            pack_chunk(run.store, chunk, present.shape[1])
    return sum(run.store.packs.path(chunk).exists() for chunk in range(len(present)))


def pack_chunk(store: SegmentStore, chunk: int, num_segments: int) -> None:
    """Write the pack of a complete chunk, compare it with the segments, then remove them."""
    target = store.packs.path(chunk)
    single = [number for number in range(num_segments) if store.path(chunk, number).exists()]
    if not target.exists():
        if len(single) < num_segments:  # one was set aside meanwhile
            return
        for number in single:
            store.read(chunk, number, check=True)
        temporary = store.temporary()
        try:
            store.disk.write(temporary, packed([store.path(chunk, k).read_bytes() for k in single]))
            store.disk.link(temporary, target)
            store.disk.sync(target.parent)
        finally:
            store.disk.remove(temporary)
    for number in single:
        _remove_if_packed(store, chunk, number, store.path(chunk, number))
    with contextlib.suppress(OSError):  # not empty
        store.path(chunk, 0).parent.rmdir()


def _remove_if_packed(store: SegmentStore, chunk: int, number: int, path: Path) -> None:
    if store.packs.read(chunk, number).content != path.read_bytes():
        raise DataError(
            f"{path} is not what {store.packs.path(chunk)} holds for it: move one of them away, verify tells which"
        )
    store.disk.remove(path)
