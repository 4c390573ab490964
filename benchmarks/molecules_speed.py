"""How fast are energies, forces, molecular dynamics and training steps beside the peers, and how do they grow?

One thread, float32, every contestant in a process of its own (molecules_timing.py), in turn, several rounds; figures
are medians over the rounds of medians over calls. Networks are untrained: their speed does not depend on weights.

    ours            the model of ``lie-sim train molecules``, which the accuracy table shows, cutoff 6 Å
    ours_compiled   the same, LieTransformerCalculator(compile=True)
    painn, painn64  SchNetPack, cutoff 5 Å; the accuracy table has painn64
    mace, mace128   MACE 64x0e and 128x0e + 128x1o, cutoff 5 Å
    nequip          NequIP, ℓ ≤ 1, 32 features, 4 layers, cutoff 5 Å, eager
    ani             the architecture of one network of ANI-2x, TorchANI, cutoff 5.1 Å
    sevennet0       SevenNet-0 as shipped
    gfn2            GFN2-xTB by tblite

Growth: ours on 192 to 5,184 atoms of periodic water; slope of log time, and of the log of the memory that the process
takes beyond what it held before, against log N.

    make bench-env-molecules
    ENV=.venv-bench-molecules
    python benchmarks/molecules_speed.py --peers $ENV/bin/python --nequip $ENV-nequip/bin/python [--rounds 5]
        [--keep FILE] [--at-most SECONDS]

With ``--keep`` every process that ended is a line of the file and is not run again; ``--at-most`` ends before the
rounds are complete, to be continued by the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import record

HERE = Path(__file__).parent
EVALUATIONS = ("ethanol", "aspirin", "water_192")
ALL = (*EVALUATIONS, "md", "many_32", "step_16", "step_32")
CONTESTANTS = {
    "ours": ALL,
    "ours_compiled": (*EVALUATIONS, "md"),
    "painn": ALL,
    "painn64": ALL,
    "mace": ALL,
    "mace128": ALL,
    "nequip": ALL,
    "ani": ALL,
    "sevennet0": EVALUATIONS,
    "gfn2": ("ethanol", "aspirin"),
}
GROWTH = tuple(f"water_{atoms}" for atoms in (192, 384, 768, 1536, 3072, 5184))
OF_NEQUIP = ("nequip", "sevennet0")
Row = dict[str, Any]


def jobs(
    contestants: dict[str, tuple[str, ...]], growth: tuple[str, ...]
) -> list[tuple[str, tuple[str, ...]]]:
    """Processes of one round: contestant and what it measures; for the growth one process a size."""
    return list(contestants.items()) + [("ours", (size,)) for size in growth]


class Bench:
    """Rows of all processes that ended.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        keep = options.keep
        lines = keep.read_text(encoding="utf-8").splitlines() if keep and keep.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in lines]
        self.skipped: dict[str, str] = {}

    def python(self, contestant: str) -> str | None:
        """Interpreter of a contestant; None where it is not installed."""
        if contestant.startswith("ours"):
            return sys.executable
        path = self.options.nequip if contestant in OF_NEQUIP else self.options.peers
        return str(path) if path else None

    def have(self, number: int, contestant: str, what: tuple[str, ...]) -> bool:
        """Whether this process of this round was run."""
        return any(
            (row["round"], row["contestant"], tuple(row["ms"])) == (number, contestant, what)
            for row in self.rows
        )

    def run(self, number: int, contestant: str, what: tuple[str, ...]) -> None:
        """One process; a contestant that fails once is left out from then on."""
        python = self.python(contestant)
        if contestant in self.skipped or self.have(number, contestant, what):
            return
        if python is None:
            self.skipped[contestant] = "no environment was given: make bench-env-molecules"
            return
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
        words = [contestant, *what, "--seconds", str(self.options.seconds)]
        done = subprocess.run(
            [python, "-W", "ignore", str(HERE / "molecules_timing.py"), *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            self.skipped[contestant] = done.stderr.strip().splitlines()[-1][:300]
            return
        found = json.loads(done.stdout.strip().splitlines()[-1])
        row = {"round": number, "contestant": contestant} | found
        self.rows.append(row)
        if self.options.keep:
            with self.options.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        print(f"round {number}: {contestant} {json.dumps(found['ms'])}", flush=True)

    def complete(self, todo: list[tuple[str, tuple[str, ...]]]) -> bool:
        """Run all rounds; False if the time was up before."""
        begin = time.monotonic()
        for number in range(1, self.options.rounds + 1):
            for contestant, what in todo:
                if time.monotonic() - begin > self.options.at_most:
                    return False
                self.run(number, contestant, what)
        for contestant, why in self.skipped.items():
            print(f"skipped: {contestant}: {why}")
        return True


def medians(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Milliseconds by contestant and measurement, over the rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for what, value in row["ms"].items():
            found.setdefault(row["contestant"], {}).setdefault(what, []).append(value)
    return {
        contestant: {what: statistics.median(values) for what, values in each.items()}
        for contestant, each in found.items()
    }


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of growth: least squares in the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growth_rows(rows: list[Row]) -> list[Row]:
    """Milliseconds and extra memory by number of atoms, medians over the rounds."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        if len(row["ms"]) == 1 and next(iter(row["ms"])) in GROWTH:
            found.setdefault(int(next(iter(row["ms"])).split("_")[1]), []).append(row)
    return [
        {
            "atoms": atoms,
            "ms": statistics.median(next(iter(row["ms"].values())) for row in each),
            "extra_mib": statistics.median(row["extra_mib"] for row in each),
        }
        for atoms, each in sorted(found.items())
    ]


def figures(rows: list[Row]) -> dict[str, float]:
    """Ratios to the peers, exponents, and milliseconds of all."""
    ms, growth = medians(rows), growth_rows(rows)
    ours, out = ms.get("ours", {}), {}

    def over(name: str, what: str, peer: str, *, inverse: bool = False) -> None:
        if what in ours and what in ms.get(peer, {}):
            ratio = ours[what] / ms[peer][what]
            out[name] = 1 / ratio if inverse else ratio

    over("ethanol_over_painn", "ethanol", "painn")
    over("ethanol_over_painn64", "ethanol", "painn64")
    over("aspirin_over_painn", "aspirin", "painn")
    over("md_over_painn", "md", "painn")
    over("water192_over_mace", "water_192", "mace")
    over("water192_over_painn", "water_192", "painn")
    over("batch32_over_painn", "many_32", "painn", inverse=True)
    over("batch32_over_painn64", "many_32", "painn64", inverse=True)
    for what in ("step_16", "step_32"):
        over(f"train_{what}_over_painn", what, "painn")
        over(f"train_{what}_over_painn64", what, "painn64")
    steps = [
        out[f"train_step_{count}_over_painn"] for count in (16, 32) if f"train_step_{count}_over_painn" in out
    ]
    if steps:
        out["train_step_over_painn"] = max(steps)
    for what, value in ms.get("ours_compiled", {}).items():
        if what in ours:
            out[f"compiled_speedup_{what}"] = ours[what] / value
    compiled = ms.get("ours_compiled", {})
    for name, what, peer in (("ethanol", "ethanol", "painn"), ("water192", "water_192", "mace")):
        if what in compiled and what in ms.get(peer, {}):
            out[f"{name}_compiled_over_{peer}"] = compiled[what] / ms[peer][what]
    if "compiled_speedup_ethanol" in out:
        out["compiled_speedup"] = out["compiled_speedup_ethanol"]
    if len(growth) > 1:
        sizes = [row["atoms"] for row in growth]
        out["exponent_time"] = slope(sizes, [row["ms"] for row in growth])
        out["exponent_memory"] = slope(sizes, [row["extra_mib"] for row in growth])
    return out | {
        f"{contestant}_{what}_ms": value
        for contestant, each in ms.items()
        for what, value in each.items()
        if what in ALL
    }


def versions(options: argparse.Namespace) -> dict[str, str]:
    """Of the peers."""
    names = ("torch", "schnetpack", "mace-torch", "e3nn", "nequip", "sevenn", "torchani", "tblite")
    code = (
        "import importlib.metadata as m, json\n"
        f"found = {{}}\nfor n in {names!r}:\n try: found[n] = m.version(n)\n except Exception: pass\n"
        "print(json.dumps(found))"
    )
    found: dict[str, str] = {}
    for python in filter(None, (options.nequip, options.peers)):
        found |= json.loads(subprocess.check_output([str(python), "-c", code], text=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, help="Python that has schnetpack, mace and tblite")
    parser.add_argument("--nequip", type=Path, help="Python that has nequip and sevenn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="file of what was measured")
    parser.add_argument("--at-most", type=float, default=float("inf"), help="seconds, then stop")
    parser.add_argument("--quick", action="store_true", help="ethanol only, one round; nothing is recorded")
    options = parser.parse_args()
    options.seconds = 0.0 if options.quick else 0.5
    todo = jobs(CONTESTANTS, GROWTH)
    if options.quick:
        options.rounds, todo = 1, [(name, ("ethanol",)) for name in CONTESTANTS if name != "ours_compiled"]
        todo.append(("ours", ("water_192",)))
    bench = Bench(options)
    if not bench.complete(todo):
        print("the time is up: run the same command again to go on")
        return
    rows = [row for row in bench.rows if row["round"] <= options.rounds]
    found = figures(rows)
    for name, value in found.items():
        print(f"{name:40s} {value:.3g}")
    if not options.quick:
        details = {
            "ms": medians(rows),
            "parameters": {row["contestant"]: row["parameters"] for row in rows},
            "growth": growth_rows(rows),
            "rounds": options.rounds,
            "peers": versions(options),
            "rows": rows,
        }
        print(record("molecules_speed", found, threads=1, details=details))


if __name__ == "__main__":
    main()
