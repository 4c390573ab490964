"""The trajectories of a run on its report: how their energies drift, which are worst, and a few that move.

Shape letters: n trajectories, T frames, N particles, d space dimension.
"""

from __future__ import annotations

import numpy as np
from ase import units
from ase.data import covalent_radii
from ase.symbols import Symbols

from lie_sim.distributed.run import Ends, Run
from lie_sim.distributed.run_units import times_and_unit, units_of
from lie_sim.distributed.segment import REASONS
from lie_sim.experiments.molecule_drawing import bonds, colour
from lie_sim.report import Plot, Table, TrajectoryView
from lie_sim.report.formatting import format_number
from lie_sim.report.payload import MAX_FRAMES
from lie_sim.state import Particles

SAMPLES = 5
"""Trajectories that are shown."""
MAX_PARTICLES = 100
"""Particles that are shown of each."""
WORST = 10
"""Trajectories in the table of the worst."""
_DRIFT = "drift / mean kinetic energy"


def drift_plots(ends: Ends) -> list[Plot]:
    """Drift of the energy of every trajectory, the smallest first; none if the method conserves no energy."""
    drift = np.sort(ends.drift[np.isfinite(ends.drift)])
    if not len(drift):
        return []
    share = 100.0 * (np.arange(len(drift)) + 1) / len(drift)
    return [
        Plot(
            "Energy drift by trajectory",
            {"largest drift so far": (share, drift)},
            x_name="trajectories that drift less",
            x_unit="%",
            y_name="drift",
            note="Largest change of the energy of each trajectory since its beginning, divided by its mean kinetic "
            "energy; the trajectories are in the order of their drift. A drift of zero is a gap.",
            logarithmic=True,
        )
    ]


def worst_table(run: Run, ends: Ends) -> Table:
    """Trajectories that have ended, and those that drift most."""
    badness = np.where(ends.reason > 0, np.inf, np.nan_to_num(ends.drift, nan=-1.0))
    order = np.argsort(-badness, kind="stable")[:WORST]
    each = run.manifest.save_every * run.manifest.dt
    time, unit = times_and_unit(run, np.array([each]))
    rows: list[list[str | int | float | None]] = [
        [
            f"{ends.numbers[k]}",
            float(ends.drift[k]),
            REASONS[ends.reason[k]],
            float(ends.ended[k] * time[0]) if ends.ended[k] >= 0 else None,
        ]
        for k in order
    ]
    return Table(
        ["trajectory", _DRIFT, "state", f"ended at, {unit}" if unit else "ended at"],
        rows,
        title="Worst trajectories",
        note=f"{int((ends.reason > 0).sum())} of {len(ends.numbers)} trajectories have ended. These come first, then "
        "those that drift most.",
    )


def samples(run: Run, ends: Ends) -> list[TrajectoryView]:
    """A few trajectories, from the smallest to the largest drift; none if they are not in two or three dimensions."""
    views = [_view(run, ends, k) for k in _shown(ends)]
    return [view for view in views if view is not None]


def _shown(ends: Ends) -> list[int]:
    order = np.argsort(ends.drift, kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).round().astype(int))
    return [int(order[place]) for place in chosen]


def _view(run: Run, ends: Ends, k: int) -> TrajectoryView | None:
    """The motion until it ends, thinned to what a page shows."""
    number = int(ends.numbers[k])
    trajectory, (chunk, row) = run.trajectory(number), run.place(number)
    count = int(ends.ended[k]) if ends.ended[k] >= 0 else len(trajectory.times)
    if not min(count, len(trajectory.times)) or trajectory.q.shape[2] not in (2, 3):
        return None
    particles = run.start(chunk).particles
    there = np.arange(trajectory.q.shape[1])
    if particles.mask is not None:
        there = there[particles.mask[row].numpy()]
    there, kept = there[:MAX_PARTICLES], slice(0, count, -(-count // MAX_FRAMES))
    times, unit = times_and_unit(run, trajectory.times[kept])
    q, masses = trajectory.q[kept][:, there], particles.masses[row].double().numpy()[there]
    if particles.pbc is None or not bool(particles.pbc[row].any()):
        q = in_sight(q, masses)
    drift = f", drift {format_number(ends.drift[k], digits=2)}" if np.isfinite(ends.drift[k]) else ""
    end = f", {REASONS[ends.reason[k]]}" if ends.reason[k] else ""
    numbers = _numbers(run, particles, row, there)
    return TrajectoryView(
        f"trajectory {number}{'' if numbers is None else f' ({Symbols(numbers).get_chemical_formula()})'}{drift}{end}",
        times,
        q,
        None,
        masses if numbers is None else covalent_radii[numbers],
        time_unit=unit,
        length_unit="Å" if unit else "",
        colours=None if numbers is None else [colour(int(z)) for z in numbers],
        bonds=None if numbers is None else bonds(numbers, q[0]).tolist(),
    )


def _numbers(run: Run, particles: Particles, row: int, there: np.ndarray) -> np.ndarray | None:
    """Atomic numbers of the particles that are shown, if they are atoms."""
    if not units_of(run) or particles.species is None:
        return None
    numbers: np.ndarray = particles.species[row].numpy()[there]
    return numbers


def temperature_plot(run: Run, ends: Ends) -> list[Plot]:
    """Temperature of the motion of the atoms that are shown, 2 K/(3 N k); none if they are not atoms."""
    if not units_of(run):
        return []
    curves = {}
    for k in _shown(ends):
        number = int(ends.numbers[k])
        trajectory, (chunk, row) = run.trajectory(number), run.place(number)
        count = min(
            int(ends.ended[k]) if ends.ended[k] >= 0 else len(trajectory.times), len(trajectory.times)
        )
        if not count:
            continue
        particles = run.start(chunk).particles
        there = (
            np.ones(trajectory.p.shape[1], bool) if particles.mask is None else particles.mask[row].numpy()
        )
        kept = slice(0, count, -(-count // MAX_FRAMES))
        p, masses = trajectory.p[kept][:, there].astype(float), particles.masses[row].double().numpy()[there]
        kinetic = (p**2).sum(-1) / (2 * masses)
        times, _ = times_and_unit(run, trajectory.times[kept])
        curves[f"trajectory {number}"] = (times, 2 * kinetic.sum(1) / (3 * len(masses) * units.kB))
    if not curves:
        return []
    note = "Of the momenta, 2 K/(3 N k), motion as a whole included, of the trajectories that are shown."
    return [
        Plot("Temperature", curves, x_name="time", x_unit="fs", y_name="temperature", y_unit="K", note=note)
    ]


def in_sight(q: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Positions as they are, or from the centre of mass, if that travels further than the system is wide.

    Args:
        q: shape (T, N, d).
        masses: shape (N,).

    Example:
        >>> fast = np.array([[[0.0], [1.0]], [[50.0], [51.0]]])
        >>> in_sight(fast, np.ones(2))[:, :, 0].tolist()
        [[-0.5, 0.5], [-0.5, 0.5]]
    """
    finite = np.isfinite(masses) & (masses > 0)
    if not finite.all() or not np.isfinite(q).all():
        return q
    centre = (q * masses[:, None]).sum(1, keepdims=True) / masses.sum()
    return q - centre if float(np.ptp(centre, axis=0).max()) > float(np.ptp(q - centre, axis=1).max()) else q
