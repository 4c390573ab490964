"""What does a step cost beyond the bare force, what accuracy does a force buy, and where do others win?

Costs: contestants in turn, each in a process of its own with one thread, several rounds; figures are medians over
the rounds. Overhead is the process time of a step minus its forces times the bare force of the same process.

    own                  our leapfrog loop, also with every state saved, and called through torchdiffeq
    own_compiled         blocks of eight compiled steps beside the eager loop (needs a C++ compiler)
    torchdiffeq          midpoint, rk4, dopri5 with its step pinned
    torchode             dopri5, tsit5 with a fixed step                                 (--rivals)
    diffrax              LeapfrogMidpoint, SemiImplicitEuler, Tsit5, compiled            (--rivals)
    jax_md               velocity Verlet (simulate.nve), compiled                        (--rivals)

Accuracy and conservation (integrator_accuracy.py) do not depend on the machine.

    make bench-env
    python benchmarks/integrators.py --rivals .venv-bench/bin/python [--rounds 5]
    python benchmarks/integrators.py --again own                # some contestants only, the rest of the record stays
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import RESULTS, record

from lie_sim.experiments.springs import springs_model

HERE = Path(__file__).parent
OWN, RIVALS = ("own", "own_compiled", "torchdiffeq"), ("torchode", "diffrax", "jax_md")
BATCHES = (1, 64, 1024)
XLA_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
FIGURES = {
    "leapfrog": "own",
    "leapfrog, every state saved": "own_saved",
    "leapfrog through torchdiffeq": "torchdiffeq",
}
"""Names of our contestants in the figures; others are CONTESTANT_METHOD."""
Rows = list[dict[str, Any]]


def step_rows(contestant: str, python: str, options: argparse.Namespace) -> Rows | str:
    """Measured rows of one process, or why there are none."""
    problems, batches = ["null", "springs", "lietransformer"], list(map(str, options.batches))
    if contestant in ("diffrax", "jax_md"):
        problems = problems[:2]  # the learned force is PyTorch's
    if contestant == "own_compiled":
        problems, batches = problems[1:], batches[:1]
    command = [python, str(HERE / "integrator_steps.py"), contestant, "--problems", *problems]
    command += ["--batches", *batches, "--seconds", str(options.seconds)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE.parent),
        "XLA_FLAGS": XLA_ONE_THREAD,
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [*command, "--model", json.dumps(dataclasses.asdict(springs_model()))],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        return f"failed:\n{done.stderr[-1500:]}"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    rows: Rows | str = found.get("rows", f"not installed for {python}: {found.get('missing')}")
    return rows


def step_costs(options: argparse.Namespace) -> Rows:
    """Medians over the rounds: microseconds of a step, of a force, and the overhead."""
    contestants = {name: sys.executable for name in OWN if name not in options.skip}
    if options.rivals:
        contestants |= {name: str(options.rivals) for name in RIVALS if name not in options.skip}
    else:
        print("skipped: torchode, diffrax, jax_md (make bench-env, then --rivals .venv-bench/bin/python)")
    found: dict[tuple[Any, ...], Rows] = {}
    for number in range(options.rounds):
        for contestant, python in list(contestants.items()):
            rows = step_rows(contestant, python, options)
            if isinstance(rows, str):
                print(f"skipped: {contestant} {rows}", flush=True)
                del contestants[contestant]
                continue
            print(f"round {number + 1}: {contestant} done", flush=True)
            for row in rows:
                key = (contestant, row["method"], row["problem"], row["batch"], row["forces"])
                found.setdefault(key, []).append(row)
    names = ("contestant", "method", "problem", "batch", "forces")
    return [
        dict(zip(names, key, strict=True))
        | {
            "us": statistics.median(row["us"] for row in rows),
            "force_us": statistics.median(row["force_us"] for row in rows),
            "overhead_us": statistics.median(row["us"] - row["forces"] * row["force_us"] for row in rows),
            "overhead_us_rounds": [row["us"] - row["forces"] * row["force_us"] for row in rows],
        }
        for key, rows in found.items()
    ]


def step_figures(rows: Rows) -> dict[str, float]:
    """The overheads on springs at every batch and of the null right-hand side; the gain of compiled blocks."""
    figures, step = {}, {}
    for row in rows:
        name = FIGURES.get(row["method"], f"{row['contestant']}_{row['method']}")
        step[row["contestant"], row["method"], row["problem"], row["batch"]] = row["us"]
        if row["problem"] == "lietransformer" or row["contestant"] == "own_compiled":
            continue
        null = "_null" if row["problem"] == "null" else ""
        batch = "" if row["batch"] == 1 else f"_{row['batch']}"
        figures[f"overhead_{name}{null}{batch}_us"] = row["overhead_us"]
    for problem, suffix in (("springs", ""), ("lietransformer", "_lietransformer")):
        eager, compiled = (
            step.get(("own_compiled", method, problem, 1)) for method in ("leapfrog", "leapfrog, compiled")
        )
        if eager and compiled:
            figures[f"compiled_speedup{suffix}"] = eager / compiled
    return figures


def accuracy_figures(found: dict[str, Rows]) -> dict[str, float]:
    figures = {f"energy_{row['method'].split()[0]}": row["max_error"] for row in found["energies"]}
    figures["energy_trend_blanes_moan6"] = next(
        abs(row["trend"]) for row in found["energies"] if row["method"] == "blanes_moan6"
    )
    for row in found["long_energy"]:
        name = row["method"]
        figures[f"energy_{name}_1e6"] = row["max_error"]
        figures[f"energy_trend_{name}_1e6"] = abs(row["slope_over_run"])
        figures[f"energy_trend_{name}_1e6_over_its_error"] = abs(
            row["slope_over_run"] / row["slope_half_width_95"]
        )
    figures["lie_group_defect"] = max(row["defect"] for row in found["group_defects"])
    return figures


def show(rows: Rows) -> None:
    print(
        f"{'contestant':13} {'method':29} {'problem':15} {'batch':>5} {'us/step':>9} {'forces':>6} {'overhead':>9}"
    )
    for row in rows:
        print(
            f"{row['contestant']:13} {row['method']:29} {row['problem']:15} {row['batch']:5d} "
            f"{row['us']:9.3g} {row['forces']:6.3g} {row['overhead_us']:9.3g}"
        )


def versions(python: Path | None) -> dict[str, str]:
    """Of the rivals."""
    if python is None:
        return {}
    names = ("torch", "torchdiffeq", "torchode", "jax", "diffrax", "jax-md")
    code = (
        "import importlib.metadata as m, json\n"
        f"have = {{d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}}\n"
        f"print(json.dumps({{n: have[n] for n in {names!r} if n in have}}))"
    )
    found: dict[str, str] = json.loads(subprocess.check_output([str(python), "-c", code], text=True))
    return found


def again(rows: Rows, options: argparse.Namespace) -> None:
    """Put the rows of some contestants in place of those on record."""
    recorded = json.loads((RESULTS / "integrators.json").read_text(encoding="utf-8"))
    details = recorded["details"]
    details["steps"] = [row for row in details["steps"] if row["contestant"] not in options.again] + rows
    details["steps"].sort(key=lambda row: (*OWN, *RIVALS).index(row["contestant"]))
    details["again"] = sorted({*details.get("again", ()), *options.again})
    show(rows)
    figures = recorded["figures"] | step_figures(details["steps"])
    print(record("integrators", figures, threads=1, details=details, earlier=recorded["command"]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rivals", type=Path, help="Python that has torchode, diffrax and jax-md")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", nargs="+", default=[], help="contestants to leave out")
    parser.add_argument(
        "--again", nargs="+", help="measure these contestants again, keep the record of all else"
    )
    parser.add_argument("--quick", action="store_true", help="tiny settings; nothing is recorded")
    options = parser.parse_args()
    options.seconds, options.batches = (0.002, (1,)) if options.quick else (0.2, BATCHES)
    if options.quick:
        options.rounds = 1
    if options.again:
        options.skip = [name for name in (*OWN, *RIVALS) if name not in options.again]
        again(step_costs(options), options)
        return
    from integrator_accuracy import accuracy

    rows = step_costs(options)
    show(rows)
    found = accuracy(quick=options.quick)
    figures = step_figures(rows) | accuracy_figures(found)
    for key, value in figures.items():
        print(f"{key:52s} {value:.3g}")
    if not options.quick:
        details = {"steps": rows, "rounds": options.rounds, "rivals": versions(options.rivals)} | found
        print(record("integrators", figures, threads=1, details=details))


if __name__ == "__main__":
    main()
