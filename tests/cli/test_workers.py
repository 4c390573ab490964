"""Commands that train on workers: what they refuse, before anything is written or Ray is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lie_sim.cli import train as train_command
from lie_sim.cli import tune as tune_command
from lie_sim.distributed import Trial

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "two"], "--workers must be a number, or the smallest and the largest as in 2:8"),
        (["--workers", "4:2"], r"(smallest, largest) number of them; got (4, 2)"),
        (["--address", "auto"], "--address auto needs --workers"),
    ],
)
def test_impossible_workers(words: list[str], message: str, lie_sim: Run, tmp_path: Path) -> None:
    found = lie_sim("train", "springs", tmp_path / "run", *words)
    assert found.code == 2
    assert message in found.err
    assert not (tmp_path / "run").exists()


def test_workers_are_passed_on_and_named_when_stopped(
    lie_sim: Run, springs_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def interrupted(experiment: Any, **options: Any) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "train_anywhere", interrupted)
    words = ("--workers", "1:2", "--address", "auto")
    found = lie_sim("train", "--resume", springs_run, *words)
    assert found.code == 130
    assert f"lie-sim train --resume {springs_run} --workers 1:2 --address auto" in found.err
    assert (given["workers"], given["address"]) == ((1, 2), "auto")


def test_a_search_is_described_on_the_command_line(
    lie_sim: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def search(experiment: Any, space: Any, **options: Any) -> list[Trial]:
        given.update(options, space=space, experiment=experiment)
        return [Trial(1, {"training.learning_rate": 0.01}, tmp_path, 30, 0.5, "finished")]

    monkeypatch.setattr(tune_command, "search", search)
    space = ["--space", "training.learning-rate=log:1e-4,1e-2", "model.width=choice:8,16"]
    found = lie_sim("tune", "springs", tmp_path, *space, "--samples", 3, "--training.max-steps", 30)
    assert found.code == 0, found.err
    assert given["space"] == {"training.learning_rate": "log:1e-4,1e-2", "model.width": "choice:8,16"}
    assert (given["samples"], given["experiment"].training.max_steps) == (3, 30)
    assert "0.5 after 30 steps: training.learning_rate = 0.01" in found.out
    assert "--space takes OPTION=VALUES" in lie_sim("tune", "springs", tmp_path, "--space", "width").err


def test_learning_needs_data(lie_sim: Run, tmp_path: Path) -> None:
    found = lie_sim("learn", tmp_path / "learn", "--calculator", "emt")
    assert found.code == 2
    assert "give a file of structures" in found.err
    assert not (tmp_path / "learn").exists()
