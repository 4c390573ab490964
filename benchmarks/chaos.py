"""Does a run on Ray of which anything is killed at random moments end as the undisturbed one, byte for byte?

A small cluster runs on this machine: a head and two nodes of one processor each. A driver in a process of its own
computes a run of springs in segments of about ``--segment-seconds``. At random moments (seeded, exponential, seconds in
the mean: ``--pause``)

    worker      a process that computes a segment dies by SIGKILL: one that calls itself ray::segment and is a child
                of this cluster
    driver      the driver dies by SIGKILL, and another one is started
    two         another driver is started beside the one that runs
    node        a node is removed, and another one added
    torn        a segment that is there is cut short, as a power failure may do

When a run is done, its segments are compared with those of a run in one process, and another one begins, until so many
workers were killed as asked, or the time is up.

    python benchmarks/chaos.py [--kills 200] [--minutes 30] [--seed 0]

A segment is wasted if a worker was killed while it computed, or found another one's result when it was done. A new
worker needs seconds to start, so 200 kills take a while.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from record import record

from lie_sim.distributed import Run, cluster, simulate, verify
from lie_sim.distributed.cluster import LOCAL, environment
from lie_sim.distributed.journal import events
from lie_sim.systems import Springs

SYSTEM = Springs(num_particles=8)
CHUNKS, SEGMENTS, SIZE = 6, 25, 16
FAULTS = {"worker": 0.9, "driver": 0.03, "two": 0.02, "node": 0.01, "torn": 0.04}
"""How often each is chosen."""
NODES = 2
NODE = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}


def begun(folder: Path, segment: int) -> Run:
    """A run of which nothing is computed."""
    ensemble = SYSTEM.sample(CHUNKS * SIZE, generator=torch.Generator().manual_seed(0))
    return simulate(
        SYSTEM,
        ensemble,
        steps=SEGMENTS * segment,
        dt=0.01,
        store=folder,
        method="csvr",
        save_every=10,
        chunk=SIZE,
        segment=segment,
        wait=False,
    )


def segment_steps(folder: Path, seconds: float) -> int:
    """Steps that take so long."""
    probe = begun(folder, 100)
    begin = time.perf_counter()
    for done, _ in enumerate(probe.work(), start=1):
        if done == 20:
            break
    return max(10, round(100 * 20 * seconds / (time.perf_counter() - begin) / 10) * 10)


def content(folder: Path) -> dict[str, bytes]:
    """Every segment by name."""
    root = folder / "seg"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.safetensors"))}


def command_line(process: int) -> str:
    """Of a process; empty if there is none, or only what its parent has not yet collected."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def computing(session: str) -> list[int]:
    """Processes that compute a segment at this moment, of the cluster whose files are in the folder ``session``."""
    found = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    busy = [process for process in found if command_line(process).startswith("ray::segment")]
    return [process for process in busy if session in command_line(parent(process))]


def parent(process: int) -> int:
    """Its parent, 0 if it is not there any more."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int(status.split("PPid:")[1].split()[0])


class Chaos:
    """One run after the other, disturbed.

    Args:
        nodes: the cluster.
        folder: for the runs.
        segment: steps of a segment.
        dice: what happens when.
        pause: mean seconds between two faults.
    """

    def __init__(self, nodes: Any, folder: Path, segment: int, dice: random.Random, pause: float) -> None:
        self.nodes, self.folder, self.segment, self.dice, self.pause = nodes, folder, segment, dice, pause
        self.counts: Counter[str] = Counter()
        self.drivers: list[subprocess.Popen[bytes]] = []

    def play(self, number: int, kills: int, deadline: float) -> Run:
        """A run, to its end; undisturbed once so many workers were killed, or the time is up."""
        run = begun(self.folder / f"run{number}", self.segment)
        self.start_driver(run)
        while not run.status().complete:
            time.sleep(self.dice.expovariate(1 / self.pause))
            self.complete_nodes()
            self.drivers = [driver for driver in self.drivers if driver.poll() is None]
            if not self.drivers:
                if not run.status().complete:
                    self.start_driver(run)
            elif self.counts["worker"] < kills and time.monotonic() < deadline:
                fault = self.dice.choices(list(FAULTS), list(FAULTS.values()))[0]
                self.counts[fault] += getattr(self, fault)(run)
        for driver in self.drivers:
            driver.wait()
        return run

    def close(self) -> None:
        """Leave no driver behind."""
        for driver in self.drivers:
            driver.kill()

    def start_driver(self, run: Run) -> None:
        command = [sys.executable, __file__, "--drive", self.nodes.address, str(run.folder)]
        self.drivers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def worker(self, run: Run) -> bool:
        found = computing(self.nodes.head_node.get_session_dir_path())
        if not found:
            return False
        try:
            os.kill(self.dice.choice(sorted(found)), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def driver(self, run: Run) -> bool:
        chosen = self.dice.choice(self.drivers)
        chosen.kill()
        chosen.wait()
        return True

    def two(self, run: Run) -> bool:
        if len(self.drivers) > 1:
            return False
        self.start_driver(run)
        return True

    def node(self, run: Run) -> bool:
        if len(self.nodes.worker_nodes) < NODES:
            return False
        self.nodes.remove_node(next(iter(self.nodes.worker_nodes)), allow_graceful=False)
        self.complete_nodes()
        return True

    def complete_nodes(self) -> None:
        """Ray gives a node 30 s to start; one that did not is tried again later."""
        if len(self.nodes.worker_nodes) < NODES:
            try:
                self.nodes.add_node(num_cpus=1, **NODE)
            except Exception:
                self.counts["node did not start"] += 1

    def torn(self, run: Run) -> bool:
        paths = sorted((run.folder / "seg").rglob("*.safetensors"))
        if not paths:
            return False
        path = self.dice.choice(paths)
        whole = path.read_bytes()
        cut = path.with_suffix(".cut")
        cut.write_bytes(whole[: self.dice.randrange(len(whole))])
        cut.replace(path)
        return True


def frames_missing_and_doubled(run: Run) -> tuple[int, int]:
    """Frames of all trajectories."""
    seen: Counter[tuple[int, int]] = Counter()
    for segment in run.frames():
        first, count = segment.frames.first, segment.frames.times.numel()
        seen.update((int(k), frame) for k in segment.trajectories for frame in range(first, first + count))
    expected = run.manifest.num_trajectories * run.manifest.num_frames
    return expected - len(seen), sum(count > 1 for count in seen.values())


def drive(address: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with cluster(address):
        Run(folder).finish()


def started(stack: ExitStack, folder: Path, attempts: int = 3) -> Any:
    """A cluster on this machine: its head, which does not compute, and one node; the others come later."""
    from ray.cluster_utils import Cluster

    (folder / "ray").mkdir(exist_ok=True)
    stack.enter_context(environment({**LOCAL, "RAY_TMPDIR": str(folder)}))
    nodes = Cluster()
    try:
        nodes.add_node(num_cpus=0, include_dashboard=False, **NODE)
        nodes.add_node(num_cpus=1, **NODE)
    except Exception:
        nodes.shutdown()
        if attempts == 1:
            raise
        return started(stack, folder, attempts - 1)
    stack.callback(nodes.shutdown)
    return nodes


def disturbed(options: argparse.Namespace) -> tuple[Counter[str], Counter[str]]:
    """What was done to the runs, and what became of them."""
    deadline, totals = time.monotonic() + 60 * options.minutes, Counter[str]()
    with ExitStack() as stack:
        name = tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(name))
        calm = begun(folder / "calm", segment_steps(folder / "probe", options.segment_seconds))
        calm.finish()
        nodes, dice = started(stack, folder), random.Random(options.seed)
        chaos = Chaos(nodes, folder, calm.manifest.segment_steps, dice, options.pause)
        stack.callback(chaos.close)
        while chaos.counts["worker"] < options.kills and time.monotonic() < deadline:
            run = chaos.play(totals["runs"], options.kills, deadline)
            totals.update(runs=1, **judged(run, content(calm.folder)))
            print(f"run {totals['runs']}: {dict(chaos.counts)}, so far {dict(totals)}", flush=True)
    return chaos.counts, totals


def judged(run: Run, expected: dict[str, bytes]) -> dict[str, int]:
    """What is wrong with a run, once files that were torn after they were needed are made again."""
    verify(run, repair=True)
    run.finish()
    found = content(run.folder)
    missing, doubled = frames_missing_and_doubled(run)
    return {
        "missing": missing,
        "doubled": doubled,
        "duplicates": sum(entry["event"] == "duplicate" for entry in events(run.folder)),
        "differing": sum(found.get(key) != expected.get(key) for key in found.keys() | expected.keys()),
        "quarantined": len([*run.folder.glob("quarantine/*differs*")]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--segment-seconds", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    parser.add_argument("--drive", nargs=2, metavar=("ADDRESS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive[0], Path(options.drive[1]))
        return 0
    torch.set_num_threads(1)
    counts, totals = disturbed(options)
    figures = {
        "kills": counts["worker"],
        "kills_of_drivers": counts["driver"],
        "second_drivers": counts["two"],
        "nodes_replaced": counts["node"],
        "files_torn": counts["torn"],
        "runs": totals["runs"],
        "segments": totals["runs"] * CHUNKS * SEGMENTS,
        "frames_missing": totals["missing"],
        "frames_doubled": totals["doubled"],
        "bit_identical": float(totals["differing"] == 0 == totals["quarantined"]),
        "segments_wasted": counts["worker"] + totals["duplicates"],
    }
    for key, value in figures.items():
        print(f"{key:20} {value:,.0f}")
    if not options.dry_run:
        print(record("chaos", figures, threads=1, details={"segment_seconds": options.segment_seconds}))
    return 0 if figures["bit_identical"] and not totals["missing"] + totals["doubled"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
