"""Figures on disk are JSON whatever was measured."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from torch import nn

from lie_sim.cli.main import main
from lie_sim.errors import DataError
from lie_sim.experiments import Evaluation, Experiment, read_results
from lie_sim.experiments.results import write_figures
from lie_sim.training import TrainingConfig

MEASURED = {"mse": 0.5, "drift": math.nan, "largest": math.inf, "count": 3}


@dataclass(frozen=True)
class Options:
    training: TrainingConfig = field(default_factory=TrainingConfig)


class Diverged(Experiment[Options]):
    """An evaluation with figures that are not finite."""

    name = "diverged"
    Config = Options

    def build(self) -> nn.Module:
        return nn.Linear(1, 1)

    def task(self) -> Any:
        raise NotImplementedError

    def evaluate(self, module: nn.Module, *, progress: bool = True) -> Evaluation:
        return Evaluation(results=dict(MEASURED))


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def test_an_evaluation_that_diverged_is_written_as_json_and_read_as_nan(tmp_path: Path) -> None:
    found = Diverged(Options()).evaluate_run(tmp_path, nn.Linear(1, 1), progress=False)
    assert math.isnan(found.results["drift"])  # in memory it is what was measured
    text = (tmp_path / "results.json").read_bytes()
    assert json.loads(text, parse_constant=refuse) == {"mse": 0.5, "drift": None, "largest": None, "count": 3}
    read = read_results(tmp_path)
    assert list(read) == list(MEASURED)
    assert read["mse"] == 0.5
    assert math.isnan(read["drift"])
    assert math.isnan(read["largest"])


def test_the_command_line_shows_a_figure_that_is_not_finite(
    tmp_path: Path, springs_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(springs_run, tmp_path / "run"))
    write_figures(folder / "results.json", {"mse5": math.nan})
    assert main(["info", str(folder)]) == 0
    assert "not finite" in capsys.readouterr().out


def test_tables_of_figures(tmp_path: Path) -> None:
    write_figures(tmp_path / "table.json", {"ours": {"mse": math.nan}, "theirs": {"mse": 1.0}})
    text = (tmp_path / "table.json").read_bytes()
    assert json.loads(text, parse_constant=refuse) == {"ours": {"mse": None}, "theirs": {"mse": 1.0}}


@pytest.mark.parametrize("text", ["", "[1]", '{"mse": "x"}', '{"mse": [1]}'])
def test_damaged_results_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results.json is damaged: evaluate the run again"):
        read_results(tmp_path)


def test_no_results_yet(tmp_path: Path) -> None:
    assert read_results(tmp_path) == {}
