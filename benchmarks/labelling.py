"""How fast are structures labelled by one and two workers on Ray, and what do kills cost?

    labels_per_s_N   frames labelled a second by N workers, after a warm-up; median of interleaved repeats
    scaling          labels_per_s_2 over labels_per_s_1
    bare_per_s_N     the same by N bare processes, each with its part of the structures; without store or Ray
    bare_scaling     bare_per_s_2 over bare_per_s_1: what two processes of this machine give
    efficiency       labels_per_s_2 over bare_per_s_2
    kills            workers killed by SIGKILL during a further run with two
    lost, doubled    frames that its file lacks, or has twice, beside the file of one process; both must be 0
    identical        1 if both files are the same, byte for byte

    python benchmarks/labelling.py [--structures 200] [--frames 20] [--calculator emt] [--repeats 5] [--kills 5]
    python benchmarks/labelling.py --structures 500 --calculator gfn2 --names CH3CH2OH --repeats 3

Two cores of their own are needed, for some minutes; "gfn2" needs tblite, and ten.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

import ase.io
import torch
from ase import Atoms
from ase.build import molecule
from record import record

from lie_sim.data.labelling import LabelConfig, label_file
from lie_sim.data.sampling import Sampling
from lie_sim.distributed import cluster, label
from lie_sim.distributed.journal import events

NAMES = ("CH3OH", "CH3CH2OH", "C6H6", "C2H6", "CH3CONH2")
WORKERS = (1, 2)
CHUNK = 4
PATIENCE = 0.05
"""Seconds between two looks for a worker to kill."""


def structures(count: int, names: Sequence[str]) -> list[Atoms]:
    found = [molecule(names[k % len(names)]) for k in range(count)]
    for k, atoms in enumerate(found):
        atoms.rattle(0.02, seed=k)
    return found


def rate(starts: list[Atoms], config: LabelConfig, workers: int) -> float:
    """Frames a second."""
    with cluster("local", workers=workers), tempfile.TemporaryDirectory() as folder:
        label(starts[: 4 * CHUNK * workers], config, store=Path(folder, "warm"), chunk=CHUNK)
        begun = time.perf_counter()
        run = label(starts, config, store=Path(folder, "store"), chunk=CHUNK)
        seconds = time.perf_counter() - begun
        return run.export(Path(folder, "labels.extxyz")).frames / seconds


def bare_rate(starts: list[Atoms], config: LabelConfig, workers: int) -> float:
    """Frames a second of processes that know nothing of each other."""
    parts = [starts[k::workers] for k in range(workers)]
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        tempfile.TemporaryDirectory() as folder,
    ):
        list(
            pool.map(
                label_part,
                [Path(folder, f"warm{k}.extxyz") for k in range(workers)],
                [starts[:2]] * workers,
                [config] * workers,
            )
        )
        begun = time.perf_counter()
        paths = [Path(folder, f"{k}.extxyz") for k in range(workers)]
        frames = list(pool.map(label_part, paths, parts, [config] * workers))
        return sum(frames) / (time.perf_counter() - begun)


def label_part(path: Path, starts: list[Atoms], config: LabelConfig) -> int:
    """Number of frames."""
    torch.set_num_threads(1)
    return label_file(path, starts, config).frames


def kill_workers(folder: Path, kills: int, stop: Event, killed: list[int]) -> None:
    """Kill the worker that finished last, each once, until there were enough."""
    while len(killed) < kills and not stop.wait(PATIENCE):
        workers = [int(entry["worker"].rsplit(":", 1)[1]) for entry in events(folder) if entry.get("worker")]
        if workers and workers[-1] not in killed:
            killed.append(workers[-1])
            os.kill(workers[-1], signal.SIGKILL)


def disturbed(starts: list[Atoms], config: LabelConfig, kills: int) -> dict[str, float]:
    """What is lost or doubled when workers are killed."""
    stop, killed = Event(), list[int]()
    with cluster("local", workers=2), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = label(starts, config, store=folder / "store", chunk=CHUNK, wait=False)
        killer = Thread(target=kill_workers, args=(run.folder, kills, stop, killed))
        killer.start()
        try:
            run.export(folder / "killed.extxyz")
        finally:
            stop.set()
            killer.join()
        label_file(folder / "plain.extxyz", starts, config)
        found, expected = frames_of(folder / "killed.extxyz"), frames_of(folder / "plain.extxyz")
        identical = (folder / "killed.extxyz").read_bytes() == (folder / "plain.extxyz").read_bytes()
    return {
        "kills": len(killed),
        "lost": (expected - found).total(),
        "doubled": (found - expected).total(),
        "identical": float(identical),
    }


def frames_of(path: Path) -> Counter[tuple[int, int]]:
    """Structure and number of every frame."""
    return Counter((frame.info["structure"], frame.info["frame"]) for frame in ase.io.iread(path))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", type=int, default=200)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--calculator", default="emt")
    parser.add_argument("--names", nargs="+", default=NAMES, help="molecules that ASE knows, in turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    starts = structures(options.structures, options.names)
    config = LabelConfig(options.calculator, Sampling(frames=options.frames))
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    bare: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for _ in range(options.repeats):
        for workers in WORKERS:
            rates[workers].append(rate(starts, config, workers))
            bare[workers].append(bare_rate(starts, config, workers))
            print(
                f"{workers} workers: {rates[workers][-1]:.1f} labels/s, bare {bare[workers][-1]:.1f}",
                flush=True,
            )
    figures = {f"labels_per_s_{workers}": statistics.median(found) for workers, found in rates.items()}
    figures |= {f"bare_per_s_{workers}": statistics.median(found) for workers, found in bare.items()}
    figures["scaling"] = figures["labels_per_s_2"] / figures["labels_per_s_1"]
    figures["bare_scaling"] = figures["bare_per_s_2"] / figures["bare_per_s_1"]
    figures["efficiency"] = figures["labels_per_s_2"] / figures["bare_per_s_2"]
    figures |= disturbed(starts, config, options.kills)
    for name, value in figures.items():
        print(f"{name:16} {value:.4g}")
    if not options.dry_run:
        record("labelling", figures, threads=1, details={"rates": rates, "bare": bare})
    return 0 if figures["identical"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
