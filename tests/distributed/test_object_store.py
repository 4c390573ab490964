"""A run on object storage is the run in a folder, whatever happens between the machines and the service."""

from __future__ import annotations

import importlib.util
import io
import shutil
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lie_sim.cli.main import main
from lie_sim.distributed import Run, compact, simulate, verify
from lie_sim.distributed.object_store import ObjectStore, open_store
from lie_sim.distributed.segment_file import SegmentFile
from lie_sim.distributed.store import DifferingSegmentError
from lie_sim.errors import ConfigError, DataError
from tests.distributed.chaos import HashWorker, content, snapshot
from tests.distributed.test_simulate import OPTIONS, SYSTEM, loaded, springs

URL = "memory://bucket/runs/one"
SERVICE = fsspec.filesystem("memory")
FAULTS = ("fine", "refused", "answer lost")


@pytest.fixture(autouse=True)
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty service, and an empty cache."""
    monkeypatch.setenv("LIE_SIM_CACHE", str(tmp_path / "cache"))
    SERVICE.store.clear()
    yield
    SERVICE.store.clear()


def objects(folder: str = "seg") -> dict[str, bytes]:
    """What the service holds."""
    root = f"/bucket/runs/one/{folder}/"
    return {name.removeprefix(root): SERVICE.cat_file(name) for name in SERVICE.find(root)}


class Unavailable(OSError):
    """What s3fs would raise, after its own attempts."""


class Flaky:
    """A service that refuses puts, or carries them out and does not answer."""

    def __init__(self, faults: Iterator[str]) -> None:
        self.faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(SERVICE, name)

    def pipe_file(self, path: str, value: bytes, mode: str) -> None:
        fault = next(self.faults, "fine")
        if fault != "refused":
            SERVICE.pipe_file(path, value, mode=mode)
        if fault != "fine":
            raise Unavailable(fault)


def test_the_segments_are_those_of_a_folder_and_another_machine_reads_them(tmp_path: Path) -> None:
    simulate(SYSTEM, springs(), store=tmp_path / "run", **OPTIONS)
    run = simulate(SYSTEM, springs(), store=URL, **OPTIONS)
    assert objects() == snapshot(tmp_path / "run")
    shutil.rmtree(run.folder)
    elsewhere = Run(URL)
    assert elsewhere.status().complete
    assert (loaded(elsewhere) == loaded(Run(tmp_path / "run"))).all()
    assert verify(elsewhere).sound


def test_what_is_missing_or_damaged_is_made_again(tmp_path: Path) -> None:
    run = simulate(SYSTEM, springs(), store=URL, **OPTIONS)
    whole = objects()
    shutil.rmtree(run.folder)
    SERVICE.rm_file("/bucket/runs/one/seg/000000/000002.safetensors")
    SERVICE.pipe_file(
        "/bucket/runs/one/seg/000001/000001.safetensors", whole["000001/000001.safetensors"][:-9]
    )
    run = Run(URL)
    found = verify(run, repair=True)
    assert found.missing == 1
    assert "cut short" in found.problems[0]
    run.finish()
    assert objects() == whole
    (kept,) = verify(run).quarantined
    assert kept.startswith("000001-000001.damaged")


@given(st.lists(st.sampled_from(FAULTS), max_size=40), st.lists(st.integers(0, 5), max_size=30))
def test_faults_of_the_service_lose_and_double_nothing(faults: list[str], order: list[int]) -> None:
    SERVICE.store.clear()
    told = iter(faults)
    workers = []
    for number in range(2):
        worker = HashWorker(Path())
        worker.store = ObjectStore(URL, cache=Path(f"{open_store(URL).folder}-{number}"))
        shutil.rmtree(worker.store.folder, ignore_errors=True)
        worker.store._objects = Flaky(told)  # type: ignore[attr-defined]
        workers.append(worker)
    tasks = [(chunk, number) for number in range(3) for chunk in range(2)]
    for place in [*order, *range(6), *range(6), *(each for each in range(6) for _ in range(len(faults) + 1))]:
        with suppress(Unavailable):
            workers[place % 2].run(*tasks[place])
    expected = {}
    for chunk in range(2):
        before = "start"
        for number in range(3):
            expected[f"{chunk:06d}/{number:06d}.safetensors"] = made = content(before, chunk, number)
            before = SegmentFile(made, Path()).digest
    assert objects() == expected
    assert objects("quarantine") == {}


def test_of_many_writers_one_is_the_first(tmp_path: Path) -> None:
    segment, outcomes = content("start", 0, 0), []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        store = ObjectStore(URL, cache=tmp_path / str(number))
        barrier.wait()
        outcomes.append(store.commit(0, 0, segment))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == 7 * ["duplicate"] + ["new"]
    with pytest.raises(
        DifferingSegmentError, match=r"memory://bucket/runs/one/quarantine/000000-000000\.differs"
    ):
        ObjectStore(URL).commit(0, 0, content("another start", 0, 0))
    assert list(objects("quarantine").values()) == [content("another start", 0, 0)]
    assert objects() == {"000000/000000.safetensors": segment}


def test_copies_of_a_run_that_was_there_before_are_not_read() -> None:
    simulate(SYSTEM, springs(), store=URL, **OPTIONS)
    SERVICE.store.clear()
    other = simulate(SYSTEM, springs(), store=URL, **OPTIONS | {"dt": 0.02})
    assert other.status().complete
    assert other.trajectory(0).q[1].tolist() == Run(URL).trajectory(0).q[1].tolist()
    with pytest.raises(ConfigError, match=r"memory://bucket/runs/one holds another run: dt is 0.02"):
        simulate(SYSTEM, springs(), store=URL, **OPTIONS)


def test_objects_without_a_manifest_are_not_overwritten(tmp_path: Path) -> None:
    SERVICE.pipe_file("/bucket/runs/one/start/000000.safetensors", b"somebody's")
    with pytest.raises(ConfigError, match=r"start/000000.safetensors is of another run"):
        simulate(SYSTEM, springs(), store=URL, **OPTIONS)
    assert objects("start") == {"000000.safetensors": b"somebody's"}


def test_the_commands_take_urls() -> None:
    words = ["--num-systems", "3", "--steps", "20", "--step-size", "0.01", "--segment", "10", "--no-progress"]
    for command in (["simulate", "springs", "--out", URL, *words], ["status", URL], ["verify", URL]):
        told = io.StringIO()
        with redirect_stdout(told):
            assert main(command) == 0
        assert URL in told.getvalue() or command[0] == "verify"
    assert len(objects()) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.org/run", "object storage that puts an object only where there is none: s3"),
        ("file:///tmp/run", "it needs a folder that all machines see, or object storage"),
        ("s3://bucket/run", "s3fs"),
    ],
)
def test_a_place_that_cannot_hold_a_run_is_refused(url: str, message: str) -> None:
    if url.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(ConfigError, match=message):
        open_store(url)


def test_where_nothing_is_the_message_says_so() -> None:
    with pytest.raises(DataError, match=r"no run in memory://bucket/runs/one: it has no manifest\.json"):
        Run(URL)
    assert not ObjectStore(URL).exists()
    with pytest.raises(FileNotFoundError, match="segment 0 of chunk 0 is not there: memory://"):
        ObjectStore(URL).read(0, 0)


def test_packs_are_for_folders_only() -> None:
    run = simulate(SYSTEM, springs(), store=URL, **OPTIONS)
    with pytest.raises(ConfigError, match="stay single objects: memory://bucket/runs/one"):
        compact(run)
