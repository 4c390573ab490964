"""At equal CPU time, whose forces are best: our model's, SchNetPack's PaiNN's, or MACE's?

Frames of ethanol, malonaldehyde and aspirin with GFN2-xTB energies and forces (molecules_frames.py): 1,000 to train,
200 to validate, 2,000 to test. Everyone is trained for the same CPU time on one thread, three seeds, each with its own
split and weights (molecules_training.py says what is the same for all).

    ours            the recipe of ``lie-sim train molecules``, the same for every molecule: moment attention, Muon
    painn64         SchNetPack's PaiNN with 64 features, AdamW; the better of two learning rates
    mace            MACE 64x0e, AdamW with amsgrad; the better of two learning rates
    painn64_muon    PaiNN with our optimiser: what the optimiser does and what the model does
    mace_muon       MACE with our optimiser

Rates are chosen by the validation of seed 0, for every molecule and budget. The peers write their predictions to a
file; errors of all come from the same lines here.

    make bench-env-molecules
    PEERS=.venv-bench-molecules/bin/python
    python benchmarks/molecules_accuracy.py --peers $PEERS --keep DIR [--only CONTESTANT MOLECULE SEED BUDGET]

With ``--keep`` everything that is done is kept and not done again, so the parts can be run one at a time, on several
days; ``--only`` does one of them, with ``--rate`` at one of its learning rates, and ``--record`` none: it shows what
there is, and what is missing as missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from molecules_frames import FRAMES, MOLECULES
from record import record

from lie_sim.files import write_atomically

HERE = Path(__file__).parent
RATES = {
    "ours": (0.0,),
    "painn64": (1e-3, 2e-3),
    "mace": (5e-3, 1e-2),
    "painn64_muon": (5e-3, 1e-2),
    "mace_muon": (5e-3, 1e-2),
}
"""Learning rates that are tried; 0 is that of the recipe."""
BUDGETS, SEEDS = (300.0, 1800.0), (0, 1, 2)
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One training."""

    contestant: str
    molecule: str
    seed: int
    budget: float
    rate: float

    @property
    def stem(self) -> str:
        """Name of its files."""
        rate = f"{self.rate:g}" if self.rate else "recipe"
        return f"{self.molecule}-{self.contestant}-{rate}-seed{self.seed}-{self.budget:g}s"


class Bench:
    """Parts, done or to be done.

    Args:
        folder: where frames, predictions and results are kept.
        peers: Python of the peers' environment; None leaves them out.
        quick: tiny data.
    """

    def __init__(self, folder: Path, *, peers: Path | None, quick: bool) -> None:
        self.folder, self.peers, self.quick = folder, peers, quick
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, script: str, python: str, *words: str) -> str:
        """Standard output of one of the scripts, with one thread."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
        done = subprocess.run(
            [python, "-W", "ignore", str(HERE / script), *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            raise RuntimeError(f"{script} {' '.join(words)} failed:\n{done.stderr[-1500:]}")
        return done.stdout

    def frames(self, molecule: str) -> Path:
        """The file of frames, made if it is missing."""
        path = self.folder / f"{molecule}.npz"
        if not path.exists():
            count = "40" if self.quick else str(FRAMES)
            self.run("molecules_frames.py", str(self.peers), molecule, str(path), "--frames", count)
        return path

    def find(self, part: Part) -> Row | None:
        """What is known of a part; None if it was not done."""
        path = self.folder / f"{part.stem}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def do(self, part: Part) -> Row:
        """Train, unless that is done; then the errors on the test frames."""
        found = self.find(part)
        if found is not None:
            return found
        frames, out = self.frames(part.molecule), self.folder / f"{part.stem}.npz"
        words = [part.contestant, str(frames), str(out), "--seed", str(part.seed)]
        words += ["--budget", str(part.budget), "--rate", str(part.rate)]
        python = sys.executable if part.contestant == "ours" else str(self.peers)
        told = self.run("molecules_training.py", python, *words, *(["--quick"] if self.quick else []))
        row = json.loads(told.strip().splitlines()[-1]) | errors(frames, out) | vars(part)
        write_atomically(self.folder / f"{part.stem}.json", json.dumps(row).encode())
        print(f"{part.stem}: {row['force_mae_mev']:.2f} meV/Å, {row['energy_mae_mev']:.2f} meV", flush=True)
        return row

    def best_rate(self, contestant: str, molecule: str, budget: float) -> float | None:
        """That of the best validation of seed 0; None while a rate was not tried."""
        tried = {
            rate: self.find(Part(contestant, molecule, SEEDS[0], budget, rate)) for rate in RATES[contestant]
        }
        if any(row is None for row in tried.values()):
            return None
        return min(tried, key=lambda rate: tried[rate]["validation"])

    def parts(
        self, contestant: str, molecule: str, seed: int, budget: float, rates: tuple[float, ...] = ()
    ) -> list[Row]:
        """All rates of seed 0, or those given; the best rate of other seeds."""
        rates = rates or RATES[contestant]
        if seed != SEEDS[0]:
            rate = self.best_rate(contestant, molecule, budget)
            if rate is None:
                self.parts(contestant, molecule, SEEDS[0], budget)
                rate = self.best_rate(contestant, molecule, budget)
            assert rate is not None
            rates = (rate,)
        return [self.do(Part(contestant, molecule, seed, budget, rate)) for rate in rates]

    def rows(self) -> list[Row]:
        """Every part that was done."""
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*s.json"))]
        return [{key: value for key, value in row.items() if key != "history"} for row in found]


def errors(frames: Path, predictions: Path) -> Row:
    """Mean absolute errors on the test frames, in meV and meV/Å."""
    with np.load(frames) as true, np.load(predictions) as made:
        chosen = made["test"]
        energy, force = made["energies"] - true["E"][chosen], made["forces"] - true["F"][chosen]
    return {
        "energy_mae_mev": 1e3 * float(np.abs(energy).mean()),
        "force_mae_mev": 1e3 * float(np.abs(force).mean()),
        "test_frames": len(chosen),
    }


def chosen_rows(rows: list[Row]) -> list[Row]:
    """Those of the rates that validation chose, where both were tried."""
    kept = []
    for row in rows:
        same = ("contestant", "molecule", "budget")
        first = [r for r in rows if r["seed"] == SEEDS[0] and all(r[key] == row[key] for key in same)]
        best = min(first, key=lambda r: r["validation"], default=None)
        if best is not None and best["rate"] == row["rate"]:
            kept.append(row)
    return kept


def figures(rows: list[Row]) -> dict[str, float]:
    """Mean force errors over the seeds in meV/Å, and ours over each peer's, ``_5min`` for the shorter budget."""
    found: dict[tuple[str, str, float], list[float]] = {}
    for row in chosen_rows(rows):
        key = (row["contestant"], row["molecule"], row["budget"])
        found.setdefault(key, []).append(row["force_mae_mev"])
    means = {key: statistics.mean(values) for key, values in found.items()}
    out: dict[str, float] = {}
    for (contestant, molecule, budget), mean in means.items():
        suffix = "" if budget == max(BUDGETS) else f"_{budget / 60:g}min"
        if contestant == "ours":
            out[f"force_mae_{molecule}{suffix}"] = mean
            continue
        out[f"{contestant}_force_mae_{molecule}{suffix}"] = mean
        ours = means.get(("ours", molecule, budget))
        if ours is not None:
            out[f"force_over_{contestant.replace('painn64', 'painn')}_{molecule}{suffix}"] = ours / mean
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, help="Python that has schnetpack, mace and tblite")
    parser.add_argument("--keep", type=Path, help="folder of what is done")
    parser.add_argument("--only", nargs=4, metavar=("CONTESTANT", "MOLECULE", "SEED", "BUDGET"))
    parser.add_argument("--rate", type=float, help="with --only and seed 0: this learning rate only")
    parser.add_argument("--record", action="store_true", help="record what is there, train nothing")
    parser.add_argument("--quick", action="store_true", help="seconds, forty frames; nothing is recorded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.keep or Path(folder), peers=options.peers, quick=options.quick)
        if options.only:
            contestant, molecule, seed, budget = options.only
            rates = () if options.rate is None else (options.rate,)
            bench.parts(contestant, molecule, int(seed), float(budget), rates)
            return
        if not options.record:
            contestants = RATES if options.peers else ("ours",)
            molecules, budgets = (("ethanol",), (2.0,)) if options.quick else (MOLECULES, BUDGETS)
            for budget in budgets:
                for molecule in molecules:
                    for seed in SEEDS[:1] if options.quick else SEEDS:
                        for contestant in contestants:
                            bench.parts(contestant, molecule, seed, budget)
        rows = bench.rows()
    found = figures(rows)
    for name, value in found.items():
        print(f"{name:48s} {value:.3g}")
    if not options.quick:
        chosen = chosen_rows(rows)
        details = {"runs": [row | {"chosen": row in chosen} for row in rows]}
        print(record("molecules_accuracy", found, threads=1, details=details))


if __name__ == "__main__":
    main()
