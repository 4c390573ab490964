"""Messages of the command line call options as one types them, and leave everything else alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lie_sim.cli.errors import in_options

Command = Callable[..., Any]
OPTIONS = (
    "--num-train",
    "--dynamics.max-cpu-seconds",
    "--training.max-cpu-seconds",
    "--model.cut-off",
    "--other.cut-off",
    "--model.gated-values",
    "--model.no-gated-values",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_train must be 3.", "--num-train must be 3."),
        ("give num_train=3", "give --num-train=3"),
        ("options (num_train was 8)", "options (--num-train was 8)"),
        ("give training.max_cpu_seconds", "give --training.max-cpu-seconds"),
        ("give max_cpu_seconds", "give --training.max-cpu-seconds"),
        ("use gated_values=False", "use --model.no-gated-values"),
        ("cut_off is of two", "cut_off is of two"),
        ("config(num_train=3)", "config(num_train=3)"),
        ("'my num_train set'", "'my num_train set'"),
        ("`num_train`", "`num_train`"),
        ("http://x.org/a?num_train=3", "http://x.org/a?num_train=3"),
        ("runs/num_train/num_train.xyz", "runs/num_train/num_train.xyz"),
        ("a.toml: num_train must be 3", "a.toml: num_train must be 3"),
        ("unknown key x; allowed keys are num_train", "unknown key x; allowed keys are num_train"),
    ],
)
def test_names_of_options(text: str, expected: str) -> None:
    assert in_options(text, OPTIONS) == expected


def test_a_folder_may_be_called_like_an_option(
    lie_sim: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absent = lie_sim("train", "molecules", "run", "--data", "num_train")
    assert (absent.code, "num_train" in absent.err, "--num-train" in absent.err) == (2, True, False)
    space = lie_sim("tune", "springs", "run", "--space", "num_trains=int:1,2")
    assert (space.code, "allowed keys are num_train" in space.err) == (2, True)
