"""The benchmarks of what is missing: their parts run, and hide what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

Script = Callable[[str], ModuleType]


def test_particles_are_out_of_sight_for_as_long_as_it_says(script: Script) -> None:
    occlusion = script("occlusion")
    values, period = occlusion.motions(20, seed=0)
    assert values.shape == (20, occlusion.FRAMES, occlusion.PARTICLES, 4)
    between = (values[:, 2:, :, :2] - values[:, :-2, :, :2]) / 2
    assert float((between - values[:, 1:-1, :, 2:]).abs().max()) < 0.1, "velocities are per frame"
    for kind, (low, high) in occlusion.KINDS.items():
        hidden = occlusion.out_of_sight(period, kind, seed=1)
        assert bool((hidden.any(1).any(-1).sum(-1) == 1).all()), "one particle"
        assert not bool(hidden[:, :4].any() or hidden[:, -4:].any())
        length = hidden.any(-1).any(-1).sum(1)
        assert bool((length <= (high * period).ceil().clamp(max=occlusion.FRAMES - 8)).all())
        assert bool((length >= (low * period).floor().clamp(max=occlusion.FRAMES - 8)).all())


def test_every_way_is_measured(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    occlusion = script("occlusion")
    monkeypatch.setattr(occlusion, "rivals", list)
    for name, value in {"VALIDATION": 4, "TEST": 6}.items():
        monkeypatch.setattr(occlusion, name, value)
    monkeypatch.setattr(
        "sys.argv", ["occlusion", "--budget", "0.1", "--seeds", "1", "--systems", "8", "--dry-run"]
    )
    occlusion.main()
    printed = capsys.readouterr().out
    assert all(
        f"rmse_{kind}_{name}" in printed
        for kind in ("long", "short")
        for name in ("spline", "hermite", "cdsa")
    )


def test_the_true_motion_conserves_its_energy_and_gaps_are_a_third(script: Script) -> None:
    gappy = script("gappy_fit")
    state, particles = gappy.states(3, seed=0)
    times = torch.linspace(0, 4, 9, dtype=torch.float64)
    q = gappy.motion(state, particles, times)
    back, _ = gappy.solve(gappy.force, state, particles, -times, tolerance=1e-9)
    assert q.shape == back.shape
    assert float(q.sum(2).abs().max()) < 1e-9, "the centre of mass rests"
    moved = gappy.solve(gappy.force, state, particles, times, tolerance=1e-9)

    def energy(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        stretched = (q[:, :, None] - q[:, None]).square().sum(-1) - gappy.REST**2
        stretched = stretched * ~torch.eye(gappy.PARTICLES, dtype=torch.bool)
        potential = gappy.STIFFNESS * stretched.square().sum((1, 2)) / (16 * gappy.REST**2)
        return p.square().sum((1, 2)) / 2 + potential

    begun, ended = energy(state.q, state.p), energy(moved[0][:, -1], moved[1][:, -1])
    assert float((ended / begun - 1).abs().max()) < 1e-7
    missing = gappy.gaps(np.random.default_rng(0))
    assert 0.3 <= missing.mean() <= 0.5
    assert not missing[[0, 1, -2, -1]].any()


def test_fits_to_gaps_are_compared(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    gappy = script("gappy_fit")
    for name, value in {"TRACKS": 2, "FRAMES": 61, "TEST": 2, "LONG": 0.5}.items():
        monkeypatch.setattr(gappy, name, value)
    recorded: dict[str, float] = {}
    monkeypatch.setattr(gappy, "show_and_record", lambda name, figures, *_, **__: recorded.update(figures))
    monkeypatch.setattr("sys.argv", ["gappy_fit", "--steps", "2", "--imputer-steps", "2", "--seeds", "1"])
    gappy.main()
    assert {f"rollout_{name}" for name in ("complete", "masked", "spline", "cdsa", "starts")} < set(recorded)
    closed = recorded["rollout_masked"] - recorded["rollout_cdsa"]
    assert recorded["gap_closed"] == pytest.approx(
        closed / (recorded["rollout_masked"] - recorded["rollout_complete"])
    )
    assert recorded["imputed_complete"] == pytest.approx(gappy.NOISE, rel=0.2)


def test_rivals_are_named_only_where_they_are_installed(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("pypots_rivals")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pypots" else object())
    assert module.rivals() == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert module.rivals() == ["saits", "saits_small", "brits"]


def test_tables_show_every_way(script: Script) -> None:
    tables = script("result_tables.gaps")
    result = {"command": "c", "date": "d", "machine": "m", "threads": 1, "versions": {}}
    figures = {f"mae_{kind}_{name}": 0.5 for kind in ("random", "outage") for name in tables.WEATHER} | {
        "coverage_random": 0.5,
        "coverage_outage": 0.4,
    }
    shown = tables.imputation(result | {"figures": figures})
    assert shown.count("| 0.500 | 0.500 |") == len(tables.WEATHER)
    figures = {f"rmse_{kind}_{name}": 0.25 for kind in ("long", "short") for name in ("spline", "cdsa")}
    shown = tables.occlusion(
        result | {"figures": figures | {"rmse_over_best_long": 0.6, "rmse_over_best_short": 1.1}}
    )
    assert "ours over the best of the others" in shown
    assert "SAITS" not in shown, "who was not measured is not there"
    names = ("complete", "masked", "spline", "cdsa", "starts")
    figures = {f"{what}_{name}": 0.1 for what in ("rollout", "imputed") for name in names}
    assert "60 %" in tables.gappy_fit(
        result | {"figures": figures | {"gap_closed": 0.6, "gap_closed_by_starts": 0.7}}
    )


def series(script: Script, places: int = 2, measurements: int = 2, count: int = 700) -> object:
    """A daily course, other at each place, with noise and gaps, as real_data gives it."""
    real = script("real_data")
    draw, t = np.random.default_rng(0), np.arange(count)
    level = np.stack([np.sin(2 * np.pi * t / 24 + k) for k in range(places * measurements)], -1)
    values = level.reshape(count, places, measurements) + 0.1 * draw.normal(
        size=(count, places, measurements)
    )
    values[draw.random(values.shape) < 0.02] = np.nan
    return real.Series(values, t, 24.0, window=36, stride=12, outage=6, longest=9, harmonics=2)


def test_real_series_are_cut_into_training_choice_and_test(script: Script) -> None:
    real, made = script("real_data"), series(script)
    known, held, test = made.parts()
    assert (made.last, made.cut) == (441, 490)
    assert known.times[:, 0].tolist() == list(range(0, 406, 12))
    assert held.times.tolist() == [list(range(441, 477))]
    assert test.times[0, 0] == 490, "nothing of the test is in the training"
    assert made.frequencies == pytest.approx([2 * np.pi / 24, 2 * np.pi / 12])
    scaled = real._scaled(np.stack([np.arange(100.0), 5 * np.arange(100.0)], -1))
    assert scaled[:70].mean() == pytest.approx(0, abs=1e-12)
    assert scaled[:70].std() == pytest.approx(1)


def test_imputation_hides_what_it_says_and_ridge_knows_the_other_stations(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    imputation, made = script("imputation"), series(script)
    _, _, test = made.parts()
    hidden = imputation.hidden_parts(test, made.outage, seed=0)
    assert float(hidden["random"].sum() / test.observed.sum()) == pytest.approx(imputation.SHARE, abs=0.03)
    assert bool((hidden["outage"].any(-1).sum(1).max(1).values == made.outage).all())
    values = made.values.copy()
    values[:, 1] = 0.5 * values[:, 0]
    one = type(test)(test.values.clone(), test.observed, test.times)
    one.values[:, :, 1] = 0.5 * one.values[:, :, 0]
    found = imputation.by_ridge(np.nan_to_num(values), one)
    assert float((found - one.values)[:, :, 1][test.observed[:, :, 0]].abs().max()) < 0.02
    recorded: dict[str, float] = {}
    monkeypatch.setattr(
        imputation, "show_and_record", lambda name, figures, *_, **__: recorded.update(figures)
    )
    monkeypatch.setattr(imputation, "ridership", lambda: made)
    monkeypatch.setattr(imputation, "rivals", list)
    monkeypatch.setattr("sys.argv", ["imputation", "ridership", "--budget", "0.1", "--seeds", "1"])
    imputation.main()
    names = ("linear", "places", "ridge", "cdsa")
    assert {f"mae_{kind}_{name}" for kind in ("random", "outage") for name in names} < set(recorded)


def test_landmarks_and_full_attention_see_the_same(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    linformer = script("time_linformer")
    recorded: dict[str, float] = {}
    made = series(script)
    monkeypatch.setattr(linformer, "record", lambda name, figures, **_: recorded.update(figures) or name)
    monkeypatch.setattr(linformer, "weather", lambda _: made)
    for name, value in {"WINDOW": 48, "LANDMARKS": 8, "LONGEST": 8, "REPEATS": 1}.items():
        monkeypatch.setattr(linformer, name, value)
    monkeypatch.setattr(linformer, "KINDS", {"full": 0, "landmarks": 8})
    monkeypatch.setattr("sys.argv", ["time_linformer", "--steps", "2", "--seeds", "1"])
    linformer.main()
    assert recorded["rmse_ratio"] == pytest.approx(recorded["rmse_landmarks"] / recorded["rmse_full"])
    assert {"speedup", "speedup_use"} < set(recorded)
    one, other = (linformer.model(kind, 0, made.frequencies, 2) for kind in ("full", "landmarks"))
    shared = dict(one.named_parameters())
    assert [name for name, _ in other.named_parameters() if name not in shared] == [
        f"trunk.layers.0.project.{k}" for k in range(2)
    ]


def test_forecasts_are_compared(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    forecast, made = script("forecast"), series(script, count=1000)
    recorded: dict[str, float] = {}
    monkeypatch.setattr(forecast, "show_and_record", lambda name, figures, *_, **__: recorded.update(figures))
    monkeypatch.setattr(forecast, "weather", lambda _: made)
    for name, value in {"PAST": 36, "NEXT": 24, "SEEN": 8, "AHEAD": 9, "TRACKS": 6, "FRAMES": 41}.items():
        monkeypatch.setattr(forecast, name, value)
    monkeypatch.setattr(forecast, "TEST", 3)
    monkeypatch.setattr("sys.argv", ["forecast", "--budget", "0.1", "--steps", "2", "--seeds", "1"])
    forecast.main()
    assert recorded["mae_weather_seasonal"] < 0.2 < recorded["mae_weather_persistence"], "a daily course"
    assert recorded["mae_weather_ridge"] < 0.2, "which a regression finds"
    names = ("persistence", "straight", "ridge", "cdsa")
    best = min(recorded[f"mae_springs_late_{name}"] for name in names)
    over = recorded["mae_springs_late_hamiltonian"] / best
    assert recorded["springs_late_hamiltonian_over_best"] == pytest.approx(over)


def test_the_last_report_is_kept_and_straight_lines_are_straight(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast = script("forecast")
    monkeypatch.setattr(forecast, "PAST", 4)
    monkeypatch.setattr(forecast, "SEEN", 4)
    x = torch.tensor([1.0, torch.nan, 3.0, torch.nan, 9.0]).reshape(1, 5, 1, 1)
    seen = forecast.Observations.of(x, torch.arange(5.0)[None])
    assert forecast._last(seen).flatten().tolist() == [1, 1, 3, 3]
    t = np.arange(6.0)
    line = torch.from_numpy(3 * t - 1).reshape(1, 6, 1, 1)
    torch.testing.assert_close(forecast._straight(line[:, :4], t), line[:, 4:])


def test_the_periods_of_real_series_are_looked_for(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    periods = script("periods")
    t = np.arange(24 * 20)
    day = np.sin(2 * np.pi * t / 24)[:, None] + 3 * np.sin(2 * np.pi * t / 160)[:, None]
    day += 0.1 * np.random.default_rng(0).normal(size=day.shape)
    day[100:130] = np.nan
    found = periods.found_periods(t, day)
    assert min(abs(each - 24) for each in found) < 0.05
    assert max(found) == pytest.approx(160, rel=0.06)


def test_tables_of_forecasts_and_periods(script: Script) -> None:
    tables = script("result_tables.gaps")
    result = {"command": "c", "date": "d", "machine": "m", "threads": 1, "versions": {}}
    figures = {f"mae_weather_{name}": 0.4 for name in ("persistence", "cdsa")}
    figures |= {
        f"mae_springs{late}_{name}": 0.3 for late in ("", "_late") for name in ("ridge", "hamiltonian")
    }
    shown = tables.forecast(result | {"figures": figures | {"springs_late_hamiltonian_over_best": 0.5}})
    assert "| 0.400 | – | – |" in shown
    assert "| – | 0.300 | 0.300 |" in shown
    figures = {"cities_year": 361.7, "cities_year_error": 0.0097, "cities_cycles_year": 2.0}
    assert "361.7" in tables.periods(result | {"figures": figures})
    figures = {
        "speedup": 4.0,
        "speedup_use": 5.0,
        "rmse_full": 0.5,
        "rmse_landmarks": 0.51,
        "rmse_ratio": 1.02,
    }
    assert "1.02" in tables.time_linformer(result | {"figures": figures})


def test_the_figure_of_forecasts_is_drawn(script: Script, tmp_path: Path) -> None:
    plots = script("plots")
    curves = {name: [0.1, 0.2] for name in plots.FORECASTS} | {"time": [0.1, 0.2]}
    plots.forecast(curves, tmp_path / "f.png")
    assert (tmp_path / "f.png").stat().st_size > 10_000
