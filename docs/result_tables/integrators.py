"""Integrators and gradients through them: cost, accuracy, conservation, memory."""

from __future__ import annotations

from collections.abc import Callable

from result_tables.cells import NONE, Blocks, Result, number, source, table

CONTESTANTS = {
    "own": "**ours**",
    "own_compiled": "**ours**",
    "torchdiffeq": "torchdiffeq",
    "torchode": "torchode",
    "diffrax": "diffrax (compiled)",
    "jax_md": "jax-md (compiled)",
}


def cost_cell(row: Result | None) -> str:
    """Microseconds of a step, and how many of them are overhead."""
    return NONE if row is None else f"{number(row['us'])} ({number(row['overhead_us'])})"


def ratio_cell(row: Result | None) -> str:
    """Milliseconds of a step, and their ratio to its bare forces: overhead drowns in the noise of a long force."""
    if row is None:
        return NONE
    return f"{number(row['us'] / 1000)} ({number(row['us'] / (row['forces'] * row['force_us']))})"


def integrator_steps(result: Result) -> str:
    """Cost of a step by contestant, on springs and with a learned force."""
    rows = result["details"]["steps"]
    found = {(row["contestant"], row["method"], row["problem"], row["batch"]): row for row in rows}
    batches = sorted({row["batch"] for row in rows})
    labels = dict.fromkeys(
        (row["contestant"], row["method"])
        for row in rows
        if (row["contestant"], row["method"]) != ("own_compiled", "leapfrog")
    )

    def lines(problem: str, cell: Callable[[Result | None], str], *, null: bool) -> list[list[str]]:
        out = []
        for contestant, method in labels:
            cells = [found.get((contestant, method, problem, batch)) for batch in batches]
            if any(cells):
                forces = next(row["forces"] for row in cells if row)
                first = [f"{CONTESTANTS[contestant]}: {method}", number(forces)]
                nothing = found.get((contestant, method, "null", 1))
                first += [number(nothing["us"] if nothing else None)] if null else []
                out.append([*first, *map(cell, cells)])
        return out

    columns = [f"batch {batch:,}" for batch in batches]
    versions = ", ".join(f"{name} {version}" for name, version in result["details"]["rivals"].items())
    return (
        "Springs, force in closed form; µs per step, overhead in brackets:\n\n"
        + table(["", "forces", "empty right-hand side", *columns], lines("springs", cost_cell, null=True))
        + "\nForces of a LieTransformer; ms per step, in brackets over the time of its bare forces:\n\n"
        + table(["", "forces", *columns], lines("lietransformer", ratio_cell, null=False))
        + f"\nMedians of {result['details']['rounds']} rounds.{f' Rivals: {versions}.' if versions else ''}\n"
        + source(result)
    )


def forces_for(rows: list[Result], error: float) -> float | None:
    """Forces of the cheapest measured run that is at least so accurate."""
    enough = [row["forces"] for row in rows if row["error"] is not None and row["error"] <= error]
    return min(enough, default=None)


def integrator_work(result: Result) -> str:
    """Forces that buy six and ten digits, by method and system; the fewest in bold."""
    rows = result["details"]["work_precision"]
    systems, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ("system", "method"))
    columns = []
    for error in (1e-6, 1e-10):
        for system in systems:
            cells = [
                forces_for([row for row in rows if (row["system"], row["method"]) == (system, method)], error)
                for method in methods
            ]
            least = min((cell for cell in cells if cell is not None), default=None)
            columns.append([f"**{number(cell)}**" if cell == least else number(cell) for cell in cells])
    header = ["", *(f"{system}, {error}" for error in ("1e-6", "1e-10") for system in systems)]
    lines = [[method, *cells] for method, *cells in zip(methods, *columns, strict=True)]
    return table(header, lines) + source(result)


def integrator_energy(result: Result) -> str:
    """Energy errors on springs, over a million steps, and the defect of rotations."""
    details = result["details"]
    energy = [
        [row["method"], *(number(row[key]) for key in ("h", "max_error_first_tenth", "max_error", "trend"))]
        for row in details["energies"]
    ]
    long = [
        [
            row["method"],
            f"{row['steps']:,}",
            *(number(row[key]) for key in ("h", "max_error_first_tenth", "max_error", "slope_over_run")),
            f"± {number(row['slope_half_width_95'])}",
        ]
        for row in details["long_energy"]
    ]
    rigid = [
        [row["method"], f"{row['steps']:,}", number(row["defect"]), number(row["energy_error"])]
        for row in details["group_defects"]
    ]
    largest = ["first tenth of the run", "whole run"]
    return (
        "Relative energy error on springs, t = 2,000, about 10⁵ forces each:\n\n"
        + table(["method", "h", *largest, "second half − first half"], energy)
        + "\nThe same over a million steps; change of a fitted line over the run, 95 % interval:\n\n"
        + table(["method", "steps", "h", *largest, "trend", "interval"], long)
        + "\nRotation matrices of free rigid bodies, h = 0.02:\n\n"
        + table(["method", "steps", "largest entry of \\|RᵀR − 1\\|", "relative energy error"], rigid)
        + source(result)
    )


def reversible(result: Result) -> str:
    """Memory, time and gradient error by adjoint."""
    figures, runs = result["figures"], result["details"]["runs"]
    counts = sorted({run["steps"] for run in runs})
    names = {
        "autograd": "autograd",
        "checkpoint": "checkpoint",
        "reversible": "**reversible**",
        "fixed_point": "**reversible, fixed point**",
        "odeint_adjoint": "torchdiffeq `odeint_adjoint`, rk4",
    }
    rows = []
    for adjoint, name in names.items():
        extra = {run["steps"]: run["extra_mib"] for run in runs if run["adjoint"] == adjoint}
        part = "" if adjoint == "reversible" else f"_{adjoint}"
        ratio = 1.0 if adjoint == "autograd" else figures.get(f"time_ratio{part}")
        errors = [figures.get(f"grad_error{part}_{steps}") for steps in ("100", "1e4")]
        memory = [number(extra.get(steps)) for steps in counts]
        rows.append([name, *memory, number(ratio), *map(number, errors)])
    header = ["", *(f"MiB, {steps:,}" for steps in counts), "time, 100", "error, 100", "error, 10,000"]
    return table(header, rows) + source(result)


BLOCKS: Blocks = {
    "integrator_steps": ("integrators", integrator_steps),
    "integrator_work": ("integrators", integrator_work),
    "integrator_energy": ("integrators", integrator_energy),
    "reversible": ("reversible", reversible),
}
