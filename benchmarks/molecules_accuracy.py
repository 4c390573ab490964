"""At equal CPU time, whose forces are best: our model's, SchNetPack's PaiNN's, or MACE's?

Frames of ethanol, malonaldehyde and aspirin with GFN2-xTB energies and forces (molecules_frames.py): 1,000 to train,
200 to validate, 2,000 to test. Everyone is trained for the same CPU time on one thread, three seeds, each with its own
split and weights (molecules_training.py says what is the same for all).

    ours            the recipe of ``lie-sim train molecules``, the same for every molecule: moment attention, Muon
    painn64         SchNetPack's PaiNN with 64 features, AdamW; the better of two learning rates
    mace            MACE 64x0e, AdamW with amsgrad; the better of two learning rates
    painn64_muon    PaiNN with our optimiser: what the optimiser does and what the model does
    mace_muon       MACE with our optimiser

Rates are chosen by the validation of seed 0, for every molecule and budget; the rows with our optimiser are for ethanol
and the shorter budget. The peers hand over their predictions; errors of all come from the same lines here. A training
is a part; the longer budget takes days of one core.

    make bench-env-molecules
    PEERS=.venv-bench-molecules/bin/python
    python benchmarks/molecules_accuracy.py --peers $PEERS --keep DIR                       # what is missing in DIR
    python benchmarks/molecules_accuracy.py --peers $PEERS --keep DIR --only '300s-aspirin-*'      # some parts
    python benchmarks/molecules_accuracy.py --keep DIR --restore --record                   # writes what is there
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from molecules_frames import FRAMES, MOLECULES
from parts import kept_parts, measured, parser_of_parts
from record import record

HERE = Path(__file__).parent
RATES: dict[str, tuple[float, ...]] = {
    "ours": (0.0,),
    "painn64": (1e-3, 2e-3),
    "mace": (5e-3, 1e-2),
    "painn64_muon": (5e-3, 1e-2),
    "mace_muon": (5e-3, 1e-2),
}
"""Learning rates that are tried; 0 is that of the recipe."""
BUDGETS, SEEDS, QUICK = (300.0, 1800.0), (0, 1, 2), 2.0
"""CPU seconds; with the last one, on forty frames, nothing is worth recording."""
DISTURBED = 0.85
"""Share of the steps per CPU second of an idle machine below which other work took part in the measurement."""
BEST = "best"
"""In place of the rate in the name of a part: the one that seed 0 was best with."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One training; rate is a number, or ``BEST``."""

    budget: float
    molecule: str
    contestant: str
    rate: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.budget:g}s-{self.molecule}-{self.contestant}-{self.rate}-{self.seed}"

    @classmethod
    def of(cls, name: str) -> Part:
        """The part of that name."""
        budget, molecule, contestant, rate, seed = name.split("-")
        return cls(float(budget.removesuffix("s")), molecule, contestant, rate, int(seed))


def parts(*, quick: bool = False) -> Iterator[Part]:
    """All parts: the shorter budget first, seed by seed, so that an unfinished benchmark is balanced."""
    if quick:
        yield Part(QUICK, "ethanol", "ours", "0", SEEDS[0])
        return
    for budget in BUDGETS:
        for seed in SEEDS:
            for molecule in MOLECULES:
                for contestant, rates in RATES.items():
                    if contestant.endswith("_muon") and (molecule, budget) != ("ethanol", min(BUDGETS)):
                        continue
                    chosen = len(rates) > 1 and seed != SEEDS[0]
                    for rate in [BEST] if chosen else [f"{rate:g}" for rate in rates]:
                        yield Part(budget, molecule, contestant, rate, seed)


def best_rate(part: Part, keep: Path) -> float:
    """That of the best validation of seed 0.

    Raises:
        SystemExit: seed 0 was not trained with every rate yet.
    """
    tried = [
        Part(part.budget, part.molecule, part.contestant, f"{rate:g}", SEEDS[0]).name
        for rate in RATES[part.contestant]
    ]
    rows = kept_parts(keep, tried)
    missing = [name for name in tried if name not in rows]
    if missing:
        raise SystemExit(f"{part.name} takes the better rate of {' and '.join(missing)}: do these first")
    return float(min(rows.values(), key=lambda row: float(row["validation"]))["rate"])


def output_of(script: str, python: str, *words: str) -> str:
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


def run(name: str, options: argparse.Namespace) -> Row:
    """Train, then the errors on the test frames.

    Raises:
        SystemExit: a peer, or frames that are not there yet, without ``--peers``.
    """
    part, frames = Part.of(name), options.keep / f"{Part.of(name).molecule}.npz"
    python = sys.executable if part.contestant == "ours" else str(options.peers or "")
    if not python or not (frames.exists() or options.peers):
        raise SystemExit(
            f"{name} needs --peers PYTHON, which has SchNetPack, MACE and tblite: make bench-env-molecules"
        )
    if not frames.exists():
        output_of(
            "molecules_frames.py", str(options.peers), part.molecule, str(frames), "--frames", str(FRAMES)
        )
    rate = best_rate(part, options.keep) if part.rate == BEST else float(part.rate)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.npz"
        words = [part.contestant, str(frames), str(out), "--seed", str(part.seed), "--rate", str(rate)]
        words += ["--budget", str(part.budget), *(["--quick"] if part.budget == QUICK else [])]
        told = json.loads(output_of("molecules_training.py", python, *words).strip().splitlines()[-1])
        del told["history"]
        return told | errors(frames, out) | vars(part) | {"rate": rate}


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


def pace(rows: dict[str, Row]) -> dict[str, float]:
    """Steps per CPU second of each part, over the most that any part of its network and molecule took.

    Beside other work a CPU second is worth less: below ``DISTURBED`` the machine was busy with something else.
    """

    def of(row: Row) -> tuple[str, str]:
        return row["contestant"].removesuffix("_muon"), row["molecule"]

    most: dict[tuple[str, str], float] = {}
    for row in rows.values():
        most[of(row)] = max(most.get(of(row), 0.0), row["steps"] / row["cpu_s"])
    return {name: row["steps"] / row["cpu_s"] / most[of(row)] for name, row in rows.items()}


def main(arguments: list[str] | None = None) -> None:
    """Do what is missing, each part in a process of its own; record if asked to."""
    parser = parser_of_parts(__doc__)
    parser.add_argument("--peers", type=Path, help="Python that has schnetpack, mace and tblite")
    parser.add_argument(
        "--quick", action="store_true", help="seconds, forty frames, ours; for --keep with ethanol.npz"
    )
    options = parser.parse_args(arguments)
    if options.quick and options.record:
        parser.error("--quick measures nothing that is worth recording")
    names = [part.name for part in parts(quick=options.quick)]
    kept = measured(__file__, names, run, options, places=["peers", "quick"])
    if kept is None:
        return
    rows = list(kept.values())
    found = figures(rows)
    for name, value in found.items():
        print(f"{name:48s} {value:.3g}")
    paces = pace(kept)
    for name, share in paces.items():
        if share < DISTURBED:
            print(
                f"{name}: {share:.0%} of the steps that an idle machine takes; remove the part and do it again"
            )
    if options.record:
        chosen = chosen_rows(rows)
        details = {
            "parts": {
                name: row | {"chosen": row in chosen, "pace": paces[name]} for name, row in kept.items()
            }
        }
        print(record("molecules_accuracy", found, threads=1, details=details, parts=rows))


if __name__ == "__main__":
    main()
