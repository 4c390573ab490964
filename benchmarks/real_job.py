"""What does a job of days look like in minutes, on a cluster where workers, drivers and nodes die?

1,024 spring systems by a model that was trained for it, and 64 molecules of ethanol by ``organic-gfn2``, 20,000 steps
each, from the command line, on a cluster of a head and two nodes of one processor on this machine. At random moments a
worker, the driver or a node is killed (chaos.py says how); the next driver is ``lie-sim resume``. In the end every byte
is verified, and every run has its report.

    python benchmarks/real_job.py DIR [--steps 20000] [--pause 20]

Both runs can be watched meanwhile: lie-sim watch DIR/springs. What is there is not computed again.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ase.build import molecule
from ase.io import write
from chaos import Chaos, frames_missing_and_doubled, started
from record import record

from lie_sim.distributed import Run, verify
from lie_sim.distributed.journal import events

SPRINGS, ETHANOL = 1024, 64
SEGMENT = "5s"
"""About how long one takes: a kill costs one, and here something is killed every 20 s."""
FAULTS = {"worker": 0.8, "driver": 0.15, "node": 0.05}


def lie_sim(*words: str) -> list[str]:
    """A command."""
    return [sys.executable, "-m", "lie_sim.cli.main", *words]


class Job(Chaos):
    """One run from the command line, disturbed.

    Args:
        begin: words of the command that begins it.
        options: of the cluster and the dice, see :class:`Chaos`.
    """

    def __init__(self, begin: Sequence[str], *options: Any) -> None:
        super().__init__(*options)
        self.begin = begin

    def start_driver(self, run: Run) -> None:
        command = lie_sim("resume", str(run.folder), "--address", self.nodes.address)
        self.drivers.append(subprocess.Popen(command))

    def run(self, folder: Path) -> Run:
        """To its end."""
        if not (folder / "manifest.json").exists():
            self.drivers.append(
                subprocess.Popen(lie_sim(*self.begin, "--out", str(folder), "--address", self.nodes.address))
            )
        while not (folder / "manifest.json").exists():
            time.sleep(1)
        run = Run(folder)
        while not run.status().complete:
            time.sleep(self.dice.expovariate(1 / self.pause))
            self.complete_nodes()
            self.drivers = [driver for driver in self.drivers if driver.poll() is None]
            if not self.drivers and not run.status().complete:
                self.start_driver(run)
            elif self.drivers:
                fault = self.dice.choices(list(FAULTS), list(FAULTS.values()))[0]
                self.counts[fault] += getattr(self, fault)(run)
        for driver in self.drivers:
            driver.wait()
        return run


def summary(run: Run) -> dict[str, float]:
    """What became of a run."""
    told, found = list(events(run.folder)), run.status()
    missing, doubled = frames_missing_and_doubled(run)
    return {
        "frames": found.frames,
        "frames_missing": missing,
        "frames_doubled": doubled,
        "drift": found.drift,
        "diverged": len(found.diverged),
        "segments": found.segments,
        "retries": sum(entry["event"] in ("retry", "lost", "duplicate") for entry in told),
        "hours": (told[-1]["time"] - told[0]["time"]) / 3600,
        "sound": float(verify(run).sound),
    }


def jobs(home: Path, steps: int) -> dict[str, list[str]]:
    """Words of the commands that begin the runs."""
    model, ethanol = home / "model", home / "ethanol.xyz"
    if not (model / "results.json").exists():
        subprocess.run(lie_sim("train", "springs", str(model)), check=True)
    write(ethanol, molecule("CH3CH2OH"))
    frames = ["--steps", str(steps), "--save-every", str(max(1, steps // 200)), "--method", "leapfrog"]
    frames += ["--segment", SEGMENT]
    return {
        "springs": ["simulate", str(model), "--num-systems", str(SPRINGS), *frames, "--chunk", "256"],
        "ethanol": [
            *("simulate", "organic-gfn2", "--structures", str(ethanol), "--num-systems", str(ETHANOL)),
            *("--temperature", "300", "--chunk", "16", *frames),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home", type=Path, metavar="DIR")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--pause", type=float, default=20.0, help="mean seconds between two faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    home: Path = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    figures: dict[str, float] = {}
    commands = jobs(home, options.steps)
    with ExitStack() as stack:
        name = tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp", ignore_cleanup_errors=True)
        nodes, dice = started(stack, Path(stack.enter_context(name))), random.Random(options.seed)
        for kind, begin in commands.items():
            job = Job(begin, nodes, home, 0, dice, options.pause)
            stack.callback(job.close)
            run = job.run(home / kind)
            found = summary(run) | {f"killed_{key}s": count for key, count in job.counts.items()}
            figures |= {f"{kind}_{key}": value for key, value in found.items()}
            subprocess.run(lie_sim("report", str(run.folder)), check=True)
    for key, value in figures.items():
        print(f"{key:28} {value:,.4g}")
    if not options.dry_run:
        print(record("real_job", figures, threads=1))


if __name__ == "__main__":
    main()
