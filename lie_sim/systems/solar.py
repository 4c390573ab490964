"""The solar system: where the planets were (JPL DE421), and where Newton says they go.

    V(q) = −GM☉ Σ_{i<j} m_i m_j / |q_i − q_j|        (masses in solar masses, AU, days)

Positions and velocities are barycentric, in the axes of the International Celestial Reference Frame,
evaluated from the Chebyshev coefficients of DE421 (package ``de421``, 1900–2199). Earth and Moon are one body
at their barycentre.

Newton against the ephemeris' own accelerations, largest relative difference 1980–2020: Mercury 9·10⁻⁸,
Venus 4·10⁻⁸, Mars 2·10⁻⁸ (3 GM☉/(c² r), which is general relativity, is about 8, 4 and 2·10⁻⁸), the
Earth–Moon barycentre 2.5·10⁻⁷ (it is not one body), Jupiter to Pluto below 6·10⁻⁹, and the Sun 6·10⁻⁶,
whose own acceleration is a thousandth of a planet's and feels the asteroids. Over ten years this adds up to
1.2·10⁻⁵ AU for Mercury, mostly the relativistic advance of its perihelion, 6·10⁻⁶ AU for Venus and 2·10⁻⁶
AU for the Earth–Moon barycentre.

Shape letters: B batch (one solar system), N bodies, d = 3, T times.
Reference: Folkner, Williams, Boggs, "The Planetary and Lunar Ephemeris DE 421", IPN Progress Report 42-178
(2009).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from numpy.polynomial import chebyshev
from torch import Tensor

from lie_sim.errors import DataError
from lie_sim.state import Particles, PhaseState
from lie_sim.systems.base import System, register_system
from lie_sim.systems.nbody import inverse_distance_energy, inverse_square_force
from lie_sim.systems.propagate import solve
from lie_sim.units import GM_SUN, JULIAN_DATE_J2000, KM_PER_AU

Array = npt.NDArray[np.float64]

FIRST_DAY, LAST_DAY = 2_414_992.5, 2_524_624.5
"""Julian dates that the files cover: 1899-12-04 to 2200-02-01."""

_CONSTANT = {
    "sun": "GMS",
    "mercury": "GM1",
    "venus": "GM2",
    "earthmoon": "GMB",
    "mars": "GM4",
    "jupiter": "GM5",
    "saturn": "GM6",
    "uranus": "GM7",
    "neptune": "GM8",
    "pluto": "GM9",
}
BODIES = tuple(_CONSTANT)
"""Every body that can be asked for; ``earthmoon`` is the Earth–Moon barycentre."""


@dataclass(frozen=True)
class Ephemeris:
    """States of the bodies at T times.

    Args:
        days: Julian dates (TDB), shape (T,).
        q: positions, AU, shape (T, N, 3).
        p: momenta, M☉ AU/day, shape (T, N, 3).
        acceleration: second derivative of the ephemeris' own polynomials, AU/day², shape (T, N, 3).
        particles: masses in solar masses; batch of one.
    """

    days: Float[Tensor, " T"]
    q: Float[Tensor, "T N 3"]
    p: Float[Tensor, "T N 3"]
    acceleration: Float[Tensor, "T N 3"]
    particles: Particles

    def state(self, index: int = 0) -> PhaseState:
        """The state at one time, as a batch of one."""
        return PhaseState(q=self.q[None, index], p=self.p[None, index])

    def times(self) -> Float[Tensor, " T"]:
        """Days since the first state, shape (T,)."""
        return self.days - self.days[0]


@register_system
@dataclass(frozen=True)
class SolarSystem(System):
    """Sun and planets under Newtonian gravity, with the states of DE421.

    Args:
        num_particles: N; must equal ``len(bodies)``.
        dim: must be 3.
        bodies: names from :data:`BODIES`, in the order wanted.

    Example:
        >>> system = SolarSystem()
        >>> year = system.ephemeris("2000-01-01", "2001-01-01", step_days=1.0)
        >>> year.q.shape
        torch.Size([367, 10, 3])
    """

    num_particles: int = len(BODIES)
    dim: int = 3
    bodies: tuple[str, ...] = BODIES
    name: ClassVar[str] = "solar"
    accuracy: ClassVar[float] = 1e-10

    def __post_init__(self) -> None:
        object.__setattr__(self, "bodies", tuple(self.bodies))
        unknown = [name for name in self.bodies if name not in _CONSTANT]
        if unknown:
            raise ValueError(f"unknown bodies {', '.join(unknown)}; choose from {', '.join(BODIES)}")
        if self.num_particles != len(self.bodies) or self.dim != 3:
            raise ValueError(
                f"num_particles must be the number of bodies, {len(self.bodies)}, and dim 3; "
                f"got {self.num_particles} and {self.dim}"
            )

    @classmethod
    def of(cls, *bodies: str) -> SolarSystem:
        """The system of these bodies only, such as ``SolarSystem.of("sun", "jupiter", "saturn")``."""
        return cls(num_particles=len(bodies), bodies=bodies)

    def default_times(self) -> Float[Tensor, " T"]:
        """One year of days."""
        return torch.arange(366, dtype=torch.float64)

    def particles(self) -> Particles:
        """Masses in solar masses, batch of one."""
        masses = [_constants()[_CONSTANT[body]] / GM_SUN for body in self.bodies]
        return Particles(masses=torch.tensor([masses], dtype=torch.float64))

    def potential(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """−GM☉ Σ m_i m_j / r, shape (B,), M☉ AU²/day²."""
        return -GM_SUN * inverse_distance_energy(q, particles.masses, 0.0)

    def force(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B N d"]:
        """−∂V/∂q in closed form, shape (B, N, 3), M☉ AU/day²."""
        return -GM_SUN * inverse_square_force(q, particles.masses, 0.0)

    def ephemeris(self, start: str | float, end: str | float, *, step_days: float = 1.0) -> Ephemeris:
        """States from DE421 at ``start``, ``start`` + step, … up to ``end``, included where the step hits it.

        Args:
            start: calendar date such as ``"1980-01-01"`` (0 h TDB), or a Julian date.
            end: likewise; within 1900–2199.
            step_days: step of the grid, days.
        """
        first, last = julian_date(start), julian_date(end)
        if step_days <= 0 or last < first:
            raise ValueError(
                f"end must not precede start and step_days be positive; got {start}, {end}, {step_days}"
            )
        steps = int((last - first) / step_days + 1e-9)
        days = first + step_days * np.arange(steps + 1, dtype=np.float64)
        q, v, a = (
            torch.from_numpy(np.stack(x, 1))
            for x in zip(*(_evaluate(b, days) for b in self.bodies), strict=True)
        )
        particles = self.particles()
        return Ephemeris(torch.from_numpy(days), q, v * particles.masses[0, :, None], a, particles)

    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """States of the real solar system at uniformly random dates between 1900 and 2049."""
        share = torch.rand(num_systems, generator=generator, dtype=torch.float64).numpy()
        first, last = julian_date("1900-01-01"), julian_date("2049-01-01")
        states = [_evaluate(body, first + share * (last - first)) for body in self.bodies]
        q, v = (torch.from_numpy(np.stack([state[k] for state in states], 1)) for k in (0, 1))
        particles = self.particles().expand(num_systems)
        return PhaseState(q=q, p=v * particles.masses[..., None]), particles

    def trajectory(
        self, state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
    ) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
        """Newtonian motion at ``times`` (days from the state), (B, T, N, 3) each, refined until converged."""
        return solve(self.force, state, particles, times)


def julian_date(date: str | float) -> float:
    """Julian date of 0 h on a calendar date; a number is taken as a Julian date already.

    Example:
        >>> julian_date("2000-01-01")
        2451544.5
    """
    if not isinstance(date, str):
        return float(date)
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError:
        raise ValueError(f'a date must look like "1980-01-31" or be a Julian date, got {date!r}') from None
    return JULIAN_DATE_J2000 - 0.5 + (day - datetime.date(2000, 1, 1)).days


def _folder() -> Path:
    spec = find_spec("de421")
    if spec is None or spec.origin is None:
        raise DataError('the ephemeris is not installed: pip install "de421==2008.1"')
    return Path(spec.origin).parent


@cache
def _constants() -> dict[str, float]:
    return {name.decode(): float(value) for name, value in np.load(_folder() / "constants.npy")}


@cache
def _coefficients(body: str) -> Array:
    kilometres: Array = np.load(_folder() / f"jpl-{body}.npy")
    return kilometres / KM_PER_AU  # (intervals, 3, coefficients)


def _evaluate(body: str, days: Array) -> tuple[Array, Array, Array]:
    """Position, velocity and acceleration of one body, each (T, 3), in AU and days."""
    if days.min() < FIRST_DAY or days.max() > LAST_DAY:
        raise ValueError(
            f"DE421 covers Julian dates {FIRST_DAY} (1899-12-04) to {LAST_DAY} (2200-02-01); "
            f"got {days.min()} to {days.max()}"
        )
    series = _coefficients(body)
    length = (LAST_DAY - FIRST_DAY) / len(series)
    interval = np.minimum(((days - FIRST_DAY) // length).astype(int), len(series) - 1)
    x = 2 * (days - FIRST_DAY - interval * length) / length - 1
    coefficients = np.moveaxis(series[interval], -1, 0)  # (coefficients, T, 3)
    position, velocity, acceleration = (
        chebyshev.chebval(x[:, None], chebyshev.chebder(coefficients, k, scl=2 / length), tensor=False)
        for k in range(3)
    )
    return position, velocity, acceleration
