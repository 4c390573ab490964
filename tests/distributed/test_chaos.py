"""Whatever dies when, in whatever order: every run ends as the undisturbed one, byte for byte.

No Ray, no physics: the store, the schedule and the driver, with workers that are killed while they commit.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lie_sim.distributed.driver import drive
from lie_sim.distributed.schedule import Schedule, Task
from tests.distributed.chaos import (
    POINTS,
    ChaoticExecutor,
    FailingDisk,
    HashWorker,
    Killed,
    serial,
    snapshot,
)

CHUNKS, SEGMENTS = 3, 4
SCHEDULES = 1000
FATES = (*POINTS, "full", "twice", "", "", "", "", "", "")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return serial(tmp_path_factory.mktemp("serial"), CHUNKS, SEGMENTS)


def drivers_until_done(folder: Path, dice: random.Random, counts: Counter[str]) -> None:
    """Drivers that are killed now and then, each after the one before, until one comes to the end."""

    def fate(task: Task) -> str:
        chosen = dice.choice(FATES)
        counts["kills"] += chosen in POINTS
        counts["full"] += chosen == "full"
        return chosen

    while True:
        worker = HashWorker(folder)
        schedule = Schedule(worker.store.scan(CHUNKS, SEGMENTS), retries=1000)
        executor = ChaoticExecutor(folder, 4, fate, dice.randrange, lambda task: counts.update(["computed"]))
        driving = drive(schedule, executor, sleep=lambda seconds: None)
        for done, _ in enumerate(driving):
            if dice.random() < 0.05:
                driving.close()  # the driver dies; what its workers have is lost or finished later
                counts["drivers"] += 1
                break
            if done > 10 * CHUNKS * SEGMENTS:
                pytest.fail("the driver does not come to an end")
        else:
            return


def test_thousands_of_schedules_end_as_the_undisturbed_run(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Nothing missing, nothing doubled, at most one segment computed again for every kill."""
    total: Counter[str] = Counter()
    for seed in range(SCHEDULES):
        folder, counts = tmp_path / str(seed), Counter[str]()
        drivers_until_done(folder, random.Random(seed), counts)
        assert snapshot(folder) == undisturbed, f"schedule {seed}"
        assert not (folder / "quarantine").exists()
        wasted = counts["computed"] - CHUNKS * SEGMENTS
        assert wasted <= counts["kills"] + counts["full"], f"schedule {seed}: {counts}"
        total += counts
    assert min(total[name] for name in ("kills", "full", "drivers")) > SCHEDULES / 10, total


class Runs(RuleBasedStateMachine):
    """Two drivers, their workers, a disk that is cut and full now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Counter[str]()
        self.schedules: dict[int, Schedule] = {}
        self.running: list[tuple[int, Task]] = []

    @initialize(done=st.integers(0, CHUNKS * SEGMENTS))
    def begin(self, done: int) -> None:
        """With a run that has come so far."""
        Runs.number += 1
        self.folder = Runs.folder / str(Runs.number)
        worker = HashWorker(self.folder, seen=lambda _: self.count.update(["computed"]))
        self.store = worker.store
        for number in range(done):
            worker.run(number % CHUNKS, number // CHUNKS)

    @precondition(lambda self: len(self.schedules) < 2)
    @rule()
    def start_driver(self) -> None:
        self.count["drivers"] += 1
        self.schedules[self.count["drivers"]] = Schedule(self.store.scan(CHUNKS, SEGMENTS), retries=10**6)

    @precondition(lambda self: self.schedules)
    @rule(data=st.data())
    def hand_out(self, data: st.DataObject) -> None:
        driver = data.draw(st.sampled_from(sorted(self.schedules)))
        task = self.schedules[driver].take()
        if task is not None:
            self.running.append((driver, task))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fate=st.sampled_from(("", "", *POINTS, "full", "not told")))
    def work(self, data: st.DataObject, fate: str) -> None:
        """Any of the running tasks, also of a driver that is dead."""
        place = data.draw(st.integers(0, len(self.running) - 1))
        driver, task = self.running[place]
        disk = FailingDisk()
        disk.kill_at, disk.full = fate if fate in POINTS else None, fate == "full"
        try:
            report = HashWorker(self.folder, disk, lambda _: self.count.update(["computed"])).run(*task)
        except Killed:
            self.count["wasted at most"] += 1
            return  # given to another worker later
        except OSError:
            self.count["wasted at most"] += 1
            if driver in self.schedules:
                self.schedules[driver].again(task)
        else:
            if fate == "not told":
                return
            if driver in self.schedules:
                tell = (
                    self.schedules[driver].lost if report.outcome == "lost" else self.schedules[driver].done
                )
                tell(task)
        del self.running[place]

    @precondition(lambda self: self.schedules)
    @rule(data=st.data())
    def kill_driver(self, data: st.DataObject) -> None:
        del self.schedules[data.draw(st.sampled_from(sorted(self.schedules)))]

    @precondition(lambda self: snapshot(self.folder))
    @rule(data=st.data(), share=st.floats(0, 1, exclude_max=True))
    def cut_a_file(self, data: st.DataObject, share: float) -> None:
        """As a power failure may on a disk that does not keep its promises."""
        path = self.folder / "seg" / data.draw(st.sampled_from(sorted(snapshot(self.folder))))
        whole = path.read_bytes()
        path.unlink()  # leftovers in tmp/ are the same inode
        path.write_bytes(whole[: int(share * len(whole))])
        self.count["wasted at most"] += 1

    @rule()
    def clean(self) -> None:
        self.store.remove_leftovers()

    @invariant()
    def what_is_whole_is_right(self) -> None:
        for name, found in snapshot(self.folder).items() if hasattr(self, "folder") else ():
            assert found == Runs.expected[name] or len(found) < len(Runs.expected[name])

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        executor = ChaoticExecutor(
            self.folder, 1, lambda _: "", lambda _: 0, lambda _: self.count.update(["computed"])
        )
        for _ in drive(Schedule(self.store.scan(CHUNKS, SEGMENTS)), executor):
            pass
        assert snapshot(self.folder) == Runs.expected
        assert not [*self.folder.glob("quarantine/*differs*")]
        assert self.count["computed"] <= CHUNKS * SEGMENTS + self.count["wasted at most"]

    number = 0
    folder: Path
    expected: dict[str, bytes]


def test_any_interleaving_of_drivers_workers_and_failures(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    Runs.folder, Runs.expected = tmp_path, undisturbed
    run_state_machine_as_test(Runs, settings=settings(max_examples=100, stateful_step_count=40))
