"""What does it cost that a run survives anything: in the driver, on disk, in a segment, and on Ray?

    driver      CPU time of the driver for a segment that costs nothing: schedule, loop, journal (1,000 chunks, no Ray)
    scan        time to find which of 100,000 segments are there, the length of each file checked
    store       frames of 100 atoms (4,800 bytes) written a second, in segments of 100, and bytes on disk over raw
    segment     CPU time of a run in this process over that of lie_sim.rollout, which keeps nothing
    ray         (--ray) time of two bare processes over that of two workers on Ray, segment by segment the same work,
                interleaved, after a warm-up; idle time of a worker between two segments; and the same ratio for two
                workers of joblib, which get whole chunks, and of Dask, which get segments, where they are installed

    pip install --target DIR joblib distributed
    PYTHONPATH=DIR python benchmarks/ray_rollout.py [--ray] [--repeats 5] [--segment-seconds 2]

Without --ray two CPU minutes on one thread. With it two cores of their own are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record

from lie_sim.distributed import Run, cluster, simulate
from lie_sim.distributed.driver import drive
from lie_sim.distributed.executors import Result
from lie_sim.distributed.journal import Journal, events
from lie_sim.distributed.manifest import ChunkEntry, Manifest
from lie_sim.distributed.schedule import Schedule, Task
from lie_sim.distributed.segment import segment_bytes
from lie_sim.distributed.store import SegmentStore
from lie_sim.distributed.worker import Report, Worker
from lie_sim.rollout import rollout
from lie_sim.state import Particles, PhaseState
from lie_sim.systems import Springs

CHUNKS, SEGMENTS = 1000, 100
ATOMS, FRAMES = 100, 100
RUN = {"steps": 2000, "dt": 0.01, "save_every": 20, "chunk": 64, "method": "leapfrog"}
SYSTEM = Springs(num_particles=8)


class Instant:
    """Workers to whom a segment is nothing."""

    capacity = 200

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def wait(self) -> list[Result]:
        return [(self.tasks.pop(), Report("new", 1.0, 0.0, 0, 0.0, "worker", "cpu"))]

    def tell(self, event: str, **facts: Any) -> None:
        pass

    def close(self) -> None:
        self.tasks.clear()


def driver_cost(folder: Path) -> float:
    """CPU seconds of the driver for a segment."""
    manifest = Manifest({}, "leapfrog", {}, 0.1, 100, 1, 1, (ChunkEntry(1, ""),) * CHUNKS, "", "float64")
    present = np.zeros((CHUNKS, SEGMENTS), dtype=bool)
    begun = time.process_time()
    with (
        contextlib.redirect_stderr(io.StringIO()),
        Journal(folder, manifest, present, progress=True) as journal,
    ):
        for _ in drive(Schedule(present), Instant(), on_event=journal.tell):
            pass
    return (time.process_time() - begun) / present.size


def frames_of(atoms: int, frames: int) -> dict[str, torch.Tensor]:
    """A segment of one trajectory that moves, as leapfrog leaves it."""
    q, p = torch.randn(2, 1, frames, atoms, 3, dtype=torch.float64)
    end = {"q": q[:, -1], "p": p[:, -1], "memory.force": q[:, 0], "alive": torch.ones(1, dtype=torch.bool)}
    end |= {name: torch.zeros(1, dtype=torch.float64) for name in ("first_energy", "kinetic_sum", "drift")}
    energy = torch.randn(1, frames, dtype=torch.float64)
    return {"q": q, "p": p, "energy": energy} | {f"end.{name}": x for name, x in end.items()}


def store_rate(folder: Path) -> dict[str, float]:
    """Frames a second, and bytes over raw."""
    store, count, tensors = SegmentStore(folder), 100, frames_of(ATOMS, FRAMES)
    wall, cpu, size = time.perf_counter(), time.process_time(), 0
    for number in range(count):
        content = segment_bytes(tensors, manifest="0" * 64, chunk=0, number=number, after="0" * 64)
        size += len(content)
        store.commit(0, number, content)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    raw = count * FRAMES * ATOMS * 6 * 8
    return {
        "frames_per_s": count * FRAMES / wall,
        "frames_per_cpu_s": count * FRAMES / cpu,
        "bytes_over_raw": size / raw,
    }


def scan_time(folder: Path) -> dict[str, float]:
    """Seconds to find 100,000 segments."""
    facts: dict[str, Any] = {"manifest": "0" * 64, "chunk": 0, "number": 0, "after": "0" * 64}
    content, store = segment_bytes(frames_of(2, 2), **facts), SegmentStore(folder)
    for chunk in range(CHUNKS):
        store.path(chunk, 0).parent.mkdir(parents=True)
        for number in range(SEGMENTS):
            store.path(chunk, number).write_bytes(content)
    wall, cpu = [], []
    for _ in range(3):
        begun = time.perf_counter(), time.process_time()
        assert store.scan(CHUNKS, SEGMENTS).all()
        wall.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
    return {"scan_s": min(wall), "scan_cpu_s": min(cpu)}


def ensemble(chunks: int) -> tuple[PhaseState, Particles]:
    return SYSTEM.sample(RUN["chunk"] * chunks, generator=torch.Generator().manual_seed(0))


def cpu_of(function: Callable[[], object]) -> float:
    begun = time.process_time()
    function()
    return time.process_time() - begun


def segment_cost(folder: Path, repeats: int) -> float:
    """CPU time of a stored run of one chunk over that of a rollout, median of interleaved pairs."""
    start, ratios = ensemble(1), []
    steps = {"num_steps": RUN["steps"], "step_size": RUN["dt"], "save_every": RUN["save_every"]}
    for number in range(repeats + 1):
        plain = cpu_of(lambda: rollout(SYSTEM, *start, method="leapfrog", **steps))
        store = folder / str(number)
        stored = cpu_of(lambda store=store: simulate(SYSTEM, start, store=store, segment=400, **RUN))
        ratios.append(stored / plain)
    return statistics.median(ratios[1:])


def chain(folder: Path, chunk: int, segments: int) -> None:
    """All segments of a chunk, as a bare process computes them."""
    torch.set_num_threads(1)
    worker = Worker(folder)
    for number in range(segments):
        worker.run(chunk, number)


def one(folder: Path, chunk: int, number: int, after: None = None) -> None:
    """A segment, when the one before it is done."""
    torch.set_num_threads(1)
    Worker(folder).run(chunk, number)


def chains(run: Run) -> list[tuple[Path, int, int]]:
    """Arguments of :func:`chain` for every chunk."""
    return [(run.folder, chunk, run.manifest.num_segments) for chunk in range(len(run.manifest.chunks))]


def bare(run: Run, pool: ProcessPoolExecutor) -> None:
    """Two processes that take chunks in turn."""
    for job in [pool.submit(chain, *words) for words in chains(run)]:
        job.result()


def by_joblib(run: Run) -> None:
    """Two workers that stay for the next call."""
    joblib = importlib.import_module("joblib")
    joblib.Parallel(n_jobs=2)(joblib.delayed(chain)(*words) for words in chains(run))


def by_dask(run: Run, client: Any) -> None:
    """Segments, each of which waits for the one before it."""
    last = []
    for folder, chunk, segments in chains(run):
        done = None
        for number in range(segments):
            done = client.submit(one, folder, chunk, number, done, pure=False)
        last.append(done)
    client.gather(last)


def rivals(stack: contextlib.ExitStack) -> dict[str, Callable[[Run], None]]:
    """Who else is installed, with two workers each."""
    found: dict[str, Callable[[Run], None]] = {}
    if importlib.util.find_spec("joblib"):
        found["joblib"] = by_joblib
    if importlib.util.find_spec("distributed"):
        dask = importlib.import_module("distributed")
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        client = stack.enter_context(dask.Client(stack.enter_context(dask.LocalCluster(**options))))
        found["dask"] = lambda run: by_dask(run, client)
    return found


def fresh(folder: Path, segment: int, steps: int, chunks: int) -> Run:
    return simulate(
        SYSTEM, ensemble(chunks), store=folder, segment=segment, wait=False, **RUN | {"steps": steps}
    )


def on_ray(folder: Path, repeats: int, seconds: float) -> dict[str, float]:
    """Efficiency over bare processes, and idle time, of two workers with four chunks."""
    probe = simulate(
        SYSTEM,
        ensemble(1),
        store=folder / "probe",
        segment=f"{seconds}s",
        wait=False,
        **RUN | {"steps": 10**9},
    )
    segment, steps = probe.manifest.segment_steps, 4 * probe.manifest.segment_steps
    times, idle = dict[str, list[float]](), list[float]()
    with contextlib.ExitStack() as stack:
        stack.enter_context(cluster("local", workers=2))
        pool = stack.enter_context(ProcessPoolExecutor(2, mp_context=get_context("spawn")))
        ways = {"bare": lambda run: bare(run, pool), "ray": Run.finish, **rivals(stack)}
        for number in range(repeats + 1):
            for name, way in _turned(ways, number):
                run = fresh(folder / f"{name}{number}", segment, steps, 4)
                begun = time.perf_counter()
                way(run)
                if number > 0:  # the first is the warm-up
                    times.setdefault(name, []).append(time.perf_counter() - begun)
                    idle += list(_idle(run)) if name == "ray" else []
            print({name: [round(taken, 1) for taken in found] for name, found in times.items()}, flush=True)
    efficiency = {
        name: statistics.median(plain / taken for plain, taken in zip(times["bare"], found, strict=True))
        for name, found in times.items()
    }
    return {
        "efficiency_over_multiprocessing": efficiency.pop("ray"),
        **{f"efficiency_{name}": value for name, value in efficiency.items() if name != "bare"},
        "gap_ms_median": 1e3 * statistics.median(idle),
        "segment_seconds": seconds,
    }


def _turned(ways: dict[str, Callable[[Run], None]], number: int) -> list[tuple[str, Callable[[Run], None]]]:
    """Each begins once in a while, so that none always follows the same other."""
    items, first = list(ways.items()), number % len(ways)
    return items[first:] + items[:first]


def _idle(run: Run) -> Iterator[float]:
    """Of every segment but the first of each worker in this run."""
    seen: set[str] = set()
    for entry in events(run.folder):
        if entry["event"] == "new":
            if entry["worker"] in seen:
                yield entry.get("idle", math.nan)
            seen.add(entry["worker"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--segment-seconds", type=float, default=2.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        driver = driver_cost(folder)
        figures = {"driver_ms_per_segment": 1e3 * driver, "segments_per_s": 1 / driver}
        figures |= store_rate(folder / "store") | scan_time(folder / "scan")
        figures["stored_over_plain"] = segment_cost(folder / "cost", options.repeats)
        if options.ray:
            figures |= on_ray(folder / "ray", options.repeats, options.segment_seconds)
    for key, value in figures.items():
        print(f"{key:32} {value:.4g}")
    record("ray_rollout", figures, threads=1)


if __name__ == "__main__":
    main()
