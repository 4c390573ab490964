"""The benchmark of low rank: its parts run, are resumed, and give the figures that they should."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def low_rank(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script("low_rank")
    for name, value in {"BODIES": 20, "TESTS": 1, "REPEATS": 1, "ROLLOUT_STEPS": 1}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("cost-full-20", "cpu_s"),
        ("rollout-induced-30", "peak_gib"),
        ("learn-local-0-1", "error"),
        ("clumps-induced-2-0", "error"),
    ],
)
def test_every_kind_of_part_runs(low_rank: ModuleType, name: str, quantity: str) -> None:
    assert low_rank.run(name, argparse.Namespace(steps=2, rate=1e-2))[quantity] > 0


def test_parts_that_are_there_are_not_done_again_and_are_recorded(
    low_rank: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        done.append(command[command.index("--part") + 1])
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps({"error": 0.5}))

    monkeypatch.setattr(subprocess, "run", run)
    asked = ["--keep", str(tmp_path)]
    low_rank.main([*asked, "--only", "learn-local-0-0"])
    for seed, error in enumerate((0.8, 1.2)):
        part = {"error": error, "asked": {"steps": 100, "rate": 0.01}}
        (tmp_path / f"learn-local-0-{seed}.json").write_text(json.dumps(part))
    low_rank.main([*asked, "--only", "learn-*-[01]"])
    expected = [f"learn-induced-{k}-{seed}" for seed in (0, 1) for k in (1, 4, 16)]
    assert done == ["learn-local-0-0", *expected, "learn-full-0-0", "learn-full-0-1"]
    written: dict[str, Any] = {}
    monkeypatch.setattr(low_rank, "record", lambda name, figures, **_: written.update(figures))
    low_rank.main([*asked, "--record"])
    assert (written["gain_over_cutoff"], written["force_rmse_over_full"]) == (2.0, 1.0)
    assert written["error_k1_std"] == 0.0
    assert len(done) == 9


def test_another_seed_has_other_weights_and_other_boxes(low_rank: ModuleType) -> None:
    options = argparse.Namespace(steps=1, rate=0.0)
    errors = [low_rank.run(f"learn-local-0-{seed}", options)["error"] for seed in (0, 1, 0)]
    assert errors[0] == errors[2] != errors[1]
    assert not low_rank.box(0)[0].equal(low_rank.box(low_rank.BOXES)[0])


def test_exponents_are_slopes_and_the_largest_system_is_extrapolated(low_rank: ModuleType) -> None:
    kept = {f"cost-full-{size}": {"cpu_s": 1e-6 * size**2, "gib": 1.0} for size in (500, 1000, 2000)}
    kept |= {
        f"cost-induced-{size}": {"cpu_s": 1e-4 * size, "gib": 1e-3 * size}
        for size in (1000, 2000, 4000, 8000, 16000)
    }
    found = low_rank.figures(kept)
    assert found["full_exponent_time"] == pytest.approx(2)
    assert found["exponent_memory"] == pytest.approx(1)
    assert found["speedup_16k"] == pytest.approx(160)
    assert "force_rmse_over_full" not in found
    del kept["cost-induced-2000"]
    assert "speedup_2000" not in low_rank.figures(kept)
