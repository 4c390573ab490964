"""What a worker does with a chunk of structures: label those that have no record, commit each at once.

A worker that dies loses the structure at hand; one that is asked twice finds the records there. Of two results that
differ, as those of a calculator with random numbers do, the first is kept and the other is set aside: no label is lost.
"""

from __future__ import annotations

import math
import os
import socket
import time
from pathlib import Path

from lie_sim.data.labelling import label_structure
from lie_sim.distributed.label_store import LabelStore
from lie_sim.distributed.store import DifferingSegmentError
from lie_sim.distributed.worker import Outcome, Report
from lie_sim.errors import DataError


class LabelWorker:
    """Labels structures of one folder.

    Args:
        folder: of the labels.
        store: where to commit; made from the folder if None.
    """

    def __init__(self, folder: Path, store: LabelStore | None = None) -> None:
        self.store = store or LabelStore(folder)
        self._config = self.store.manifest.config
        self._ended_at = math.nan

    def run(self, chunk: int, number: int = 0) -> Report:
        """Make sure that every structure of a chunk has a record; a chunk has no parts, so ``number`` is 0.

        Raises:
            DataError: the structures are damaged.
            OSError: a record could not be written.
        """
        begun = time.perf_counter()
        numbers = self.store.manifest.numbers(chunk)
        missing = [place for place in range(len(numbers)) if not self._has(chunk, place)]
        outcome: Outcome = "present"
        structures = self.store.structures(chunk) if missing else []
        for place in missing:
            outcome = "new"
            labelled = label_structure(structures[place], numbers[place], self._config)
            try:
                self.store.commit(chunk, place, labelled)
            except DifferingSegmentError:
                outcome = "duplicate"
        idle, self._ended_at = begun - self._ended_at, time.perf_counter()
        name = f"{socket.gethostname()}:{os.getpid()}"
        return Report(outcome, self._ended_at - begun, idle=idle, worker=name)

    def _has(self, chunk: int, place: int) -> bool:
        """Whether a record is there and whole; a damaged one is set aside."""
        try:
            self.store.read(chunk, place)
        except FileNotFoundError:
            return False
        except DataError:
            return not self.store.records.set_aside(chunk, place)
        return True
