"""A run that is trained once, in seconds, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lie_sim.cli.main import main

TINY = [
    *("--num-train=8", "--num-validation=4", "--num-test=4", "--long-steps=10", "--training.max-steps=3"),
    *("--training.batch-size=4", "--model.width=8", "--model.num-heads=2", "--model.kernel-hidden=8"),
    "--no-progress",
]


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def lie_sim(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*words: object) -> Outcome:
        capfd.readouterr()
        code = main([str(word) for word in words])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def tiny() -> list[str]:
    """Options of a run of three steps."""
    return list(TINY)


@pytest.fixture(scope="session")
def springs_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the springs experiment; tests may add files to it, not change it."""
    folder = tmp_path_factory.mktemp("runs") / "springs"
    assert main(["train", "springs", str(folder), *TINY]) == 0
    return folder
