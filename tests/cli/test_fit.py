"""The command that goes from a table to a Hamiltonian."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lie_sim.cli.fit as fit_module
from lie_sim.fitting import read_table
from tests.cli.conftest import Outcome

Command = Callable[..., Outcome]

SHORT = (
    "--imputer-steps", 2, "--fit-steps", 2, "--rounds", 1, "--end-steps", 0, "--width", 8, "--no-progress",
)  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    t = np.linspace(0, 4, 41)
    rows = [
        f"{time},{name},{sign * np.cos(time)},{sign * np.sin(time)}"
        for time in t
        for name, sign in (("a", 1), ("b", -1))
        if not (name == "a" and 1 < time < 1.5)
    ]
    path = tmp_path / "seen.csv"
    path.write_text("\n".join(["t [s],particle,x [m],y [m]", *rows, "soon,a,1,1"]) + "\n")
    return path


def test_a_table_becomes_a_folder(lie_sim: Command, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    done = lie_sim("fit", table, *SHORT, "--out", out)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:2] == [
        "79 rows: 78 used, 0 copies, 0 without a number, 1 refused",
        "refused: the time is no number, as 'soon' (line 80)",
    ]
    assert any(line.startswith("error of the forecast (m)") for line in lines)
    figures = json.loads((out / "fit.json").read_text())["errors"]
    others = min(figures["forecast_at_rest"], figures["forecast_straight"])
    assert ("The forecast is no better" in done.out) == (figures["forecast"] >= others)
    assert ("The forecast is no better" in (out / "report.html").read_text()) == (
        figures["forecast"] >= others
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "figures", "filled.csv", "fit.json", "forecast.csv", "model", "report.html", "stages",
    ]  # fmt: skip
    assert read_table(out / "filled.csv").tracks[0].values.shape == (33, 2, 2)


def test_check_only_reads(lie_sim: Command, table: Path, tmp_path: Path) -> None:
    done = lie_sim("fit", table, "--check", "--out", tmp_path / "fit")
    assert (done.code, done.out.count("\n")) == (0, 3)
    assert "particles a, b: 41 times from 0 to 4 s, 5 % of all values are missing" in done.out
    heavy = lie_sim("fit", table, "--check", "--masses", "2", "1")
    assert "masses: a 2, b 1" in heavy.out
    assert not (tmp_path / "fit").exists()


def test_ctrl_c_says_how_to_go_on(
    lie_sim: Command, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fitted", stopped)
    done = lie_sim("fit", table, "--out", tmp_path / "fit")
    assert done.code == 130
    assert done.err.rstrip().endswith(f"To go on: lie-sim fit {table} --out {tmp_path / 'fit'}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.csv"], "there is no table absent.csv"),
        (["--width", "8"], "name the table"),
        (["TABLE", "--columns.position", "east"], "there is no column 'east'"),
        (["TABLE", "--masses", "1", "2", "3"], "there are 2 particles (a, b) and 3 masses"),
        (["TABLE", "--holdout", "2"], "holdout must be from 0 to 0.9"),
        (["TABLE", "--colums.time", "t"], "did you mean --columns.time?"),
    ],
)
def test_mistakes_are_one_line(
    lie_sim: Command, table: Path, words: list[str], says: str, tmp_path: Path
) -> None:
    done = lie_sim("fit", *(table if word == "TABLE" else word for word in words), "--out", tmp_path / "fit")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert says in done.err
