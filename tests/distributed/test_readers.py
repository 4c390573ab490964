"""What is read is what was computed: lazily, while it runs, packed; and what is damaged is found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lie_sim.distributed import (
    DifferingSegmentError,
    Run,
    Segment,
    compact,
    simulate,
    verify,
)
from lie_sim.distributed.compact import pack_chunk
from lie_sim.distributed.pack import read_index
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.distributed.store import SegmentStore, has_its_length
from lie_sim.distributed.worker import Worker
from lie_sim.errors import DataError
from lie_sim.models import AtomicPotential
from tests.distributed.chaos import FailingDisk, Killed, snapshot
from tests.distributed.runs import (
    ATOMS,
    CHUNKS,
    SEGMENTS,
    TOTAL,
    expected,
    hydrogen,
    new_run,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return new_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(None),
        slice(3, 9, 2),
        slice(None, None, -1),
        slice(4, 4),
        [7, 0, 7],
        np.arange(11) % 3 == 0,
        (slice(2, 8), 1),
        (5, slice(None), 0),
        (..., 1),
        (slice(None), [0, 2], 1),
        ([7, 0], [0, 2]),
        ([7, 0, 3], slice(None), 1),
        (np.arange(11) % 3 == 0, 1),
        (4, [0, 2], [1, 0]),
        (),
        (None, 2),
        (slice(4, 4), 0),
    ],
)
def test_a_trajectory_is_indexed_as_an_array(run: Run, index: Any) -> None:
    for number in (0, 4, -1):
        q, whole = run.trajectory(number).q, expected()[number]
        assert q.shape == whole.shape
        assert np.array_equal(q[index], whole[index])
    assert np.array_equal(run.trajectory(1).energy[:], expected("energy")[1])
    assert np.array_equal(np.asarray(run.trajectory(2).p), expected("p")[2])


def test_only_the_segments_that_are_touched_are_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read = SegmentStore.read
    monkeypatch.setattr(
        SegmentStore, "read", lambda self, c, k, **o: (seen.append(k), read(self, c, k, **o))[1]
    )
    q = run.trajectory(0).q
    seen.clear()
    assert q[6].shape == (3, 2)
    assert seen == [1]


def test_a_trajectory_that_is_not_there(run: Run) -> None:
    with pytest.raises(IndexError, match="the run has the trajectories 0 to 4, not 5"):
        run.trajectory(5)


def joined(segments: list[Segment]) -> np.ndarray:
    """(n, T, N, d), from segments in any order."""
    found = np.full_like(expected(), np.nan)
    for each in segments:
        frames = slice(each.frames.first, each.frames.first + len(each.frames.times))
        assert np.isnan(found[each.trajectories, frames]).all(), "a segment came twice"
        found[each.trajectories, frames] = each.frames.q.numpy()
    return found


def test_a_stream_computes_what_is_missing(tmp_path: Path) -> None:
    run = new_run(tmp_path, wait=False)
    worker = Worker(tmp_path)
    worker.run(1, 0)
    stream = run.stream()
    first = next(stream)
    assert (first.chunk, first.number, first.trajectories.tolist()) == (1, 0, [3, 4])
    assert run.trajectory(4).q.shape == (5, 3, 2)
    assert run.trajectory(0).q.shape[0] == 0
    assert not run.status().complete
    assert np.array_equal(joined([first, *stream]), expected())
    assert np.array_equal(joined([*run.stream()]), expected())
    assert np.array_equal(joined([*run.frames()]), expected())
    assert run.status().frames == TOTAL * 11


def test_a_stream_follows_another_process(tmp_path: Path) -> None:
    run, seen = new_run(tmp_path, wait=False), list[Segment]()
    follower = threading.Thread(target=lambda: seen.extend(Run(tmp_path).stream(follow=True, poll=0.01)))
    follower.start()
    run.finish()
    follower.join(timeout=60)
    assert not follower.is_alive()
    assert np.array_equal(joined(seen), expected())


def flip(path: Path) -> None:
    """One bit of the frames."""
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-16])


def swap(path: Path) -> None:
    """Another segment of the same length."""
    path.write_bytes((path.parent.parent / "000001" / path.name).read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "altered after it was written"),
        (cut, "cut short"),
        (swap, "not of this run, chunk and place: chunk"),
        (Path.unlink, ""),
    ],
)
def test_verify_finds_damage_and_the_run_repairs_it(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    run = new_run(tmp_path, chunk=1)
    whole = snapshot(tmp_path)
    assert verify(run).sound
    damage(run.store.path(0, 1))
    found = verify(run, repair=damage in (flip, cut))
    assert [message in problem for problem in found.problems] == ([True] if message else [])
    assert (found.segments, found.missing) == ((15, 0) if message else (14, 1))
    if damage is swap:  # a whole segment, in the wrong place: no copy of it is thrown away unasked
        run.store.path(0, 1).unlink()
    run.finish()
    assert snapshot(tmp_path) == whole
    assert verify(run).sound


def test_verify_finds_a_segment_that_does_not_follow(tmp_path: Path) -> None:
    """Whole, of this run and place, but computed from another state."""
    run = new_run(tmp_path / "a")
    worker = Worker(tmp_path / "a")
    tensors = worker._chunk(0).compute(1, run.store.read(0, 1).end())
    from lie_sim.distributed.segment import segment_bytes

    facts = {"manifest": run.manifest.digest, "chunk": 0, "number": 1}
    other = segment_bytes(tensors, after=run.store.read(0, 0).digest, **facts)
    run.store.path(0, 1).write_bytes(other)
    (problem,) = verify(run).problems
    assert "000002.safetensors does not follow from the segment before it" in problem


def test_verify_reads_initial_states_and_model(tmp_path: Path) -> None:
    run = simulate(AtomicPotential.default(elements=(1,)), hydrogen(), store=tmp_path, **ATOMS)
    cut(run.store.start_path(0))
    cut(next((tmp_path / "model").glob("*.safetensors")))
    first, second = verify(run).problems
    assert "start" in first
    assert "truncated" in second


def test_another_result_is_put_in_quarantine(run: Run, tmp_path: Path) -> None:
    new_run(tmp_path)
    other = run.store.read(0, 1).content.tobytes().replace(b'"number', b'"Number')
    store = SegmentStore(tmp_path)
    with pytest.raises(DifferingSegmentError, match="segment 1 of chunk 0 was computed again, with another"):
        store.commit(0, 1, other)
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert kept.read_bytes() == other
    assert verify(Run(tmp_path)).quarantined == (kept.name,)
    assert verify(Run(tmp_path)).sound


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    store = SegmentStore(tmp_path)
    mine = store.temporary()
    mine.write_bytes(b"")
    host = mine.name.split("~")[0]
    dead, elsewhere = (
        mine.with_name(name) for name in (f"{host}~{2**22 + 1}~a", f"other{host}~{2**22 + 1}~a")
    )
    for path in (dead, elsewhere):
        path.write_bytes(b"")
    assert store.remove_leftovers() == 1
    assert sorted(mine.parent.iterdir()) == sorted([mine, elsewhere])


def test_packed_runs_read_the_same(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    before = {place: run.store.read(*place).content.tobytes() for place in np.ndindex(CHUNKS, SEGMENTS)}
    run.store.path(1, 2).unlink()
    assert compact(run) == 1
    assert sorted(path.name for path in (tmp_path / "seg").iterdir()) == ["000000.pack", "000001"]
    again = Run(tmp_path)
    assert again.present().tolist() == [[True, True, True], [True, True, False]]
    again.finish()
    assert compact(again) == compact(again) == 2
    assert {place: again.store.read(*place).content.tobytes() for place in before} == before
    assert np.array_equal(joined([*Run(tmp_path).frames()]), expected())
    assert np.array_equal(again.trajectory(3).q[2:9], expected()[3, 2:9])
    assert verify(again).sound
    again.finish()
    assert again.status().complete
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("point", ["before write", "in write", "after write", "before link", "after link"])
def test_packing_may_be_killed(point: str, tmp_path: Path) -> None:
    run = new_run(tmp_path)
    disk = FailingDisk()
    disk.kill_at = point
    with pytest.raises(Killed):
        pack_chunk(SegmentStore(tmp_path, disk=disk), 0, SEGMENTS)
    assert Run(tmp_path).status().complete
    assert np.array_equal(joined([*Run(tmp_path).frames()]), expected())
    assert compact(run) == CHUNKS
    assert np.array_equal(joined([*Run(tmp_path).frames()]), expected())


def test_a_damaged_segment_is_not_packed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    flip(run.store.path(0, 1))
    with pytest.raises(DataError, match="altered"):
        compact(run)
    assert run.store.path(0, 0).exists()


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_pack_is_repaired(damage: str, tmp_path: Path) -> None:
    """Of a flipped bit one segment is lost, of an index that is cut all of the chunk."""
    run = new_run(tmp_path)
    whole = snapshot(tmp_path)
    compact(run)
    path = run.store.packs.path(1)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        (_, (offset, length), _) = read_index(path)
        content[offset + length - 40] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-16])
    again = Run(tmp_path)
    assert again.status().segments == (6 if damage == "flip" else 3)
    assert not verify(again).sound
    assert not verify(again, repair=True).sound
    assert [name.split(".damaged")[0] for name in again.store.quarantined()] == ["000001.pack"]
    assert Run(tmp_path).present()[1].tolist() == ([True, False, True] if damage == "flip" else 3 * [False])
    again.finish()
    assert verify(again).sound
    assert compact(again) == CHUNKS
    read = {place: again.store.read(*place).content.tobytes() for place in np.ndindex(CHUNKS, SEGMENTS)}
    assert {f"{c:06d}/{k:06d}.safetensors": content for (c, k), content in read.items()} == whole


def test_a_chunk_with_a_gap_is_not_packed(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.store.path(0, 1).unlink()
    pack_chunk(run.store, 0, SEGMENTS)
    assert not run.store.packs.path(0).exists()


def test_lengths_are_checked_without_reading(run: Run, tmp_path: Path) -> None:
    whole = run.store.path(0, 0).read_bytes()
    for length in (0, 3, 8, 200, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert not has_its_length(tmp_path / "cut"), length
        with pytest.raises(DataError, match=r"cut short|empty|header"):
            SegmentFile.open(tmp_path / "cut")
    assert has_its_length(run.store.path(0, 0))
