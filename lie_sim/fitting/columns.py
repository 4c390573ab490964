"""What the columns of a table of observations are, and in which units.

    time [s], particle, x [mm], y [mm], vx [mm/s], vy [mm/s]        a unit in brackets behind a name; none is also fine

Positions and velocities are converted to the unit of the first position and of the time.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lie_sim.errors import DataError

LENGTHS = {
    "km": 1e3, "m": 1.0, "dm": 1e-1, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "nm": 1e-9,
    "Å": 1e-10, "A": 1e-10, "angstrom": 1e-10, "pm": 1e-12, "au": 149597870700.0,
}  # fmt: skip
"""In metres."""
TIMES = {
    "yr": 31557600.0, "d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6,
    "ns": 1e-9, "ps": 1e-12, "fs": 1e-15,
}  # fmt: skip
"""In seconds."""
TIME_NAMES, PARTICLE_NAMES = ("time", "t"), ("particle", "id", "name", "atom", "station")
POSITION_NAMES, VELOCITY_NAMES = ("x", "y", "z"), ("vx", "vy", "vz")
_HEADER = re.compile(r"(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what; None, or nothing, for what the header says by usual names.

    Args:
        time: time, t.
        particle: particle, id, name, atom or station.
        position: x, y, z as far as they are there.
        velocity: vx, vy, vz, as many as positions; a table without velocities is fine.
        trajectory: several runs of the same particles in one table; trajectory, if it is there.
    """

    time: str | None = None
    particle: str | None = None
    position: tuple[str, ...] = ()
    velocity: tuple[str, ...] = ()
    trajectory: str | None = None


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Args:
        name: without its unit.
        place: its number in a row.
        factor: from its unit to that of the table.
    """

    name: str
    place: int
    factor: float = 1.0


@dataclass(frozen=True)
class Layout:
    """The columns that are read.

    Args:
        time: number of the column.
        particle: likewise.
        trajectory: likewise, or None.
        measured: positions, then velocities.
        dim: how many positions.
        units: of time and of length, as they are declared; empty if they are not.
    """

    time: int
    particle: int
    trajectory: int | None
    measured: tuple[Column, ...]
    dim: int
    units: tuple[str, str]


def layout_of(header: Sequence[str], columns: Columns) -> Layout:
    """Find the columns.

    Raises:
        DataError: a column is missing or twice there, or units do not fit.

    Example:
        >>> found = layout_of(["t [ms]", "particle", "x [cm]", "y [mm]"], Columns())
        >>> found.units, [(each.name, each.factor) for each in found.measured]
        (('ms', 'cm'), [('x', 1.0), ('y', 0.1)])
    """
    names, units = zip(*(_named(cell) for cell in header), strict=True) if header else ((), ())
    time = _one(names, columns.time, TIME_NAMES, "the time")
    particle = _one(names, columns.particle, PARTICLE_NAMES, "the particle")
    position = columns.position or _written(names, POSITION_NAMES)
    velocity = columns.velocity or _written(names, [f"v{each.lower()}" for each in position])
    others = [name for name in _written(names, VELOCITY_NAMES) if name not in velocity]
    if others and not columns.position and not columns.velocity:
        raise DataError(f"{', '.join(others)} is the velocity of no position: {_there(names)}")
    if not position:
        raise DataError(
            f"the header has no position (x, y or z): {_there(names)}; say which columns they are"
        )
    if velocity and len(velocity) != len(position):
        raise DataError(
            f"there are {len(position)} positions ({', '.join(position)}) and {len(velocity)} velocities "
            f"({', '.join(velocity)}): both need the same components"
        )
    trajectory = columns.trajectory or next(iter(_written(names, ["trajectory"])), None)
    asked = [names[time], names[particle], *position, *velocity, *([trajectory] if trajectory else [])]
    twice = sorted({name for name in asked if names.count(name) > 1})
    if twice:
        raise DataError(f"the header has {', '.join(twice)} twice: give every column a name of its own")
    if len(set(asked)) < len(asked):
        raise DataError(f"a column stands for two things: {', '.join(asked)}")
    places = [_place(names, name) for name in (*position, *velocity)]
    measured, declared = _in_one_unit(names, units, places, time, len(position))
    return Layout(
        time=time,
        particle=particle,
        trajectory=None if trajectory is None else _place(names, trajectory),
        measured=measured,
        dim=len(position),
        units=declared,
    )


def _named(cell: str) -> tuple[str, str]:
    """Name and unit."""
    found = _HEADER.fullmatch(cell.strip())
    return (found[1].strip(), found[2]) if found else (cell.strip(), "")


def _one(names: Sequence[str], chosen: str | None, usual: Sequence[str], what: str) -> int:
    if chosen is not None:
        return _place(names, chosen)
    for name in _written(names, usual):
        return names.index(name)
    raise DataError(
        f"the header has no column for {what} ({', '.join(usual)}): {_there(names)}; say which one it is"
    )


def _written(names: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """Those usual names that are there, as they are written there.

    Capitals do not matter where none is there without; but T is more often a temperature than a time.

    Example:
        >>> _written(["Time", "X", "Y", "T"], ["t", "time"]), _written(["X", "Y"], ["x", "y", "z"])
        (('Time',), ('X', 'Y'))
        >>> _written(["x", "y", "Z"], ["x", "y", "z"])
        ('x', 'y')
    """
    exact = tuple(name for name in usual if name in names)
    alike = {name.lower(): name for name in reversed(names) if name != "T"}
    return exact or tuple(alike[name] for name in usual if name in alike)


def _place(names: Sequence[str], name: str) -> int:
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1)
    raise DataError(
        f"there is no column {name!r}: {_there(names)}" + (f"; did you mean {near[0]}?" if near else "")
    )


def _there(names: Sequence[str]) -> str:
    return f"there are {', '.join(name or '(no name)' for name in names)}" if names else "it is empty"


def _in_one_unit(
    names: Sequence[str], units: Sequence[str], places: Sequence[int], time: int, dim: int
) -> tuple[tuple[Column, ...], tuple[str, str]]:
    """Factors to the unit of the first position and of the time, and these units."""
    chosen = [units[place] for place in places]
    declared = [bool(unit) for unit in (*chosen, units[time])]
    if any(declared) and not all(declared):
        without = [names[place] for place in (*places, time) if not units[place]]
        raise DataError(
            f"{', '.join(without)} have no unit, other columns have: write one in brackets behind every name, such as "
            "x [mm], or none at all"
        )
    if not any(declared):
        return tuple(Column(names[place], place) for place in places), ("", "")
    length, second = chosen[0], units[time]
    for unit, name, other in ((length, names[places[0]], TIMES), (second, names[time], LENGTHS)):
        if unit in other:
            raise DataError(
                f"{name} has the unit {unit!r}, which is none of a {'length' if other is TIMES else 'time'}"
            )
    found = []
    for number, (place, unit) in enumerate(zip(places, chosen, strict=True)):
        if number < dim:
            factor = _factor(unit, length, LENGTHS, names[place])
        else:
            distance, slash, duration = unit.partition("/")
            if not slash:
                raise DataError(
                    f"{names[place]} has the unit {unit!r}: that of a velocity is expected, such as mm/s"
                )
            factor = _factor(distance.strip(), length, LENGTHS, names[place])
            factor /= _factor(duration.strip(), second, TIMES, names[place])
        found.append(Column(names[place], place, factor))
    return tuple(found), (second, length)


def _factor(unit: str, wanted: str, known: dict[str, float], name: str) -> float:
    """From one unit to another; a unit that is not known is no other than itself."""
    if unit == wanted:
        return 1.0
    for each in (unit, wanted):
        if each not in known:
            raise DataError(
                f"{name} has the unit {unit!r} and others have {wanted!r}: {each!r} is not among those that can be "
                f"converted ({', '.join(known)})"
            )
    return known[unit] / known[wanted]
