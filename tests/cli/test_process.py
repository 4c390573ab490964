"""What only a process of its own shows: Ctrl-C, a closed pipe, the time of the help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lie_sim.experiments import SpringsExperiment
from lie_sim.rollout import StoredRollout

STEPS = 120
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "lie_sim.cli.main"]
HELP_SECONDS = 5.0
"""Far above the tenth that it takes: a loaded machine must not fail here."""


def _rows(folder: Path) -> list[dict[str, Any]]:
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_interrupted_training_says_how_to_go_on(
    tmp_path: Path, tiny: list[str], lie_sim: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    words = [str(folder), *tiny, "--training.max-steps", str(STEPS), "--training.log-every", "10"]
    process = subprocess.Popen(
        [*COMMAND, "train", "springs", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        until = time.monotonic() + 120
        while not _rows(folder) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.count("\n") == 1
    assert err.startswith("lie-sim train: training stopped after step ")
    assert f"To go on: lie-sim train --resume {folder}" in err
    done = len(_rows(folder))
    assert 0 < done < STEPS // 10
    monkeypatch.setattr(SpringsExperiment, "evaluate_run", lambda *_, **__: None)  # only the training matters
    resumed = lie_sim("train", "--resume", str(folder), "--no-progress")
    assert (resumed.code, resumed.err) == (0, "")
    assert [row["step"] for row in _rows(folder)] == list(range(10, STEPS + 1, 10))


def test_a_closed_pipe_is_no_error() -> None:
    script = f"'{sys.executable}' -m lie_sim.cli.main --help | true"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_come_quickly_and_without_torch(option: str) -> None:
    code = (
        f"import sys; from lie_sim.cli.main import main; assert main(['{option}']) == 0;"
        "assert not {'torch', 'numpy', 'lie_sim.experiments', 'matplotlib'} & set(sys.modules)"
    )
    begin = time.monotonic()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
    assert time.monotonic() - begin < HELP_SECONDS


def test_interrupted_rollout_is_continued_by_the_same_command(
    springs_run: Path, tmp_path: Path, lie_sim: Callable[..., Any]
) -> None:
    """Ctrl-C after some blocks, then the command of the message: the frames of a run that was not stopped."""
    folder = tmp_path / "stored"
    words = ["rollout", str(springs_run), "--num-systems", "2", "--method", "leapfrog", "--no-progress"]
    process = subprocess.Popen(
        [*COMMAND, *words, "--steps", "1000000", "--directory", str(folder), "--overwrite"],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        until = time.monotonic() + 120
        while not list(folder.glob("block-*")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, err.count("\n")) == (130, 1)
    assert err.endswith(f"To go on: lie-sim {' '.join(words)} --steps 1000000 --directory {folder}\n")
    done = StoredRollout(folder).num_frames
    assert done >= 16
    steps = [*words, "--steps", str(done + 10)]
    assert lie_sim(*steps, "--directory", str(folder)).code == 0
    assert lie_sim(*steps, "--directory", str(tmp_path / "calm")).code == 0
    assert torch.equal(StoredRollout(folder).load().q, StoredRollout(tmp_path / "calm").load().q)
