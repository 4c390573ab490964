"""The demonstration with a second of training for each model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lie_sim.experiments import open_run
from lie_sim.experiments.demo import CONNECTED, FREE, OURS, PAPER, DemoConfig, run_demo
from lie_sim.report import ReportData


@pytest.mark.slow
def test_four_models_are_compared(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    config = DemoConfig(cpu_seconds=1, num_train=20, num_validation=4, num_test=2, long_steps=10)
    rows = run_demo(tmp_path, config, progress=False)
    assert torch.get_num_threads() == threads
    assert list(rows) == [OURS, PAPER, CONNECTED, FREE]
    assert (rows[OURS]["parameters"], rows[PAPER]["parameters"]) == (11_979, 841_641)
    for name, row in rows.items():
        assert "mse10" in row
        assert 0 < row["mse5"] < 1  # a second of training is little: nothing is said about the order
        assert (row["cpu_seconds"] >= 1) == (name != FREE)
    assert json.loads((tmp_path / "comparison.json").read_bytes()) == rows
    report = ReportData.load(tmp_path / "report_data.json")
    assert set(report.error_curves) == set(rows)
    assert report.comparison is not None
    assert [row[0] for row in report.comparison.rows] == list(rows)
    assert (tmp_path / "report.html").is_file()
    assert open_run(tmp_path).config == config.experiment().config
