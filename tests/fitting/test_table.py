"""Every row of a table is accounted for, whatever is wrong with it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lie_sim.errors import DataError
from lie_sim.fitting import Columns, ObservedTable, read_table
from lie_sim.fitting.columns import layout_of

DIRTY = """t [s];particle;x [cm];y [mm];vx [cm/s];vy [cm/s]
2.0;a;1.2;5;;
0.0;a;1.0;2;;

0.0;b;-1.0;3;;
0.0;a;1.0;2;;
1.0;a;1,1;4;;
1.0;b;NA;;nan;
2.0;b;-1.5;1e400;;
1.0;c;7;7;;
;a;1;1;;
soon;a;1;1;;
3.0;;1;1;;
3.0;a;1
3.0;b;1;1;;
3.0;b;2;1;;
4.0;b;-2;1 mm;;
"""


def written(folder: Path, text: str, name: str = "seen.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def accounted(table: ObservedTable) -> int:
    ledger = table.ledger
    return ledger.used + ledger.copies + ledger.empty + sum(map(len, ledger.refused.values()))


def test_a_dirty_table_is_read_and_every_row_told(tmp_path: Path) -> None:
    found = read_table(written(tmp_path, DIRTY))
    assert (found.particles, found.units, found.measurements) == (("a", "b"), ("s", "cm"), ("x", "y"))
    nan = math.nan
    expected = [
        [[1, 0.2], [-1, 0.3]],
        [[nan, 0.4], [nan, nan]],
        [[1.2, 0.5], [-1.5, nan]],
        [[nan, nan], [-2, nan]],
    ]
    assert found.tracks[0].times.tolist() == [0, 1, 2, 4]
    np.testing.assert_allclose(found.tracks[0].values, expected)
    assert found.ledger.refused == {
        "the time is missing": (11,),
        "the time is no number, as 'soon'": (12,),
        "no particle is named": (13,),
        "fewer than 6 cells": (14,),
        "the same particle at the same time, with other numbers": (15, 16),
        "its particle is there only once, which shows no motion": (10,),
    }
    assert (found.ledger.used, found.ledger.copies, found.ledger.empty) == (6, 1, 1)
    assert accounted(found) == found.ledger.rows == 15
    assert found.ledger.notes == (
        "1 cell of x is no number and counts as missing: '1,1' in line 7",
        "2 cells of y are no number and count as missing: '1e400' in line 9, '1 mm' in line 17",
        "rows are not in the order of time: sorted",
        "there is no number in vx, vy: velocities (vx, vy) are not used",
    )


def test_units_are_converted_to_those_of_the_first_position_and_the_time(tmp_path: Path) -> None:
    text = "time (ms),id,x [m],y [cm],vx [km/h],vy [mm/ms]\n" + "".join(f"{t},p,1,50,3.6,2\n" for t in (0, 1))
    found = read_table(written(tmp_path, text))
    assert (found.units, found.dim, found.has_velocities) == (("ms", "m"), 2, True)
    assert found.tracks[0].values[0, 0].tolist() == pytest.approx([1, 0.5, 1e-3, 2e-3])


def test_trajectories_have_times_of_their_own(tmp_path: Path) -> None:
    rows = [(k, t, name) for k in (10, 9) for t in range(k - 7) for name in "ba"]
    text = "trajectory,t,particle,x\n" + "".join(f"{k},{t},{name},{k + t}\n" for k, t, name in rows)
    found = read_table(written(tmp_path, text))
    assert [(each.name, len(each.times)) for each in found.tracks] == [("9", 2), ("10", 3)]
    with pytest.raises(DataError, match="trajectory 11 has less than two rows of particle a: all traj"):
        read_table(written(tmp_path, text + "11,0,b,1\n11,1,b,2\n"))


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "when,who,east,north,extra\n0,a,1,2,zzz\n1,a,3,4,zzz\n"
    columns = Columns(time="when", particle="who", position=("north", "east"))
    assert read_table(written(tmp_path, text), columns).tracks[0].values[1, 0].tolist() == [4, 3]
    with pytest.raises(DataError, match=r"there is no column 'nort': .* did you mean north"):
        read_table(written(tmp_path, text), Columns(time="when", particle="who", position=("nort",)))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("", "the header has no column for the time"),
        (
            "when,particle,x",
            r"no column for the time \(time, t\): there are when, particle, x; say which one",
        ),
        ("t,x,y", "no column for the particle"),
        ("t,particle,a", r"no position \(x, y or z\)"),
        ("t,particle,x,x", "x twice"),
        ("time,time,particle,x", "time twice"),
        ("t,particle,x,y,vx", "2 positions .* 1 velocities"),
        ("t [s],particle,x [mm],y", "y have no unit, other columns have"),
        (
            "t [s],particle,x [mm],y [furlong]",
            "y has the unit 'furlong' and others have 'mm': 'furlong' is not among",
        ),
        ("t [mm],particle,x [s]", "x has the unit 's', which is none of a length"),
        ("t [fortnight],particle,x [mm],vx [mm/s]", "vx has the unit 's' and others have 'fortnight'"),
        ("t [s],particle,x [mm],vx [mm]", "vx has the unit 'mm': that of a velocity"),
    ],
)
def test_a_header_that_says_too_little(header: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        read_table(written(tmp_path, header + "\n0,a,1,2,3\n1,a,1,2,3\n"))


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no table"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(
        DataError, match=r"no row can be used; 1 rows: .* only once, which shows no motion \(line 2\)"
    ):
        read_table(written(tmp_path, "t,particle,x\n0,a,1\n"))
    with pytest.raises(DataError, match="there is no number in x: leave the column out"):
        read_table(written(tmp_path, "t,particle,x,y\n0,a,,1\n1,a,,2\n"))
    (tmp_path / "latin.csv").write_bytes("t,particle,x\n0,é,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="no table of comma-separated values in UTF-8"):
        read_table(tmp_path / "latin.csv")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="no Parquet file"):
        read_table(tmp_path / "bad.parquet")


def test_parquet_is_the_same_table(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"t": [0.0, 1.0, 2.0, 0.0, 1.0], "particle": [1, 1, 1, 2, 2], "x": [0.1, None, 5.0, 1e-17, 3.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "seen.parquet")
    text = "t,particle,x\n0,1,0.1\n1,1,\n2,1,5\n0,2,1e-17\n1,2,3\n"
    there, here = read_table(tmp_path / "seen.parquet"), read_table(written(tmp_path, text))
    assert there.particles == here.particles == ("1", "2")
    np.testing.assert_array_equal(there.tracks[0].values, here.tracks[0].values)


def test_names_are_words_and_rows_add_up(tmp_path: Path) -> None:
    """Na is sodium; two rows of a particle at a time may complete each other; unused columns may repeat."""
    text = """\ntime, "atom", x, y, flag, flag
0, Na, 1, , a, b
0, Na, , 2, a, b
0, Na, 1, , a, b
1, Na, 3, 4, a, b
0, Cl, 1, 1, a, b
1, Cl, 1, 1, a, b
"""
    found = read_table(written(tmp_path, text))
    assert found.particles == ("Cl", "Na")
    assert found.tracks[0].values[0, 1].tolist() == [1, 2]
    assert (found.ledger.used, found.ledger.copies, accounted(found)) == (5, 1, 6)
    with pytest.raises(DataError, match=r"no trajectory is named \(lines 2, 3\)"):
        read_table(written(tmp_path, "trajectory,t,particle,x\n,0,a,1\n,1,a,2\n"))
    with pytest.raises(DataError, match="stands for two things"):
        read_table(written(tmp_path, text), Columns(position=("x", "x")))


def test_times_without_any_number_are_gaps_and_quotes_do_not_swallow_rows(tmp_path: Path) -> None:
    found = read_table(written(tmp_path, "t,particle,x\n0,a,1\n1,a,\n2,a,3\n9,a,\n"))
    assert found.tracks[0].times.tolist() == [0, 1, 2]
    assert np.isnan(found.tracks[0].values[1]).all()
    text = 't,particle,x\n0,a,1\n1,a,2\n2,"a,3\n3,a,4\n0,b,1\n1,b,1\n'
    with pytest.raises(DataError, match="no table of comma-separated values"):
        read_table(written(tmp_path, text))
    found = read_table(written(tmp_path, text.replace("3,a,4", '3,a",4')))
    assert any("a quote goes on over lines" in why for why in found.ledger.refused)


def test_velocities_are_those_of_the_positions(tmp_path: Path) -> None:
    rows = "0,a,1,2,3,4\n1,a,1,2,3,4\n"
    columns = Columns(position=("y", "x"))
    assert read_table(written(tmp_path, "t,particle,x,y,vx,vy\n" + rows), columns).measurements == (
        "y",
        "x",
        "vy",
        "vx",
    )
    with pytest.raises(DataError, match="vz is the velocity of no position"):
        read_table(written(tmp_path, "t,particle,x,y,vx,vz\n" + rows))


def test_times_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    rows = [f"{0.1 * k!r},a,1\n{sum([0.1] * k)!r},b,1\n" for k in range(8)]
    found = read_table(written(tmp_path, "t,particle,x\n" + "".join(rows)))
    assert found.tracks[0].values.shape == (8, 2, 1)
    assert not np.isnan(found.tracks[0].values).any()
    assert any("so close to others" in note for note in found.ledger.notes)
    rows = [f"{4.0 * k + 1.7e12},a,1\n{4.0 * k + 1.7e12 + 1},b,1\n" for k in range(4)]
    apart = read_table(written(tmp_path, "t,particle,x\n" + "".join(rows)))
    assert apart.tracks[0].values.shape == (8, 2, 1), "milliseconds since 1970 are no rounding"


def test_particles_have_one_order(tmp_path: Path) -> None:
    names = ["007", "b", "7", "07", "10", "²"]
    rows = "".join(f"{t},{name},1\n" for t in (0, 1) for name in names)
    assert read_table(written(tmp_path, "t,particle,x\n" + rows)).particles == (
        "007",
        "07",
        "7",
        "10",
        "b",
        "²",
    )


CELLS = st.sampled_from(["0", "1", "2.5", "", "NA", "x1", "inf", "-3"])


@settings(max_examples=60)
@given(rows=st.lists(st.lists(CELLS, min_size=0, max_size=5), max_size=12))
def test_rows_are_never_lost(rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    text = "t,particle,x,y\n" + "".join(",".join(row) + "\n" for row in rows) + "7,a,1,1\n8,a,1,1\n"
    path = written(tmp_path_factory.mktemp("table"), text)
    table = read_table(path)
    lines = sum(any(row) or len(row) > 1 for row in rows) + 2
    assert accounted(table) == table.ledger.rows == lines


def test_capitals_do_not_matter_and_a_unit_need_not_be_known() -> None:
    found = layout_of(["Time [fortnight]", "ID", "X [furlong]", "VX [furlong/fortnight]", "T"], Columns())
    assert (found.time, found.particle) == (0, 1)
    assert [(each.name, each.place, each.factor) for each in found.measured] == [
        ("X", 2, 1.0),
        ("VX", 3, 1.0),
    ]
    assert found.units == ("fortnight", "furlong")
    with pytest.raises(DataError, match="no column for the time"):
        layout_of(["T", "particle", "x"], Columns())


def test_a_capital_beside_plain_names_is_something_else() -> None:
    assert layout_of(["t", "particle", "x", "y", "Z"], Columns()).dim == 2


def test_cells_beyond_the_header_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,particle,x\n0,a,1\n1,a,2,\n2,a,3,5\n2.5,a,4\n")
    found = read_table(tmp_path / "a.csv")
    assert (found.ledger.used, list(found.ledger.refused.values())) == (3, [(4,)])
    assert "more cells than the 3 of the header, as of decimal commas" in next(iter(found.ledger.refused))


@pytest.mark.parametrize(
    ("time", "hint"),
    [
        ("2024-01-05 00:00", ": give the time since a moment"),
        ("5.1.2024", ": give the time since a moment"),
        ("12:30:05", ": give the time since a moment"),
        ("-1,5e3", ": write numbers without commas"),
        ("noon", r" \("),
        ("192.168.0.1", r" \("),
    ],
)
def test_times_that_are_no_numbers_are_shown(time: str, hint: str, tmp_path: Path) -> None:
    rows = f"t;particle;x\n{time};a;1\n{time};b;2\n"
    with pytest.raises(DataError, match=f"the time is no number, as '{time}'{hint}.*lines 2, 3"):
        read_table(written(tmp_path, rows))


def test_every_kind_of_time_that_is_no_number_is_told_alone(tmp_path: Path) -> None:
    rows = f"t;particle;x\ns;-;m\n0,25;a;1\n2024-01-05;a;1\n2024-01-06;a;1\n{'x' * 99};a;1\n"
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, rows))
    told = str(caught.value).split("; refused: ")[1:]
    assert [each.rsplit("(", 1)[1] for each in told] == ["lines 2, 6)", "line 3)", "lines 4, 5)"]
    assert ["'s'" in told[0], "'0,25': write" in told[1], "'2024-01-05': give" in told[2]] == [True] * 3
    with pytest.raises(DataError, match=f"'{'x' * 40}…'"):
        read_table(written(tmp_path, f"t,particle,x\n{'x' * 99},a,1\n"))
