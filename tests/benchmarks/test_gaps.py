"""The benchmarks of what is missing: their parts run, and hide what they say."""

from __future__ import annotations

from collections.abc import Callable
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
    monkeypatch.setattr(gappy, "record", lambda name, figures, **_: recorded.update(figures) or name)
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
    assert shown.count("| 0.50 | 0.50 |") + shown.count("| 0.5 | 0.5 |") == len(tables.WEATHER)
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
