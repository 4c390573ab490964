"""The benchmark of pooling: all runs by name, resumed where it stopped, marked where it is not complete."""

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
def sag_pooling(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("sag_pooling")


def test_names_are_distinct_and_the_first_seed_comes_first(sag_pooling: ModuleType) -> None:
    parts = list(sag_pooling.parts())
    assert len({part.name for part in parts}) == len(parts) == 3 * 2 * 3 * 3 * 10
    assert {part.seed for part in parts[:180]} == {0}


def test_a_part_is_known_by_its_name(sag_pooling: ModuleType) -> None:
    for part in sag_pooling.parts():
        assert sag_pooling.Part.of(part.name) == part


def test_pools_are_compared_on_the_same_folds(sag_pooling: ModuleType) -> None:
    run = {"epochs": 3, "cpu_s": 1.0}
    kept = {f"MUTAG-global-sag-0-{fold}": run | {"accuracy": 0.1 * fold} for fold in range(3)}
    kept |= {f"MUTAG-global-mean-0-{fold}": run | {"accuracy": 0.5} for fold in range(1, 4)}
    kept["NCI1-global-sag-0-0"] = run | {"accuracy": 0.7}
    found = sag_pooling.summary(kept)
    assert {name: group["runs"] for name, group in found.items()} == {
        "MUTAG-global-mean": 2,
        "MUTAG-global-sag": 2,
        "NCI1-global-sag": 1,
    }
    assert found["MUTAG-global-sag"]["accuracy"] == pytest.approx(15.0)


def test_a_part_is_trained_and_tested(sag_pooling: ModuleType, tmp_path: Path) -> None:
    lines = {"A": "".join(f"{2 * k + 1}, {2 * k + 2}\n{2 * k + 2}, {2 * k + 1}\n" for k in range(30))}
    lines["graph_indicator"] = "".join(f"{k + 1}\n{k + 1}\n" for k in range(30))
    lines["graph_labels"] = "0\n1\n" * 15
    lines["node_labels"] = "0\n0\n1\n1\n" * 15
    (tmp_path / "MUTAG").mkdir()
    for name, text in lines.items():
        (tmp_path / "MUTAG" / f"MUTAG_{name}.txt").write_text(text)
    options = argparse.Namespace(folder=tmp_path, rate=1e-2, max_epochs=80)
    found = sag_pooling.run("MUTAG-global-sag-0-0", options)
    assert found["accuracy"] == 1.0


def test_parts_that_are_there_are_not_done_again_and_are_recorded(
    sag_pooling: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        done.append(command[command.index("--part") + 1])
        found = {"accuracy": 0.75, "validation_loss": 0.5, "epochs": 3, "cpu_s": 1.0}
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps(found))

    monkeypatch.setattr(subprocess, "run", run)
    kept = tmp_path / "kept"
    asked = ["--folder", str(tmp_path), "--keep", str(kept)]
    sag_pooling.main([*asked, "--only", "MUTAG-global-sag-0-[01]"])
    first = json.loads((kept / "MUTAG-global-sag-0-0.json").read_text())
    (kept / "MUTAG-global-sag-0-0.json").write_text(json.dumps(first | {"accuracy": 0.25}))
    sag_pooling.main([*asked, "--only", "MUTAG-global-sag-0-[012]"])
    assert done == [f"MUTAG-global-sag-0-{fold}" for fold in range(3)]

    written: dict[str, object] = {}
    monkeypatch.setattr(
        sag_pooling, "record", lambda name, figures, **rest: written.update(rest | {name: figures})
    )
    sag_pooling.main([*asked, "--record"])
    assert len(done) == 3
    assert written["sag_pooling"] == {"mutag": pytest.approx(100 * (0.25 + 0.75 + 0.75) / 3)}
    details: Any = written["details"]
    (group,) = details["groups"].values()
    assert details["parts"].keys() == {f"MUTAG-global-sag-0-{fold}" for fold in range(3)}
    assert (group["runs"], group["complete"]) == (3, False)
