"""The integrator benchmarks run, count forces rightly, and their tables and picture show what they measured."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "integrators",
    "integrator_steps",
    "integrator_accuracy",
    "integrator_problems",
    "reversible",
    "record",
)
REVERSAL_ROUND_OFF = 1e-12

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="no benchmarks: these tests run away from the checkout"
)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The scripts as modules, with the folders of benchmarks and docs on the path, as when they are run."""
    for folder in ("benchmarks", "docs"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    threads = torch.get_num_threads()
    names = (*SCRIPTS, "result_tables.integrators", "plots")
    yield {name.split(".")[0]: importlib.import_module(name) for name in names}  # type: ignore[misc]
    torch.set_num_threads(threads)
    for name in (*SCRIPTS, "plots"):
        sys.modules.pop(name, None)


def test_quick_run_measures_and_is_shown(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["integrators.py", "--quick", "--skip", "own_compiled", "torchdiffeq"])
    written: dict[str, Any] = {}
    real = scripts["integrators"].accuracy_figures
    monkeypatch.setattr(
        scripts["integrators"], "accuracy_figures", lambda found: written.update(found) or real(found)
    )
    scripts["integrators"].main()
    shown = capsys.readouterr().out
    assert "skipped: torchode, diffrax, jax_md" in shown
    for name in (
        "overhead_own_us",
        "overhead_torchdiffeq_null_us",
        "energy_blanes_moan6",
        "lie_group_defect",
    ):
        assert name in shown
    scripts["plots"].work_precision(written["work_precision"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    drawn = {row["method"] for row in written["work_precision"]}
    assert drawn == set(scripts["plots"].STYLES), "a method has no colour, or a colour no method"
    result = {"details": written, "command": "x", "versions": {}, "threads": 1, "date": "", "machine": ""}
    assert "| leapfrog | 0.02 |" in scripts["result_tables"].integrator_energy(result)
    assert "DOP853" in scripts["result_tables"].integrator_work(result)


def test_forces_of_a_step_are_counted(scripts: dict[str, ModuleType]) -> None:
    steps = scripts["integrator_steps"]
    dynamics, q, p = steps.torch_dynamics("springs", 2, {})
    with torch.no_grad():
        own = steps.counted_forces("own", dynamics, q, p)
        others = steps.counted_forces("torchdiffeq", dynamics, q, p)
    assert set(own.values()) == {(1.0, 1.0)}
    assert {method: forces for method, (forces, _) in others.items()} == {
        "midpoint": 2,
        "rk4": 4,
        "dopri5": 6,
    }


def test_some_contestants_can_be_measured_again(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    main = scripts["integrators"]
    row = {
        "method": "leapfrog",
        "problem": "springs",
        "batch": 1,
        "forces": 1.0,
        "us": 9.0,
        "overhead_us": 4.0,
    }
    rows = [row | {"contestant": "own"}, row | {"contestant": "torchode", "method": "dopri5"}]
    record = {
        "command": "first",
        "figures": {"energy_leapfrog": 1e-5, "overhead_own_us": 4.0},
        "details": {"steps": rows, "rounds": 5},
    }
    (tmp_path / "integrators.json").write_text(json.dumps(record))
    written: dict[str, object] = {}
    monkeypatch.setattr(main, "RESULTS", tmp_path)
    monkeypatch.setattr(main, "record", lambda name, figures, **rest: written.update(figures=figures, **rest))
    main.again([rows[0] | {"overhead_us": 3.0}], argparse.Namespace(again=["own"]))
    assert written["figures"]["overhead_own_us"] == 3.0
    assert written["figures"]["overhead_torchode_dopri5_us"] == 4.0
    assert written["figures"]["energy_leapfrog"] == 1e-5
    assert [r["overhead_us"] for r in written["details"]["steps"]] == [3.0, 4.0]
    assert written["details"]["again"] == ["own"]
    assert written["earlier"] == "first"


def test_starting_costs_are_taken_off(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, clock = scripts["integrator_steps"], [0.0]
    monkeypatch.setattr(steps.time, "process_time", lambda: clock[0])

    def run(count: int) -> None:
        clock[0] += 1e-3 + count * 5e-6

    assert steps.microseconds(run, 0.01, extra=1000.0) == pytest.approx(5.0)


def test_trend_finds_a_slope_and_only_that(scripts: dict[str, ModuleType]) -> None:
    accuracy = scripts["integrator_accuracy"]
    x = torch.linspace(0, 1, 5001, dtype=torch.float64)
    wave = 1e-3 * torch.sin(700 * x)
    rise, half_width = accuracy.slope(wave)
    assert abs(rise) < half_width
    rise, half_width = accuracy.slope(wave + 1e-3 * x)
    assert rise == pytest.approx(1e-3, abs=half_width)
    assert half_width < 1e-3


def test_reference_solutions_agree_with_another_method(scripts: dict[str, ModuleType]) -> None:
    accuracy = scripts["integrator_accuracy"]
    for name, make in scripts["integrator_problems"].WORK_PRECISION.items():
        if name != "six bodies, Plummer":
            error, _ = accuracy.splitting_row(make(), "kahan_li8", 5000)
            assert error < 1e-6, f"{name}: {error:.1e}"


def test_steps_are_shown_where_rivals_are_missing(scripts: dict[str, ModuleType]) -> None:
    rows = [
        {"contestant": c, "method": "leapfrog", "problem": problem, "batch": batch, "forces": 1.0}
        | {"us": 20.0 + batch, "force_us": 10.0, "overhead_us": 10.0 + batch}
        for c in ("own", "own_compiled")
        for problem in ("null", "springs", "lietransformer")
        for batch in (1, 64)
    ]
    result = {"details": {"steps": rows, "rounds": 1, "rivals": {}}, "command": "x", "versions": {}}
    shown = scripts["result_tables"].integrator_steps(result | {"threads": 1, "date": "", "machine": ""})
    assert shown.count("| **ours**: leapfrog | 1 | 21 | 21 (11) | 84 (74) |") == 1
    figures = scripts["integrators"].step_figures(rows)
    assert figures["overhead_own_64_us"] == 74.0
    assert "compiled_speedup" not in figures


def test_gradients_of_all_adjoints_agree(scripts: dict[str, ModuleType]) -> None:
    reversible = scripts["reversible"]
    model, q, p = reversible.set_up("small")
    exact = reversible.gradient(model, q, p, "autograd", 20)
    for adjoint in ("checkpoint", "reversible"):
        error = (reversible.gradient(model, q, p, adjoint, 20) - exact).abs().max() / exact.abs().max()
        assert error < REVERSAL_ROUND_OFF, f"{adjoint}: {error:.1e}"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the memory counters of Linux")
def test_memory_is_measured_in_a_process_of_its_own(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    found = {
        name: scripts["reversible"].in_own_process(name, 40, "pairs", tmp_path / "gradient.npy")
        for name in ("autograd", "reversible")
    }
    assert found["reversible"]["extra_mib"] < 0.2 * found["autograd"]["extra_mib"]
    assert all(math.isfinite(row["cpu_s"]) for row in found.values())


def test_reversible_results_are_shown(scripts: dict[str, ModuleType]) -> None:
    runs = [{"adjoint": "reversible", "steps": 10, "extra_mib": 1.5}]
    made_up = {"figures": {"time_ratio": 1.4, "grad_error_100": 1e-15}, "details": {"runs": runs}}
    result = json.loads(json.dumps(made_up))
    shown = scripts["result_tables"].reversible(
        result | {"command": "x", "versions": {}, "threads": 1, "date": "", "machine": ""}
    )
    assert "| **reversible** | 1.5 | 1.4 | 1.0e-15 | – |" in shown
    assert "| autograd | – | 1 | – | – |" in shown
