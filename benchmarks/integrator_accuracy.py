"""What a force evaluation buys, and what is conserved: the part of integrators.py that does not depend on time.

work_precision      error of the positions at the end against force evaluations, every method and system
energies            relative energy error on springs over t = 2000, the step lengths of equal cost (about 1e5 forces)
long_energy         leapfrog and yoshida4 over a million steps: largest error, and slope with 95 % interval
group_defects       |RᵀR − 1| of the methods on SO(3) after a hundred thousand steps

Every error is that of one trajectory from a fixed start.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torchdiffeq
from integrator_problems import WORK_PRECISION, Problem, springs
from torch import Tensor

from lie_sim.integrators import advance, get_method, integrate, splitting_methods
from lie_sim.systems import FreeRigidBody

Rows = list[dict[str, Any]]
ENERGY_STEPS = {
    "leapfrog": 0.02,
    "yoshida4": 0.06,
    "pefrl": 0.08,
    "blanes_moan4": 0.12,
    "yoshida6": 0.14,
    "kahan_li6": 0.18,
    "blanes_moan6": 0.2,
    "kahan_li8": 0.34,
}
LONG_STEPS = {"leapfrog": 0.02, "yoshida4": 0.02}
RIGID = ("rkmk4", "commutator_free4", "crouch_grossman3", "rigid_body_splitting")
BLOCKS, QUANTILE = 50, 2.01
"""Blocks whose means are taken as independent, and the 97.5 % quantile of Student's t for them."""


def position_error(problem: Problem, q: Tensor) -> float:
    error = float((q - problem.exact).abs().max())
    return error if math.isfinite(error) else math.inf


def splitting_row(problem: Problem, name: str, forces: int) -> tuple[float, int]:
    method = get_method(name)
    steps = max(1, forces // method.forces_per_step)
    before = problem.dynamics.calls
    q, _, _ = advance(
        problem.dynamics,
        problem.q,
        problem.p,
        step_size=problem.duration / steps,
        num_steps=steps,
        method=method,
    )
    forces = problem.dynamics.calls - before
    return position_error(problem, q), forces


def torchdiffeq_row(problem: Problem, method: str, **keywords: Any) -> tuple[float, int]:
    before = problem.dynamics.calls
    t = torch.tensor([0.0, problem.duration], dtype=torch.float64)
    q, _ = torchdiffeq.odeint(
        problem.dynamics.vector_field, (problem.q, problem.p), t, method=method, **keywords
    )
    forces = problem.dynamics.calls - before
    return position_error(problem, q[-1]), forces


def work_precision(max_forces: int, smallest_rtol: int) -> Rows:
    """Rows (system, method, forces, error); budgets double up to ``max_forces``, tolerances go down to 10^−n."""
    budgets = [2**k * 100 for k in range(20) if 2**k * 100 <= max_forces]
    rtols = [10.0**-k for k in range(3, smallest_rtol + 1)]
    rows = []
    for system, make in WORK_PRECISION.items():
        problem = make()
        found: list[tuple[str, tuple[float, int]]] = []
        for method in splitting_methods():
            found += [(method.name, splitting_row(problem, method.name, n)) for n in budgets]
        for n in budgets:
            step = {"step_size": problem.duration / max(1, n // 4)}
            found.append(("rk4 (torchdiffeq)", torchdiffeq_row(problem, "rk4", options=step)))
        for rtol in rtols:
            if rtol >= 1e-12:
                found.append(
                    ("dopri5 (torchdiffeq)", torchdiffeq_row(problem, "dopri5", rtol=rtol, atol=rtol))
                )
            q, forces = problem.dop853(rtol, rtol)
            found.append(("DOP853 (SciPy)", (position_error(problem, q), forces)))
        rows += [
            {"system": system, "method": name, "forces": forces, "error": error if error < 1e3 else None}
            for name, (error, forces) in found
            if forces <= 2 * max_forces
        ]
        print(f"work and precision: {system} done", flush=True)
    return rows


def energy_curve(problem: Problem, method: str, h: float, steps: int, every: int) -> Tensor:
    """Relative energy errors at the saved steps."""
    q, p = integrate(
        problem.dynamics,
        problem.q,
        problem.p,
        step_size=h,
        num_steps=steps - steps % every,
        method=method,
        save_every=every,
    )
    energy = problem.dynamics.energy(q[0], p[0])
    return energy / energy[0] - 1


def halves(error: Tensor) -> float:
    """Mean of the second half minus that of the first."""
    middle = len(error) // 2
    return float(error[middle:].mean() - error[:middle].mean())


def energies(duration: float) -> Rows:
    """Rows (method, h, forces, largest error, change between the halves of the run); rk4 as the control."""
    problem, rows = springs(), []
    for method, h in ENERGY_STEPS.items():
        before = problem.dynamics.calls
        error = energy_curve(problem, method, h, round(duration / h), 1)
        forces = problem.dynamics.calls - before
        rows.append({"method": method, "h": h, "forces": forces} | summary(error))
    h = 0.08
    t = torch.linspace(0, duration, round(duration / h) + 1, dtype=torch.float64)
    before = problem.dynamics.calls
    q, p = torchdiffeq.odeint(problem.dynamics.vector_field, (problem.q, problem.p), t, method="rk4")
    energy = problem.dynamics.energy(q, p)[:, 0]
    forces = problem.dynamics.calls - before
    rows.append({"method": "rk4 (torchdiffeq)", "h": h, "forces": forces} | summary(energy / energy[0] - 1))
    return rows


def summary(error: Tensor) -> dict[str, float]:
    return {
        "max_error": float(error.abs().max()),
        "max_error_first_tenth": float(error[: len(error) // 10 + 1].abs().max()),
        "trend": halves(error),
    }


def slope(error: Tensor) -> tuple[float, float]:
    """Change of a straight line over the run, and the half width of its 95 % interval, from means of blocks."""
    means = error[1:][: (len(error) - 1) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(1)
    x = (torch.arange(BLOCKS, dtype=error.dtype) + 0.5) / BLOCKS - 0.5
    rise = float((x * means).sum() / x.square().sum())
    scatter = float((means - means.mean() - rise * x).square().sum() / (BLOCKS - 2))
    return rise, QUANTILE * math.sqrt(scatter / float(x.square().sum()))


def long_energy(steps: int) -> Rows:
    """Rows (method, h, steps, largest error, trend over the run, its half width)."""
    problem, rows = springs(), []
    for method, h in LONG_STEPS.items():
        error = energy_curve(problem, method, h, steps, max(1, steps // 20000))
        rise, half_width = slope(error)
        rows.append({"method": method, "h": h, "steps": steps} | summary(error))
        rows[-1] |= {"slope_over_run": rise, "slope_half_width_95": half_width}
    return rows


def group_defects(steps: int) -> Rows:
    """Rows (method, defect, relative energy error) of four free bodies, h = 0.02."""
    body = FreeRigidBody()
    start = body.sample(4, generator=torch.Generator().manual_seed(0))
    rows = []
    for method in RIGID:
        g, mu, _ = advance(body, *start, step_size=0.02, num_steps=steps, method=method)
        defect = (g.mT @ g - torch.eye(3, dtype=g.dtype)).abs().max()
        drift = (body.energy(g, mu) / body.energy(*start) - 1).abs().max()
        rows.append({"method": method, "steps": steps, "defect": float(defect), "energy_error": float(drift)})
    return rows


def accuracy(*, quick: bool) -> dict[str, Rows]:
    """All four, and for ``quick`` the same with tiny settings."""
    torch.set_num_threads(1)
    with torch.no_grad():
        return {
            "work_precision": work_precision(*((400, 4) if quick else (51_200, 13))),
            "energies": energies(20.0 if quick else 2000.0),
            "long_energy": long_energy(1000 if quick else 1_000_000),
            "group_defects": group_defects(20 if quick else 100_000),
        }
