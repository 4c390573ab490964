"""From a table with gaps to a Hamiltonian: the stages alone, and all of them together."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lie_sim import Hamiltonian, load_model
from lie_sim.checkpoint import model_metadata
from lie_sim.errors import CheckpointError, ConfigError, DataError
from lie_sim.fitting import (
    Fit,
    FitConfig,
    Ledger,
    ObservedTable,
    Shooting,
    ShootingTask,
    Track,
    fit,
    read_table,
    save_fit,
)
from lie_sim.fitting.forecast import FittedTrack, _errors
from lie_sim.fitting.gaps import Filled, fill, fitted_imputer
from lie_sim.fitting.page import report_of
from lie_sim.fitting.segments import Segments
from lie_sim.fitting.shooting import segment_tensors
from lie_sim.fitting.units import units_of
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles
from lie_sim.training import TrainingConfig

QUICK = FitConfig(imputer_steps=3, fit_steps=3, rounds=2, width=8, segment=8, end_steps=0)
EMPTY = Ledger(0, 0, 0, 0, {}, ())


class Spring(EnergyModel):
    """V = k/2 Σ_{i<j} |q_i − q_j|², of which k is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log_k = torch.nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def forward(self, q: Tensor, particles: Particles, neighbours: NeighbourMatrix | None = None) -> Tensor:
        apart = (q[:, :, None] - q[:, None]).square().sum(-1)
        return self.log_k.exp() * apart.sum(-1) / 4


def pair(k: float = 2.0, noise: float = 0.0, count: int = 81, seed: int = 0) -> ObservedTable:
    """Two particles on a spring, in two dimensions: both circle with ω² = 2k."""
    t = np.linspace(0, 8, count)
    angle = np.sqrt(2 * k) * t
    x = np.stack([np.cos(angle), 0.5 * np.sin(angle)], axis=-1)
    values = np.stack([x, -x], axis=1)
    rng = np.random.default_rng(seed)
    values = values + noise * rng.standard_normal(values.shape)
    values[20:28, 0] = np.nan
    values[rng.random(values.shape[:2]) < 0.1] = np.nan
    track = Track("", 3 * t + 100, 10 * values)  # in other units
    return ObservedTable((track,), ("a", "b"), 2, ("x", "y"), ("ms", "mm"), EMPTY)


@pytest.fixture(scope="module")
def found() -> tuple[ObservedTable, Fit]:
    table = pair(noise=0.01)
    return table, fit(table, QUICK)


def test_shooting_finds_the_stiffness_and_the_gaps() -> None:
    table = pair(k=2.0, noise=0.01)
    units = units_of(table.tracks, 2)
    track = table.tracks[0]
    known = [Track("", track.times / units.time, track.values / units.length)]
    particles = Particles(masses=torch.ones(1, 2, dtype=torch.float64))
    segments = Segments(known, 2, particles, 16)
    line = np.stack(
        [
            np.interp(known[0].times, known[0].times[np.isfinite(x)], x[np.isfinite(x)])
            for x in known[0].values.reshape(81, 4).T
        ],
        -1,
    )
    filled = [Filled(line.reshape(81, 2, 2), np.full((81, 2, 2), 0.1))]
    shooting = Shooting(Hamiltonian(Spring()), *segments.starts(filled))
    task = ShootingTask(segments.tensors(filled, 0.02, trusted=True), joint=0.05, step_size=0.05)
    batch = task.batch(torch.arange(len(task._train["last"])), torch.Generator())
    optimizer = torch.optim.Adam(shooting.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        task.loss(shooting, batch).backward()
        optimizer.step()
    again, noise = segments.refilled(shooting)
    expected = 2.0 * (units.time / 3) ** 2
    assert isinstance(shooting.hamiltonian.potential, Spring)
    assert float(shooting.hamiltonian.potential.log_k.exp().detach()) == pytest.approx(expected, rel=0.02)
    assert 0.01 < noise < 0.03
    angle = 2.0 * (track.times - 100) / 3
    truth = 10 / units.length * np.stack([np.cos(angle), 0.5 * np.sin(angle)], -1)
    gap = slice(20, 28)
    off = np.abs(again[0].values[gap, 0] - truth[gap]).max()
    assert off < 0.05 < np.abs(line.reshape(81, 2, 2)[gap, 0] - truth[gap]).max()


def test_short_tracks_do_not_spoil_what_is_learned_of_long_ones() -> None:
    long, short = (
        pair(noise=0.01).tracks[0],
        Track("s", np.arange(5.0), np.random.default_rng(0).normal(size=(5, 2, 2))),
    )
    training = TrainingConfig(max_steps=2, batch_size=4)
    _, alone = fitted_imputer([long], 2, window=32, training=training)
    model, beside = fitted_imputer([short, long], 2, window=32, training=training)
    assert alone == beside
    assert [each.values.shape[0] for each in fill(model, [short, long], window=32)] == [5, 81]


def test_a_forecast_that_is_not_finite_is_no_good_one_and_rivals_know_only_the_data() -> None:
    t = np.arange(9.0)
    x = (2 * t)[:, None, None]
    forecast = np.array([99.0, np.nan, np.nan, np.nan]).reshape(4, 1, 1)
    track = FittedTrack("", t, np.ones_like(x, dtype=bool), x, 0 * x, 6, t[5:], forecast)
    found = _errors([track], 1)
    assert not np.isfinite(found["forecast"])
    assert found["forecast_straight"] == pytest.approx(0.0, abs=1e-12)
    assert found["forecast_at_rest"] == pytest.approx(np.sqrt((4 + 16 + 36) / 3))


def test_a_large_origin_of_time_changes_nothing(found: tuple[ObservedTable, Fit]) -> None:
    table, before = found
    later = replace(table.tracks[0], times=table.tracks[0].times + 2.0**31)
    after = fit(replace(table, tracks=(later,)), QUICK)
    assert after.tracks[0].future[0] == later.times[before.tracks[0].fitted - 1]
    np.testing.assert_allclose(after.tracks[0].forecast, before.tracks[0].forecast, rtol=1e-3, atol=1e-2)


def test_positions_far_from_the_origin_are_as_good(found: tuple[ObservedTable, Fit]) -> None:
    table, before = found
    moved = replace(table.tracks[0], values=table.tracks[0].values + 1e7)
    after = fit(replace(table, tracks=(moved,)), QUICK)
    np.testing.assert_allclose(after.tracks[0].values - 1e7, before.tracks[0].values, atol=1e-2)
    assert after.figures["imputed"] == pytest.approx(before.figures["imputed"], rel=1e-3)


def test_a_refused_restart_keeps_the_run(tmp_path: Path) -> None:
    (tmp_path / "run" / "stages").mkdir(parents=True)
    with pytest.raises(ConfigError, match="3 masses"):
        fit(pair(), replace(QUICK, masses=(1.0, 1.0, 1.0)), tmp_path / "run", restart=True)
    assert (tmp_path / "run" / "stages").exists()


def test_the_state_at_the_end_is_fitted_unless_it_is_not_asked_for(found: tuple[ObservedTable, Fit]) -> None:
    table, before = found
    after = fit(table, replace(QUICK, end_steps=1))
    assert not np.array_equal(after.tracks[0].forecast, before.tracks[0].forecast)
    np.testing.assert_array_equal(after.tracks[0].values, before.tracks[0].values)


def test_a_given_noise_is_kept_and_the_generator_of_the_caller_too() -> None:
    before = torch.get_rng_state()
    fitted = fit(pair(noise=0.01), replace(QUICK, noise=0.07, fit_steps=1, imputer_steps=1))
    assert fitted.figures["noise"] == pytest.approx(0.07)
    assert torch.equal(torch.get_rng_state(), before)


def test_everything_together(found: tuple[ObservedTable, Fit]) -> None:
    table, fitted = found
    track, seen = fitted.tracks[0], table.tracks[0]
    end = track.fitted
    assert end == 65
    there = np.isfinite(seen.values[:end])
    np.testing.assert_array_equal(track.values[:end][there], seen.values[:end][there])
    assert np.isfinite(track.values[:end]).all()
    assert ((track.scale[:end] > 0) == ~there).all()
    assert track.future[0] == pytest.approx(seen.times[end - 1])
    assert track.future[-1] == pytest.approx(seen.times[-1] + 0.5 * np.ptp(seen.times))
    assert set(fitted.figures) == {
        "noise",
        "residual",
        "imputed",
        "forecast",
        "forecast_at_rest",
        "forecast_straight",
    }


def test_what_was_held_out_is_not_seen(found: tuple[ObservedTable, Fit]) -> None:
    table, before = found
    values = table.tracks[0].values.copy()
    values[before.tracks[0].fitted :] = 7.0
    changed = replace(table, tracks=(replace(table.tracks[0], values=values),))
    after = fit(changed, QUICK)
    np.testing.assert_array_equal(after.tracks[0].forecast, before.tracks[0].forecast)
    assert after.figures["forecast"] != before.figures["forecast"]


def test_the_same_call_goes_on_and_ends_the_same(
    tmp_path: Path, found: tuple[ObservedTable, Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, whole = found

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["lie_sim.fitting.fit"], "ShootingTask", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(table, QUICK, tmp_path / "run")
    monkeypatch.undo()
    resumed = fit(table, QUICK, tmp_path / "run")
    np.testing.assert_array_equal(resumed.tracks[0].forecast, whole.tracks[0].forecast)
    other = replace(QUICK, imputer_steps=4)
    told = "holds a fit to another table, or with other masses or options.* imputer_steps"
    with pytest.raises(ConfigError, match=told):
        fit(table, other, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"run holds a fit to another table.* restart=True, --restart"):
        fit(table, replace(QUICK, masses=(1.0, 2.0)), tmp_path / "run")
    assert fit(table, other, tmp_path / "run", restart=True).figures != whole.figures


def test_files_can_be_read_back(found: tuple[ObservedTable, Fit], tmp_path: Path) -> None:
    table, fitted = found
    folder = save_fit(fitted, table, tmp_path / "out")
    again = read_table(folder / "filled.csv")
    assert (again.units, again.particles, again.measurements) == (("ms", "mm"), ("a", "b"), ("x", "y"))
    end = fitted.tracks[0].fitted
    np.testing.assert_array_equal(again.tracks[0].values, fitted.tracks[0].values[:end])
    ahead = read_table(folder / "forecast.csv").tracks[0]
    np.testing.assert_array_equal(ahead.values, fitted.tracks[0].forecast)
    assert model_metadata(folder / "model")["units"]["length"] == [fitted.units.length, "mm"]
    assert isinstance(load_model(folder / "model"), Hamiltonian)
    facts = json.loads((folder / "fit.json").read_text())
    assert facts["errors"] == fitted.figures
    assert facts["masses"] == {"a": 1.0, "b": 1.0}
    page = (folder / "report.html").read_text()
    assert "What became of every row" in page
    assert "masses_over_their_mean" in page
    better = {"forecast": 1.0, "forecast_at_rest": 2.0, "forecast_straight": 1.5}
    for forecast, said in ((1.0, False), (1.5, True), (float("nan"), True)):
        judged = replace(fitted, figures=better | {"forecast": forecast})
        assert (report_of(judged, table).tables[1].note.count("no better than rest") == 1) == said
    assert not replace(fitted, figures={"noise": 1.0}).warning


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"masses": (1.0, -1.0)}, "masses must be positive"),
        ({"masses": (float("nan"),)}, "masses must be positive"),
        ({"forecast": float("nan")}, "forecast not negative"),
        ({"holdout": 1.0}, "holdout must be from 0 to 0.9"),
        ({"noise": 0.0}, "noise must be positive"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"end_steps": -1}, "end_steps must not be negative"),
        ({"window": 3}, "window must be at least 4"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(QUICK, **options)


def test_without_a_folder_an_error_speaks_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("no such thing")

    monkeypatch.setattr(sys.modules["lie_sim.fitting.fit"], "fitted_imputer", refuse)
    with pytest.raises(ConfigError, match=r"^no such thing$"):
        fit(pair(), QUICK)


def test_what_does_not_fit_is_named() -> None:
    table = pair()
    with pytest.raises(ConfigError, match=r"2 particles \(a, b\) and 3 masses"):
        fit(table, replace(QUICK, masses=(1.0, 1.0, 1.0)))
    short = replace(
        table, tracks=(Track("", np.arange(4.0), np.random.default_rng(0).normal(size=(4, 2, 2))),)
    )
    with pytest.raises(DataError, match="the table has 4 times, 3 of them to fit: at least 4"):
        fit(short, QUICK)
    late = table.tracks[0].values.copy()
    late[2:65, 1] = np.nan
    with pytest.raises(
        DataError, match="b is seen less than 3 times in the fitted part: leave it out, or hold less"
    ):
        fit(replace(table, tracks=(replace(table.tracks[0], values=late),)), QUICK)
    with pytest.raises(ValueError, match="width"):
        fit(table, replace(QUICK, width=5))
    x, one = torch.zeros(3, 1, 1).double(), Particles(masses=torch.ones(1, 1).double())
    task = ShootingTask(
        segment_tensors(x, x + 1, torch.arange(3.0).double(), one, steps=2), joint=1.0, step_size=1.0
    )
    with pytest.raises(TypeError, match="for a Shooting, got Linear"):
        task.validate(torch.nn.Linear(1, 1))
