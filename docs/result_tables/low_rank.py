"""Tables of attention through landmarks: cost by number of bodies, error of the forces."""

from __future__ import annotations

import statistics

from result_tables.cells import NONE, Blocks, Result, number, source, table

SIZES = (500, 1000, 2000, 4000, 8000, 16000)
ATTENTIONS = {"full": "all pairs", "local": "within the cutoff", "induced": "and 16 landmarks"}


def cost(result: Result) -> str:
    """CPU seconds and memory of the forces by number of bodies."""
    parts, figures = result["details"], result["figures"]
    rows = []
    for attention, label in ATTENTIONS.items():
        prefix = "" if attention == "induced" else f"{attention}_"
        for key, unit, name in (("cpu_s", "CPU s", "time"), ("gib", "GiB", "memory")):
            found = [parts.get(f"cost-{attention}-{size}", {}).get(key) for size in SIZES]
            slope = figures.get(f"{prefix}exponent_{name}")
            rows.append([label, unit, *map(number, found), NONE if slope is None else f"{slope:.2f}"])
    return table(["attention", "", *(f"N = {size:,}" for size in SIZES), "exponent"], rows) + source(result)


def error(result: Result) -> str:
    """Error of the forces in percent of their spread."""
    parts = result["details"]
    names = {"full-0": "all pairs", "local-0": "within the cutoff"}
    names |= {f"induced-{k}": f"and {k} landmark{'s' if k > 1 else ''}" for k in (1, 4, 16)}
    rows = []
    for name, label in names.items():
        even, clumps = _seeds(parts, f"learn-{name}"), _seeds(parts, f"clumps-{name}")
        seconds = f"{statistics.fmean(part['cpu_s'] for part in even):.0f}" if even else NONE
        rows.append([label, _percent(even), _percent(clumps), seconds])
    return table(["attention", "even box, %", "five clumps, %", "CPU s of learning"], rows) + source(result)


def _seeds(parts: dict[str, dict[str, float]], name: str) -> list[dict[str, float]]:
    return [part for key, part in parts.items() if key.rpartition("-")[0] == name]


def _percent(runs: list[dict[str, float]]) -> str:
    """Mean and standard deviation over the seeds."""
    errors = [100 * run["error"] for run in runs]
    if not errors:
        return NONE
    spread = f" ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else ""
    return f"{statistics.fmean(errors):.1f}{spread} ({len(errors)})"


BLOCKS: Blocks = {"low_rank_cost": ("low_rank", cost), "low_rank_error": ("low_rank", error)}
