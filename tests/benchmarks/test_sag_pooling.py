"""The benchmark of pooling: all runs by name, resumed where it stopped, marked where it is not complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def sag_pooling(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("sag_pooling")


def test_names_are_distinct_and_the_first_seed_comes_first(sag_pooling: ModuleType) -> None:
    parts = list(sag_pooling.parts())
    assert len({part.name for part in parts}) == len(parts) == 3 * 2 * 3 * 3 * 10
    assert {part.seed for part in parts[:180]} == {0}


def test_parts_that_are_there_are_not_done_again_and_are_recorded(
    sag_pooling: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run(part: object, data: object, options: object) -> dict[str, float]:
        done.append(part.name)  # type: ignore[attr-defined]
        return {"accuracy": 0.75, "validation_loss": 0.5, "epochs": 3, "cpu_s": 1.0, "rate": 5e-4}

    monkeypatch.setattr(sag_pooling, "run", run)
    monkeypatch.setattr(sag_pooling, "dataset", lambda name, folder: None)
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
    (group,) = written["details"].values()  # type: ignore[attr-defined]
    assert (group["runs"], group["complete"]) == (3, False)
