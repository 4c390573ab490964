"""Observations of particles in a table: one row for a particle at a time, in any order, with gaps.

    time, particle, x, y
    0.0,  a,        1.0, 0.2
    0.0,  b,        ,    -0.3         an empty cell, NA or nan is a gap, and so is a row that is not there

Every row is accounted for: used, a copy of another one, without any number, or refused, with its line and the reason.

Shape letters: T times, N particles, M measurements (positions, then velocities).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lie_sim.errors import DataError
from lie_sim.fitting.columns import Columns, Layout, layout_of
from lie_sim.fitting.joining import joined, says_nothing_new, without_jitter
from lie_sim.fitting.rows import rows_of

MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "-"})
"""What an empty cell may say, in small letters."""
_SHOWN = 6
_NO_TIME = "the time is no number"
_OTHER_TIMES = {
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(\D.*)?|\d+:\d+.*": ": give the time since a moment, as in seconds or "
    "days, in place of dates and clocks",
    r"[-+−]?[\d.]*,[\d,]+(e[-+]?\d+)?": ": write numbers without commas, and decimals with a point",
}
"""What may stand there, and what to do then."""
_LONGEST = 40


@dataclass(frozen=True)
class Ledger:
    """What became of every row.

    Args:
        rows: of the table, without its header.
        used: rows with at least one number that is used.
        copies: rows that say what another one says.
        empty: rows without any number.
        refused: reason to the lines of the file that it is about.
        notes: what else should be known, such as cells that are no numbers.
    """

    rows: int
    used: int
    copies: int
    empty: int
    refused: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people.

        Example:
            >>> print(*Ledger(9, 6, 1, 0, {"the time is missing": (4, 8)}, ("x",)).lines(), sep="; ")
            9 rows: 6 used, 1 copy, 0 without a number, 2 refused; refused: the time is missing (lines 4, 8); x
        """
        refused = sum(map(len, self.refused.values()))
        copies = f"{self.copies} {'copy' if self.copies == 1 else 'copies'}"
        first = (
            f"{self.rows} rows: {self.used} used, {copies}, {self.empty} without a number, {refused} refused"
        )
        return [first, *(f"refused: {why} ({_lines(at)})" for why, at in self.refused.items()), *self.notes]


@dataclass(frozen=True)
class Track:
    """One trajectory as it was observed.

    Args:
        name: of it; empty where there is only one.
        times: rising, shape (T,).
        values: NaN where nothing was observed, shape (T, N, M).
    """

    name: str
    times: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class ObservedTable:
    """What a table says.

    Args:
        tracks: at least one.
        particles: names, N of them, the same in every track.
        dim: components of a position; M is ``dim``, or twice that with velocities.
        measurements: names of the M columns.
        units: of time and of length; empty where none are declared.
        ledger: what became of every row.
    """

    tracks: tuple[Track, ...]
    particles: tuple[str, ...]
    dim: int
    measurements: tuple[str, ...]
    units: tuple[str, str]
    ledger: Ledger

    @property
    def has_velocities(self) -> bool:
        """Whether velocities were observed."""
        return len(self.measurements) > self.dim

    def summary(self) -> str:
        """Who was seen, when, and how much of it is missing, in a line."""
        first, last = (f(f(each.times) for each in self.tracks) for f in (min, max))
        missing = 1 - np.mean(np.concatenate([np.isfinite(each.values).ravel() for each in self.tracks]))
        times = sum(len(each.times) for each in self.tracks)
        runs = f" in {len(self.tracks)} trajectories" if len(self.tracks) > 1 else ""
        return (
            f"particles {', '.join(self.particles)}{runs}: {times} times from {first:.10g} to {last:.10g}"
            f"{f' {self.units[0]}' if self.units[0] else ''}, {100 * missing:.0f} % of all values are missing"
        )


def read_table(path: str | Path, columns: Columns | None = None) -> ObservedTable:
    r"""Read a table of observations.

    Args:
        path: CSV (separated by comma, semicolon or tab; UTF-8) or Parquet (``pip install pyarrow``).
        columns: which columns are what.

    Raises:
        DataError: there is no such file, its header does not say what is needed, or nothing in it can be used.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.csv")
        >>> _ = file.write_text("t,particle,x\n1,a,0.5\n0,a,0.2\n0,b,oops\n1,b,2\n0,b,1\n")
        >>> found = read_table(file)
        >>> found.particles, found.tracks[0].values[:, :, 0].tolist()
        (('a', 'b'), [[0.2, 1.0], [0.5, 2.0]])
        >>> print(*found.ledger.lines(), sep="\n")
        5 rows: 4 used, 0 copies, 1 without a number, 0 refused
        1 cell of x is no number and counts as missing: 'oops' in line 4
        rows are not in the order of time: sorted
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no table {path}")
    rows = rows_of(path)
    try:
        header = next(rows, (0, []))[1]
        layout = layout_of(header, columns or Columns())
        return _assembled(layout, _Reading(layout, len(header), rows))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


Key = tuple[str, float, str]
"""Trajectory, time, particle."""


@dataclass
class _Reading:
    """All rows of a file, one after the other."""

    layout: Layout
    width: int
    source: Iterable[tuple[int, Sequence[str]]]
    rows: int = 0
    copies: int = 0
    empty: int = 0
    in_order: bool = True
    cells: dict[Key, tuple[float, ...]] = field(default_factory=dict)
    lines: dict[Key, list[int]] = field(default_factory=dict)
    blank: defaultdict[str, set[float]] = field(default_factory=lambda: defaultdict(set))
    refused: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    no_numbers: defaultdict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    no_times: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        latest: dict[str, float] = {}
        for line, row in self.source:
            self.rows += 1
            try:
                key = self._key(row)
            except ValueError as error:
                self.refused[str(error)].append(line)
                continue
            self.in_order &= key[1] >= latest.get(key[0], -math.inf)
            latest[key[0]] = key[1]
            measured = self.layout.measured
            values = tuple(self._number(each.name, row[each.place], line) * each.factor for each in measured)
            self._take(key, values, line)

    def _key(self, row: Sequence[str]) -> Key:
        layout = self.layout
        needed = max(
            layout.time, layout.particle, *(each.place for each in layout.measured), layout.trajectory or 0
        )
        if len(row) <= needed:
            raise ValueError(f"fewer than {needed + 1} cells")
        if any(cell.strip() for cell in row[self.width :]):
            raise ValueError(f"more cells than the {self.width} of the header, as of decimal commas")
        if any("\n" in cell for cell in row):
            raise ValueError("a quote goes on over lines")
        particle = row[layout.particle].strip()
        if not particle:  # Na may be sodium
            raise ValueError("no particle is named")
        trajectory = "" if layout.trajectory is None else row[layout.trajectory].strip()
        if layout.trajectory is not None and not trajectory:
            raise ValueError("no trajectory is named")
        text = row[layout.time].strip()
        if text.lower() in MISSING:
            raise ValueError("the time is missing")
        time = _parsed(text)
        if not math.isfinite(time):
            hint = next((said for form, said in _OTHER_TIMES.items() if re.fullmatch(form, text)), "")
            self.no_times.setdefault(_NO_TIME + hint, text)
            raise ValueError(_NO_TIME + hint)
        return trajectory, time, particle

    def _number(self, name: str, text: str, line: int) -> float:
        text = text.strip()
        if text.lower() in MISSING:
            return math.nan
        found = _parsed(text)
        if not math.isfinite(found):
            self.no_numbers[name].append((text, line))
            return math.nan
        return found

    def _take(self, key: Key, values: tuple[float, ...], line: int) -> None:
        if all(map(math.isnan, values)):
            self.empty += 1
            self.blank[key[0]].add(key[1])
        elif key not in self.lines:
            self.cells[key], self.lines[key] = values, [line]
        elif (
            key not in self.cells or (both := joined(self.cells[key], values)) is None
        ):  # which one is right?
            first = self.lines[key] if self.cells.pop(key, None) else []
            self.refused["the same particle at the same time, with other numbers"] += [*first, line]
        elif says_nothing_new(self.cells[key], values):
            self.copies += 1
        else:
            self.cells[key] = both
            self.lines[key].append(line)

    def leave_out_singles(self) -> None:
        """Refuse particles that are there only once."""
        seen = Counter((trajectory, particle) for trajectory, _, particle in self.cells)
        for key in [each for each in self.cells if seen[each[0], each[2]] == 1]:
            del self.cells[key]
            self.refused["its particle is there only once, which shows no motion"] += self.lines[key]

    def ledger(self, notes: Sequence[str]) -> Ledger:
        """What became of every row."""
        said = [
            f"{len(found)} cell{'s' * (len(found) > 1)} of {name} {'are' if len(found) > 1 else 'is'} no number and "
            f"count{'s' * (len(found) == 1)} as missing: "
            + ", ".join(f"{_shown(text)} in line {line}" for text, line in found[:_SHOWN])
            + (", …" if len(found) > _SHOWN else "")
            for name, found in self.no_numbers.items()
        ]
        if not self.in_order:
            said.append("rows are not in the order of time: sorted")
        refused = {self._told(why): tuple(sorted(lines)) for why, lines in self.refused.items()}
        used = sum(len(self.lines[key]) for key in self.cells)
        return Ledger(self.rows, used, self.copies, self.empty, refused, (*said, *notes))

    def _told(self, why: str) -> str:
        if why not in self.no_times:
            return why
        return f"{_NO_TIME}, as {_shown(self.no_times[why])}{why.removeprefix(_NO_TIME)}"


def _assembled(layout: Layout, reading: _Reading) -> ObservedTable:
    reading.leave_out_singles()
    if not reading.cells:
        raise DataError("; ".join(["no row can be used", *reading.ledger(()).lines()]))
    by_track: defaultdict[str, dict[tuple[float, str], tuple[float, ...]]] = defaultdict(dict)
    for (name, time, particle), values in reading.cells.items():
        by_track[name][time, particle] = values
    particles = sorted({key[2] for key in reading.cells}, key=_natural)
    for name, rows in by_track.items():
        lacking = sorted(set(particles) - {particle for _, particle in rows}, key=_natural)
        if lacking:
            raise DataError(
                f"trajectory {name} has less than two rows of particle {', '.join(lacking)}: all trajectories "
                "need the same particles"
            )
    count = len(layout.measured)
    moved = 0
    for name, rows in by_track.items():
        by_track[name], count_here = without_jitter(rows)
        moved += count_here
    tracks = [
        _track(name, by_track[name], particles, count, reading.blank[name])
        for name in sorted(by_track, key=_natural)
    ]
    kept, notes = _measured(layout, tracks)
    if moved:
        notes.append(f"{moved} times are so close to others that they count as the same")
    return ObservedTable(
        tracks=tuple(Track(each.name, each.times, each.values[..., kept]) for each in tracks),
        particles=tuple(particles),
        dim=layout.dim,
        measurements=tuple(layout.measured[k].name for k in kept),
        units=layout.units,
        ledger=reading.ledger(notes),
    )


def _track(
    name: str,
    rows: Mapping[tuple[float, str], tuple[float, ...]],
    particles: Sequence[str],
    count: int,
    blank: set[float],
) -> Track:
    """With the times of rows without a number, between the others: they are gaps."""
    seen = {time for time, _ in rows}
    times = sorted(seen | {time for time in blank if min(seen) < time < max(seen)})
    when, which = {t: k for k, t in enumerate(times)}, {each: k for k, each in enumerate(particles)}
    values = np.full((len(times), len(particles), count), np.nan)
    for (time, particle), row in rows.items():
        values[when[time], which[particle]] = row
    return Track(name, np.array(times), values)


def _measured(layout: Layout, tracks: Sequence[Track]) -> tuple[list[int], list[str]]:
    """The columns with numbers: all positions, and all velocities or none."""
    without = [
        k for k in range(len(layout.measured)) if all(np.isnan(each.values[..., k]).all() for each in tracks)
    ]
    named = ", ".join(layout.measured[k].name for k in without)
    if any(k < layout.dim for k in without):
        raise DataError(f"there is no number in {named}: leave the column out, or fill it")
    kept = list(range(len(layout.measured)))
    if not without:
        return kept, []
    velocities = ", ".join(each.name for each in layout.measured[layout.dim :])
    return kept[: layout.dim], [f"there is no number in {named}: velocities ({velocities}) are not used"]


def _parsed(text: str) -> float:
    """A number, NaN if it is none."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _shown(text: str) -> str:
    """In quotes, the beginning of it where it is long."""
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def _natural(name: str) -> tuple[float, str]:
    """Numbers in their order, before words.

    Example:
        >>> sorted(["b", "10.0", "nan", "9.0", "-1"], key=_natural)
        ['-1', '9.0', '10.0', 'b', 'nan']
    """
    try:
        number = float(name)
    except ValueError:
        number = math.nan
    return (number, name) if math.isfinite(number) else (math.inf, name)


def _lines(at: Sequence[int]) -> str:
    return (
        f"line{'s' * (len(at) > 1)} " + ", ".join(map(str, at[:_SHOWN])) + (", …" if len(at) > _SHOWN else "")
    )
