"""Labels from a store are those of one process, to the byte, each made once: whatever is killed or fails."""

from __future__ import annotations

import inspect
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lie_sim.data.labelling import LabelConfig, Labelled, label_file
from lie_sim.data.sampling import Sampling
from lie_sim.distributed import LabelRun, label, label_worker
from lie_sim.distributed.disk import Disk
from lie_sim.distributed.journal import events
from lie_sim.distributed.label_store import LabelManifest, LabelStore, start_bytes, start_path
from lie_sim.distributed.label_worker import LabelWorker
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.distributed.store import DifferingSegmentError, SegmentStore
from lie_sim.errors import ConfigError, DataError

NAMES = ("H2O", "SiH4", "CH3OH", "NH3", "CO2", "C2H6", "CH4")
CONFIG = LabelConfig("emt", Sampling(frames=1))


def starts() -> list[Atoms]:
    found = [molecule(name) for name in NAMES]
    found[3].info["charge"] = 1
    found[4].set_initial_magnetic_moments([0.5, 0.5, 1.0])
    found[5].set_masses(np.linspace(1.0, 2.0, len(found[5])))
    return found


def written(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), path.with_name(path.name + ".journal.jsonl").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """What one process writes."""
    path = tmp_path_factory.mktemp("plain") / "a.extxyz"
    label_file(path, starts(), CONFIG)
    return written(path)


def exported(run: LabelRun) -> tuple[bytes, bytes]:
    path = run.folder.parent / "out.extxyz"
    run.export(path)
    return written(path)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_file_is_that_of_one_process(expected: tuple[bytes, bytes], chunk: int, tmp_path: Path) -> None:
    run = label(starts(), CONFIG, store=tmp_path / "store", chunk=chunk)
    assert exported(run) == expected
    again = label(starts(), CONFIG, store=tmp_path / "store", chunk=chunk + 1)
    assert again.manifest.chunk == chunk
    assert len(list((tmp_path / "store").rglob("*.safetensors"))) == len(NAMES)


def test_a_failure_is_a_record(tmp_path: Path) -> None:
    summary = label(starts(), CONFIG, store=tmp_path / "store").export(tmp_path / "a.extxyz")
    assert summary.structures == len(NAMES)
    assert summary.failures == {1: "NotImplementedError: No EMT-potential for Si"}
    assert LabelStore(tmp_path / "store").read(0, 1).error == summary.failures[1]


class DyingDisk(Disk):
    """Fails at its ``last`` operation, like a process that is killed there."""

    def __init__(self, last: int) -> None:
        super().__init__(durable=False)
        self.last = last

    def _step(self) -> None:
        self.last -= 1
        if self.last == 0:
            raise KeyboardInterrupt

    def write(self, path: Path, content: bytes) -> None:
        super().write(path, content)
        self._step()

    def link(self, source: Path, target: Path) -> bool:
        self._step()
        linked = super().link(source, target)
        self._step()
        return linked


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5, 11, 20])
def test_a_worker_that_dies_anywhere_doubles_and_loses_nothing(
    expected: tuple[bytes, bytes], last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = label(starts(), CONFIG, store=tmp_path / "store", chunk=4, wait=False)
    calls: Counter[int] = Counter()
    count_labels(monkeypatch, calls)
    dying = LabelStore(run.folder, records=SegmentStore(run.folder, disk=DyingDisk(last)))
    worker = LabelWorker(run.folder, dying)
    with pytest.raises(KeyboardInterrupt):
        [worker.run(chunk) for chunk in range(2)]
    run.finish()
    assert exported(run) == expected
    assert sum(calls.values()) <= len(NAMES) + 1, "at most one structure is labelled again"


def count_labels(monkeypatch: pytest.MonkeyPatch, calls: Counter[int]) -> None:
    """Count how often each structure is labelled."""
    original = label_worker.label_structure

    def counted(start: Atoms, number: int, config: LabelConfig) -> Labelled:
        calls[number] += 1
        return original(start, number, config)

    monkeypatch.setattr(label_worker, "label_structure", counted)


def test_a_damaged_record_is_made_again(expected: tuple[bytes, bytes], tmp_path: Path) -> None:
    run = label(starts(), CONFIG, store=tmp_path / "store", chunk=4)
    cut, altered = run.store.records.path(0, 2), run.store.records.path(1, 0)
    cut.write_bytes(cut.read_bytes()[:-7])
    content = bytearray(altered.read_bytes())
    content[-1] ^= 1
    altered.write_bytes(content)
    with pytest.raises(DataError, match="was altered after it was written"):
        run.export(tmp_path / "early.extxyz")
    assert LabelWorker(run.folder).run(1).outcome == "new"
    assert exported(run) == expected


def test_a_calculator_that_varies_keeps_the_first_label(tmp_path: Path) -> None:
    run = label(starts(), CONFIG, store=tmp_path / "store")
    first = run.store.read(0, 0)
    other = Labelled("2\n", 1, 0, None)
    with pytest.raises(DifferingSegmentError):
        run.store.commit(0, 0, other)
    assert run.store.commit(0, 0, first) == "duplicate"
    assert run.store.read(0, 0) == first
    assert len(list((run.folder / "quarantine").iterdir())) == 1


def test_other_labels_are_refused(tmp_path: Path) -> None:
    label(starts(), CONFIG, store=tmp_path / "store", wait=False)
    charged = starts()
    charged[0].info["charge"] = -1
    cases = [
        (starts()[:-1], CONFIG, "structures, starts differ"),
        (charged, CONFIG, "structures, starts differ"),
        (starts(), LabelConfig("emt"), "options differ"),
    ]
    for structures, config, says in cases:
        with pytest.raises(ConfigError, match=f"holds other labels: {says}; use another folder"):
            label(structures, config, store=tmp_path / "store")


def test_a_file_of_others_is_noticed_before_anything_is_labelled(tmp_path: Path) -> None:
    label_file(tmp_path / "a.extxyz", starts()[:2], LabelConfig("emt"))
    run = label(starts(), CONFIG, store=tmp_path / "store", wait=False)
    with pytest.raises(DataError, match="was made with other options"):
        run.export(tmp_path / "a.extxyz")
    assert not run.present().any()
    assert run.export(tmp_path / "a.extxyz", overwrite=True).structures == len(NAMES)


def test_structures_of_a_beginning_that_was_killed_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(Disk, "link", killed)
        with pytest.raises(KeyboardInterrupt):
            label(starts()[::-1], CONFIG, store=tmp_path / "store")
    assert (tmp_path / "store" / "start" / "000000.json").exists()
    assert label(starts(), CONFIG, store=tmp_path / "store").present().all()


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"must be a name, such as 'emt' .* got a EMT"):
        inspect.unwrap(label)(starts(), EMT(), store=tmp_path / "a")  # unchecked, as outside of tests
    with pytest.raises(ConfigError, match="unknown calculator 'spam'"):
        label(starts(), "spam", store=tmp_path / "a")
    with pytest.raises(ValueError, match="got 0 structures and 8"):
        label([], "emt", store=tmp_path / "a")
    with pytest.raises(ValueError, match="got 7 structures and 0"):
        label(starts(), "emt", store=tmp_path / "a", chunk=0)
    with pytest.raises(DataError, match="no labels in"):
        LabelRun(tmp_path)
    assert not (tmp_path / "a").exists()


def test_an_altered_manifest_and_altered_structures_are_noticed(tmp_path: Path) -> None:
    run = label(starts(), CONFIG, store=tmp_path / "store", wait=False)
    path = tmp_path / "store" / "labels.json"
    values = json.loads(path.read_bytes())
    for change, says in [
        ({"chunk": 3}, "was altered"),
        ({"format": 2}, "has format 2"),
        ({"more": 1}, "damaged"),
    ]:
        path.write_text(json.dumps(values | change))
        with pytest.raises(DataError, match=says):
            LabelManifest.load(tmp_path / "store")
    path.write_text(json.dumps(values))
    start = start_path(run.folder, 0)
    start.write_bytes(start.read_bytes().replace(b"0.", b"1.", 1))
    with pytest.raises(DataError, match=r"holds other structures than labels\.json names"):
        run.store.structures(0)


@given(arrays(float, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_structures_arrive_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, positions: np.ndarray
) -> None:
    atoms = Atoms(
        "H2", positions, cell=positions[[0, 1, 0]], pbc=[1, 0, 1], info={"charge": 1, "comment": "no"}
    )
    folder = tmp_path_factory.mktemp("store")
    (found,) = label([atoms], CONFIG, store=folder, wait=False).store.structures(0)
    assert start_bytes([found]) == start_bytes([atoms])
    assert found.positions.tobytes() == atoms.positions.tobytes()
    assert found.info == {"charge": 1}


@pytest.mark.ray
def test_workers_are_killed_and_each_label_is_made_once(
    nodes: Any, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    structures = [atoms for _ in range(6) for atoms in starts()]
    config = LabelConfig("emt", Sampling(frames=6))
    label_file(tmp_path / "plain.extxyz", structures, config)
    run = label(structures, config, store=tmp_path / "store", chunk=3, wait=False)
    killed: list[int] = []

    def told(event: str, **facts: Any) -> None:
        worker = int(facts.get("worker", ":0").rsplit(":", 1)[1])
        if worker and worker not in killed and len(killed) < 2:
            killed.append(worker)
            os.kill(worker, signal.SIGKILL)
        original(event, **facts)

    original, run._tell = run._tell, told  # type: ignore[method-assign]
    run.finish()
    run.export(tmp_path / "out.extxyz")
    assert len(killed) == 2
    assert os.getpid() not in killed
    assert written(tmp_path / "out.extxyz") == written(tmp_path / "plain.extxyz")
    records = sorted((tmp_path / "store" / "seg").rglob("*.safetensors"))
    assert len(records) == len(structures)
    for record in records:
        SegmentFile.open(record).check()
    assert not (tmp_path / "store" / "quarantine").exists()
    assert {entry["event"] for entry in events(run.folder)} <= {"new", "duplicate", "present", "retry"}
