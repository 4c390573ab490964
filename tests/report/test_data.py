"""ReportData keeps what it is given, through JSON and on disk, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lie_sim.errors import DataError
from lie_sim.report import ReportData, Table, TrajectoryView


def test_json_round_trip_is_exact(sample_report: ReportData) -> None:
    text = sample_report.to_json()
    again = ReportData.from_json(text)
    assert again.to_json() == text
    for before, after in zip(sample_report.trajectories, again.trajectories, strict=True):
        for field in dataclasses.fields(TrajectoryView):
            np.testing.assert_equal(getattr(after, field.name), getattr(before, field.name))
    assert again.trajectories[2].predicted is None
    assert again.tables[0].rows[1] == ["b", "not finite"]
    assert again.equivariance == sample_report.equivariance
    assert again.summary == sample_report.summary
    assert again.train_horizon == sample_report.train_horizon


def test_non_finite_numbers_survive_as_gaps(sample_report: ReportData) -> None:
    document = json.loads(sample_report.to_json(), parse_constant=pytest.fail)
    assert document["error_curves"]["fully connected HNN"][1][-1] is None
    again = ReportData.from_json(sample_report.to_json())
    assert np.isnan(again.error_curves["fully connected HNN"][1][180:]).all()
    assert np.isnan(again.trajectories[1].predicted[-1, 1]).all()
    assert again.comparison is not None
    assert again.comparison.rows[2][4] == "not finite"
    assert again.comparison.rows[3][2] is None  # not measured is not the same as diverged


def test_save_and_load(sample_report: ReportData, tmp_path: Path) -> None:
    path = sample_report.save(tmp_path / "run" / "report_data.json")
    assert ReportData.load(path).to_json() == sample_report.to_json()
    assert [entry.name for entry in path.parent.iterdir()] == [
        "report_data.json"
    ]  # no temporary file is left


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected the JSON of a report"),
        ("[]", 'expected a JSON object with "format"'),
        ('{"format":"lie_sim report","version":9}', "expected report version 1; got 9"),
        ('{"format":"lie_sim report","version":1}', "does not hold what it should"),
    ],
)
def test_damaged_report_is_a_data_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ReportData.from_json(text)


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        ReportData.load(tmp_path / "report_data.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"true": np.zeros((4, 3, 1)), "predicted": np.zeros((4, 3, 1))}, r"d = 2 or 3; got \(4, 3, 1\)"),
        ({"predicted": np.zeros((4, 2, 2))}, r"shape \(4, 3, 2\) of true; got \(4, 2, 2\)"),
        ({"times": np.array([0.0, 1.0, 1.0, 2.0])}, "increasing"),
        ({"times": np.arange(5.0)}, "4 increasing numbers"),
        ({"sizes": np.ones(2)}, r"sizes must have the shape \(3,\)"),
        ({"names": ["a"]}, "expected 3 names"),
        ({"colours": ["#ffffff"]}, "expected 3 colours"),
        ({"bonds": [[0, 3]]}, r"a bond joins two of the 3 particles; got \[0, 3\]"),
        ({"true": np.full((4, 3, 2), np.nan)}, "frame 0 is not"),
    ],
)
def test_trajectory_with_wrong_shapes_is_refused(change: dict[str, object], message: str) -> None:
    good = {
        "label": "x",
        "times": np.arange(4.0),
        "true": np.zeros((4, 3, 2)),
        "predicted": np.zeros((4, 3, 2)),
        "sizes": np.ones(3),
    }
    TrajectoryView(**good)
    with pytest.raises(ValueError, match=message):
        TrajectoryView(**{**good, **change})


def test_other_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown key 'val_loss'"):
        ReportData(title="x", learning_curve=[{"val_loss": 1.0}])
    with pytest.raises(ValueError, match=r"error_curves\['ours'\]"):
        ReportData(title="x", error_curves={"ours": (np.arange(3.0), np.arange(2.0))})
    with pytest.raises(ValueError, match="expected 2 cells"):
        Table(columns=["a", "b"], rows=[["only one"]])
    with pytest.raises(TypeError, match="got a object"):
        ReportData(title="x", configuration={"value": object()}).to_json()
