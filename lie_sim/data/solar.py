"""The real solar system as a dataset: one long trajectory from the DE421 ephemeris.

Cut it with :meth:`~lie_sim.data.trajectories.Trajectories.windows` for training; predict the years after it.
"""

from __future__ import annotations

from lie_sim.data.trajectories import Trajectories
from lie_sim.systems.solar import SolarSystem


def solar_trajectories(
    start: str | float, end: str | float, *, step_days: float = 1.0, system: SolarSystem | None = None
) -> Trajectories:
    """Positions (AU) and momenta (M☉ AU/day) of the Sun and planets on a grid of days; S = 1.

    Args:
        start: calendar date (0 h TDB) or Julian date, from 1900 on.
        end: likewise, up to 2199; included where the step hits it.
        step_days: days between points.
        system: which bodies; None takes the Sun and all nine.

    Example:
        >>> month = solar_trajectories("2000-01-01", "2000-01-31")
        >>> month.q.shape, month.windows(5, stride=1).q.shape
        (torch.Size([1, 31, 10, 3]), torch.Size([27, 5, 10, 3]))
    """
    system = system or SolarSystem()
    truth = system.ephemeris(start, end, step_days=step_days)
    metadata = {"system": "de421", "bodies": list(system.bodies), "first_julian_date": float(truth.days[0])}
    return Trajectories(truth.q[None], truth.p[None], truth.times(), truth.particles, metadata)
