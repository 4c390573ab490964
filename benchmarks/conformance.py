"""Which calculators keep the contract of ASE: ours and the peers through the same public test class.

``lie_sim.testing.CalculatorConformance`` holds forces and stress against finite differences, energies against
rotations, translations, permutations, supercells and distances, and asks for what workflows need: one calculation for
forces and energy, copies, errors for what is impossible. Every calculator is run in a process of its own, untrained
networks in float64, at the tolerances of the class. Two cannot be that exact, and have wider tolerances: SevenNet-0
computes in float32, GFN2-xTB iterates to self-consistency.

    make bench-env-molecules
    ENV=.venv-bench-molecules
    python benchmarks/conformance.py --peers $ENV/bin/python --nequip $ENV-nequip/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from record import record

from lie_sim.files import write_atomically
from lie_sim.testing import CalculatorConformance

HERE = Path(__file__).parent
ELEMENTS = (1, 6, 8, 13)
CONTESTANTS = ("ours", "mace", "painn", "nequip", "sevennet0", "gfn2")
OF_NEQUIP = ("nequip", "sevennet0")
SINGLE = {
    "force_step": 1e-2,
    "force_tolerance": 1e-2,
    "stress_tolerance": 1e-2,
    "symmetry_tolerance": 1e-4,
    "extensive_tolerance": 1e-4,
    "continuity_tolerance": 1e-3,
}
ITERATED = {
    "force_tolerance": 1e-4,
    "stress_tolerance": 1e-4,
    "symmetry_tolerance": 1e-6,
    "extensive_tolerance": 1e-4,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ours": {"cutoff": 6.0},
    "mace": {"cutoff": 5.0},
    "painn": {"cutoff": 5.0},
    "nequip": {"cutoff": 5.0},
    "sevennet0": {"cutoff": 5.0, "unknown_element": "Og", "reflections": False} | SINGLE,
    "gfn2": {"unknown_element": "Og"} | ITERATED,
}
"""Beside the defaults of the class. SevenNet-0 and GFN2-xTB know xenon; SevenNet-0 has no parity by design."""
Row = dict[str, Any]


def make_calculator(name: str) -> Any:
    """A calculator that knows H, C, O and Al."""
    torch.manual_seed(0)
    if name != "ours":
        from molecule_peers import PEERS

        return PEERS[name](ELEMENTS, dtype=torch.float64, stress=True).calculator()
    from lie_sim.calculators import LieTransformerCalculator
    from lie_sim.models import AtomicPotential

    return LieTransformerCalculator(AtomicPotential.default(elements=ELEMENTS), dtype="float64")


def conformance(name: str) -> Row:
    """Every test of the class: the errors it compared with tolerances, and what failed."""
    errors: dict[str, float] = {}

    class Case(CalculatorConformance):
        def make_calculator(self) -> Any:
            return make_calculator(name)

        def _within(self, error: float, tolerance: float, what: str) -> None:
            errors[what] = max(error, errors.get(what, 0.0))
            super()._within(error, tolerance, what)

    for key, value in SETTINGS[name].items():
        setattr(Case, key, value)
    failed: dict[str, str] = {}
    tests = [test for test in dir(Case) if test.startswith("test_")]
    for test in tests:
        try:
            getattr(Case(), test)()
        except Exception as error:
            failed[test] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
    return {"calculator": name, "tests": len(tests), "failed": failed, "errors": errors}


def in_own_process(name: str, python: str, keep: Path | None) -> Row | str:
    """The row of a calculator, or why there is none; what is kept is not done again."""
    kept = None if keep is None else keep / f"conformance-{name}.json"
    if kept is not None and kept.exists():
        row: Row = json.loads(kept.read_text(encoding="utf-8"))
        return row
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [python, "-W", "ignore", str(HERE / "conformance.py"), "--one", name],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1][:300]
    row = json.loads(done.stdout.strip().splitlines()[-1])
    if kept is not None:
        write_atomically(kept, json.dumps(row).encode())
    return row


def figures(rows: list[Row]) -> dict[str, float]:
    """Share of the tests that each calculator passed, and its errors of forces, stress and symmetry."""
    out: dict[str, float] = {}
    for row in rows:
        name, errors = row["calculator"], row["errors"]
        out[f"{name}_passed"] = row["tests"] - len(row["failed"])
        out[f"{name}_tests"] = row["tests"]
        forces = [value for what, value in errors.items() if what.startswith("forces of")]
        if forces:
            out[f"{name}_force_error"] = max(forces)
        for what, key in (("stress", "stress_error"), ("energy turned", "symmetry_error")):
            if what in errors:
                out[f"{name}_{key}"] = errors[what]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, help="Python that has schnetpack, mace and tblite")
    parser.add_argument("--nequip", type=Path, help="Python that has nequip and sevenn")
    parser.add_argument("--keep", type=Path, help="folder of what is done")
    parser.add_argument("--quick", action="store_true", help="ours only; nothing is recorded")
    parser.add_argument("--one", choices=CONTESTANTS, help="this calculator, in this process")
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(1)
        print(json.dumps(conformance(options.one)))
        return
    rows = []
    for name in CONTESTANTS[:1] if options.quick else CONTESTANTS:
        python = options.nequip if name in OF_NEQUIP else options.peers
        if name == "ours":
            python = sys.executable
        row = (
            in_own_process(name, str(python), options.keep)
            if python
            else "no environment: make bench-env-molecules"
        )
        if isinstance(row, str):
            print(f"skipped: {name}: {row}")
            continue
        rows.append(row)
        print(f"{name}: {row['tests'] - len(row['failed'])} of {row['tests']}; {json.dumps(row['failed'])}")
    if not options.quick:
        print(record("conformance", figures(rows), threads=1, details={"rows": rows}))


if __name__ == "__main__":
    main()
