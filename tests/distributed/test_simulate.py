"""A run is the rollout of its chunks, whoever computes it, however often it is begun again."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from torch import Tensor

from lie_sim import Hamiltonian, LieTransformer, Particles, PhaseState, save_model
from lie_sim.calculators import IntegratorMD, LieTransformerCalculator
from lie_sim.data.structure_files import from_atoms
from lie_sim.distributed import FailedChunksError, Run, simulate
from lie_sim.distributed.driver import drive
from lie_sim.distributed.executors import SerialExecutor, using
from lie_sim.distributed.schedule import Schedule, Task
from lie_sim.distributed.store import SegmentStore
from lie_sim.distributed.worker import Worker
from lie_sim.models import AtomicPotential
from lie_sim.rollout import RolloutResult, rollout
from lie_sim.systems import SoftenedGravity, Springs
from tests.distributed.chaos import POINTS, FailingDisk, Killed, snapshot

SYSTEM = Springs(num_particles=3)
OPTIONS: dict[str, Any] = {"steps": 60, "dt": 0.01, "save_every": 5, "chunk": 3, "segment": 20}
SPRINGS_ERROR = 2e-8
"""Of the positions after 60 steps of 0.01 by PEFRL, which is of order 4: measured 3e-9."""
ASE_ERROR = 1e-11
"""In Å: the sums of our forces are in another order; measured below 1e-13."""


def springs(count: int = 7) -> tuple[PhaseState, Particles]:
    return SYSTEM.sample(count, generator=torch.Generator().manual_seed(0))


def loaded(run: Run, name: str = "q") -> Tensor:
    """(n, T, …), trajectory by trajectory."""
    total = run.manifest.num_trajectories
    return torch.stack([torch.from_numpy(getattr(run.trajectory(i), name)[:]) for i in range(total)])


def rolled(ensemble: tuple[PhaseState, Particles], model: Any = SYSTEM, **options: Any) -> RolloutResult:
    """The same by lie_sim.rollout."""
    steps = {"step_size": OPTIONS["dt"], "num_steps": OPTIONS["steps"], "save_every": OPTIONS["save_every"]}
    return rollout(model, *ensemble, batch_size=OPTIONS["chunk"], **steps | options)


@pytest.mark.parametrize("method", ["pefrl", "csvr", "baoab", "nose_hoover_chain", "gauss4"])
def test_a_run_is_the_rollout_of_its_chunks_to_the_bit(method: str, tmp_path: Path) -> None:
    run = simulate(SYSTEM, springs(), store=tmp_path, method=method, **OPTIONS)
    expected = rolled(springs(), method=method)
    for name in ("q", "p", "energy"):
        assert torch.equal(loaded(run, name), getattr(expected, name)), name
    assert np.array_equal(run.trajectory(0).times, expected.times.numpy())


def test_a_run_of_a_learned_hamiltonian_too(tmp_path: Path) -> None:
    model = Hamiltonian(LieTransformer.default(dim=2)).double()
    save_model(model, tmp_path / "model")
    few = OPTIONS | {"steps": 4, "save_every": 2, "segment": 2, "method": "leapfrog"}
    run = simulate(str(tmp_path / "model"), springs(), store=tmp_path / "run", **few)
    expected = rolled(springs(), model, num_steps=4, save_every=2, method="leapfrog")
    assert torch.equal(loaded(run), expected.q)


def test_a_run_follows_the_exact_solution(tmp_path: Path) -> None:
    ensemble = springs()
    run = simulate(SYSTEM, ensemble, store=tmp_path, **OPTIONS)
    exact, _ = SYSTEM.trajectory(*ensemble, torch.from_numpy(run.trajectory(0).times))
    assert 0 < float((loaded(run) - exact).abs().max()) < SPRINGS_ERROR


@pytest.mark.parametrize("segment", [5, 20, 25, 60, 1000, "1s"])
def test_the_length_of_segments_changes_no_bit(segment: int | str, tmp_path: Path) -> None:
    run = simulate(SYSTEM, springs(), store=tmp_path, method="csvr", **OPTIONS | {"segment": segment})
    assert torch.equal(loaded(run), rolled(springs(), method="csvr").q)
    again = simulate(SYSTEM, springs(), store=tmp_path, method="csvr", **OPTIONS | {"segment": segment})
    assert again.manifest == run.manifest


def test_the_noise_of_a_trajectory_is_its_own(tmp_path: Path) -> None:
    """However the ensemble is cut; of the same batch size, as the network of a larger batch rounds differently."""
    run = simulate(SYSTEM, springs(6), store=tmp_path / "a", method="baoab", seed=5, **OPTIONS)
    alone = simulate(
        SYSTEM, springs(6), store=tmp_path / "b", method="baoab", seed=5, **OPTIONS | {"chunk": 1}
    )
    assert float((loaded(run) - loaded(alone)).abs().max()) < 1e-12
    other = simulate(SYSTEM, springs(6), store=tmp_path / "c", method="baoab", seed=6, **OPTIONS)
    assert not torch.equal(loaded(run), loaded(other))


class KillingExecutor(SerialExecutor):
    """A process that is killed at a point of the n-th commit."""

    def __init__(self, folder: Path, point: str, countdown: int) -> None:
        disk = FailingDisk()
        super().__init__(folder, worker=Worker(folder, SegmentStore(folder, disk=disk)))
        self.disk, self.point, self.countdown = disk, point, countdown

    def submit(self, task: Task) -> None:
        self.countdown -= 1
        self.disk.kill_at = self.point if self.countdown == 0 else None
        super().submit(task)


def test_killed_anywhere_the_run_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "csvr", **OPTIONS}
    simulate(SYSTEM, springs(), store=tmp_path / "calm", **options)
    expected = snapshot(tmp_path / "calm")
    for point in POINTS:
        store = tmp_path / point
        for countdown in (1, 3, 2):
            with (
                using(lambda folder, p=point, n=countdown: KillingExecutor(folder, p, n)),
                pytest.raises(Killed),
            ):
                simulate(SYSTEM, springs(), store=store, **options)
        run = simulate(SYSTEM, springs(), store=store, **options)
        assert snapshot(store) == expected, point
        assert run.status().complete


def test_ctrl_c_loses_only_what_was_open(tmp_path: Path) -> None:
    class Interrupted(SerialExecutor):
        done = 0

        def wait(self) -> Any:
            Interrupted.done += 1
            if Interrupted.done == 5:
                raise KeyboardInterrupt
            return super().wait()

    with using(Interrupted), pytest.raises(KeyboardInterrupt):
        simulate(SYSTEM, springs(), store=tmp_path, **OPTIONS)
    assert Run(tmp_path).status().segments == 4
    run = Run(tmp_path)
    run.finish()
    assert torch.equal(loaded(run), rolled(springs()).q)


def test_two_drivers_share_a_store(tmp_path: Path) -> None:
    options: dict[str, Any] = {"store": tmp_path, **OPTIONS}
    one, other = (simulate(SYSTEM, springs(), wait=False, **options) for _ in range(2))
    first, second = one.work(), other.work()
    done = [next(first), next(second), next(second), next(first)]
    done += [*first, *second]
    assert one.status().complete
    assert torch.equal(loaded(one), rolled(springs()).q)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "new" for line in lines) == 9
    assert sum(line["event"] == "present" for line in lines) == len(done) - 9


def test_a_trajectory_that_diverges_ends_alone(tmp_path: Path) -> None:
    """A close encounter: one system leaves the range, the others are as without it."""
    system = SoftenedGravity(num_particles=3)
    state, particles = system.sample(4, generator=torch.Generator().manual_seed(0))
    light = particles.masses.clone()
    light[2] *= 1e-3
    ensemble = (PhaseState(q=state.q, p=state.p), replace(particles, masses=light))
    options = {"steps": 60, "dt": 0.01, "save_every": 5, "chunk": 4, "segment": 20}
    calm = simulate(system, (state, particles), store=tmp_path / "calm", **options)
    run = simulate(system, ensemble, store=tmp_path / "run", divergence_bound=1e3, **options)
    status, q = run.status(), loaded(run)
    assert (status.diverged, status.drifted) == ((2,), ())
    ended = int(run.store.read(0, 2).array("end.ended")[2])
    assert bool(q[2, :ended].isfinite().all())
    assert bool(q[2, ended:].isnan().all())
    assert torch.equal(q[[0, 1, 3]], loaded(calm)[[0, 1, 3]])


def test_a_trajectory_whose_energy_drifts_ends_alone(tmp_path: Path) -> None:
    state, particles = springs(4)
    attributes = particles.attributes
    assert attributes is not None
    stiff = attributes.clone()
    stiff[1] *= 3
    ensemble = (state, replace(particles, attributes=stiff))
    options = OPTIONS | {"dt": 0.05, "chunk": 4, "method": "leapfrog"}
    free = simulate(SYSTEM, ensemble, store=tmp_path / "free", **options)
    drift = free.store.read(0, 2).array("end.drift")
    assert drift[1] > 2 * drift[[0, 2, 3]].max(), drift
    bound = float(drift[1]) * 0.7
    run = simulate(SYSTEM, ensemble, store=tmp_path / "run", drift_bound=bound, **options)
    assert (run.status().drifted, run.status().diverged) == ((1,), ())
    assert torch.equal(loaded(run)[[0, 2, 3]], loaded(free)[[0, 2, 3]])
    ended = int(run.store.read(0, 2).array("end.ended")[1])
    assert 0 < ended <= 12
    assert bool(loaded(run)[1, ended:].isnan().all())
    assert torch.equal(loaded(run)[1, :ended], loaded(free)[1, :ended])


def waters(count: int = 3) -> list[Atoms]:
    """Water, hydrogen and water again, moving."""
    rng = np.random.default_rng(0)
    systems = [molecule("H2" if k % 3 == 1 else "H2O") for k in range(count)]
    for atoms in systems:
        atoms.rattle(0.05, rng=rng)
        atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * 0.1)
    return systems


def ase_trajectory(atoms: Atoms, model: AtomicPotential, steps: int, dt: float) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = LieTransformerCalculator(model, dtype="float64")
    found = [atoms.positions.copy()]
    with IntegratorMD(atoms, dt, method="leapfrog") as md:
        for _ in range(steps // 5):
            md.run(5)
            found.append(atoms.positions.copy())
    return np.stack(found)


@pytest.mark.parametrize("periodic", [False, True])
def test_atoms_move_as_under_ase(periodic: bool, tmp_path: Path) -> None:
    model = AtomicPotential.default(elements=(1, 8, 29)).double()
    systems = waters()
    if periodic:
        systems = [bulk("Cu", cubic=True) for _ in range(2)]
        for k, atoms in enumerate(systems):
            atoms.set_momenta(np.random.default_rng(k).normal(size=(4, 3)))
    dt = 0.5 * units.fs
    run = simulate(
        model, systems, store=tmp_path, steps=20, dt=dt, save_every=5, segment=10, method="leapfrog", chunk=2
    )
    for number, atoms in enumerate(systems):
        expected = ase_trajectory(atoms, model, 20, dt)
        assert float(np.abs(run.trajectory(number).q[:] - expected).max()) < ASE_ERROR
        assert float(np.abs(expected[-1] - expected[0]).max()) > 1e-3, "nothing moves"


def test_atoms_of_one_composition_make_a_chunk(tmp_path: Path) -> None:
    model = AtomicPotential.default(elements=(1, 8))
    options: dict[str, Any] = {"steps": 4, "dt": 0.05, "save_every": 2, "segment": 2}
    run = simulate(LieTransformerCalculator(model), waters(5), store=tmp_path / "atoms", **options)
    assert [run.members(chunk).tolist() for chunk in range(2)] == [[0, 2, 3], [1, 4]]
    assert run.trajectory(4).q.shape == (3, 2, 3)
    still = [Atoms(atoms.numbers, atoms.positions) for atoms in waters(5)]
    listed = simulate(model, still, store=tmp_path / "list", **options)
    as_set = simulate(model, from_atoms(still), store=tmp_path / "set", **options)
    assert snapshot(listed.folder)["000001/000001.safetensors"]
    for number in range(5):
        assert np.array_equal(listed.trajectory(number).q[:], as_set.trajectory(number).q[:])


def test_a_chunk_that_cannot_be_computed_leaves_the_others(tmp_path: Path) -> None:
    class Broken(SerialExecutor):
        def wait(self) -> Any:
            if self._tasks[0].chunk == 1:
                return [(self._tasks.popleft(), RuntimeError("bad luck"))]
            return super().wait()

    with (
        using(Broken),
        pytest.raises(FailedChunksError, match=r"1 of 3 chunks .* chunk 1: RuntimeError: bad luck"),
    ):
        simulate(SYSTEM, springs(), store=tmp_path, **OPTIONS)
    assert Run(tmp_path).present().sum(1).tolist() == [3, 0, 3]


def test_a_full_disk_is_tried_again_and_then_reported(tmp_path: Path) -> None:
    run = simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    disk, pauses = FailingDisk(), list[float]()
    disk.full = True
    worker = Worker(tmp_path, SegmentStore(tmp_path, disk=disk))
    driving = drive(
        Schedule(run.present(), retries=2), SerialExecutor(tmp_path, worker=worker), sleep=pauses.append
    )
    with pytest.raises(OSError, match="No space left"):
        next(driving)
    assert pauses[:2] == [1.0, 2.0]
    assert [*(tmp_path / "tmp").iterdir()] == []
    disk.full = False
    run.finish()
    assert torch.equal(loaded(run), rolled(springs()).q)


def test_a_task_may_go_on_in_its_chunk(tmp_path: Path) -> None:
    """Results of segments that nobody asked for are taken; one that fails on the way is tried again."""
    run = simulate(SYSTEM, springs(), store=tmp_path, wait=False, **OPTIONS)
    chunks, segments = run.present().shape
    asked, failures = list[Task](), [OSError("no space left for once")]

    class Eager(SerialExecutor):
        def submit(self, task: Task) -> None:
            asked.append(task)
            super().submit(task)

        def wait(self) -> list[Any]:
            first, found = self._tasks[0], list[Any]()
            for number in range(first.number, segments):
                if number == 1 and failures:
                    self._tasks.clear()
                    return [*found, (Task(first.chunk, number), failures.pop())]
                self._tasks = deque([Task(first.chunk, number)])
                found += super().wait()
            return found

    done = list(drive(Schedule(run.present()), Eager(tmp_path), sleep=lambda seconds: None))
    assert sorted(done) == [Task(chunk, number) for chunk in range(chunks) for number in range(segments)]
    assert sorted(asked) == sorted([Task(chunk, 0) for chunk in range(chunks)] + [Task(0, 1)])
    assert torch.equal(loaded(run), rolled(springs()).q)


class GoesOn(SerialExecutor):
    """A task of its own goes on to the end of its chunk."""

    def wait(self) -> list[Any]:
        first = self._tasks.popleft()
        return [
            (task, self._worker.run(*task)) for task in (Task(first.chunk, k) for k in range(first.number, 3))
        ]


def test_a_task_that_goes_on_over_what_is_there_tells_nothing_twice(tmp_path: Path) -> None:
    run = simulate(SYSTEM, springs(), store=tmp_path, **OPTIONS)
    run.store.path(0, 0).unlink()
    run.store.path(2, 1).unlink()
    begun = len((tmp_path / "events.jsonl").read_text().splitlines())
    with using(GoesOn):
        places = [(segment.chunk, segment.number) for segment in run.stream()]
    assert sorted(places) == [(chunk, number) for chunk in range(3) for number in range(3)]
    told = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()[begun:]]
    assert [entry["event"] for entry in told] == ["begin", "new", "new", "end"]
