"""The solar-system experiment on half a year of planets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lie_sim.experiments import SolarConfig, SolarExperiment, open_run
from lie_sim.experiments.solar import WINDOW, position_error
from lie_sim.systems import SolarSystem

SAME = 1e-9  # AU; rounding over 200 days


@pytest.fixture(scope="module")
def experiment() -> SolarExperiment:
    config = SolarConfig(train_start="1999-06-15", train_end="2000-01-01", test_end="2000-07-19")
    training = replace(config.training, max_steps=30, batch_size=8, warmup_steps=3, validate_every=10)
    return SolarExperiment(replace(config, training=training))


def test_a_short_run_beats_circles_and_lines_and_says_so(experiment: SolarExperiment, tmp_path: Path) -> None:
    experiment.run(tmp_path, progress=False)
    assert open_run(tmp_path).config == experiment.config
    results = json.loads((tmp_path / "results.json").read_bytes())
    assert set(results) == {
        *("rms_error_au", "newton_rms_error_au", "error_over_newton", "error_over_newton_worst_body"),
        *("error_over_newton_median_body", "circular_rms_error_au", "constant_velocity_rms_error_au"),
        "distance_to_newton_rms_au",
    }
    assert results["newton_rms_error_au"] < 1e-2
    assert results["newton_rms_error_au"] < results["circular_rms_error_au"]
    assert results["circular_rms_error_au"] < results["constant_velocity_rms_error_au"]
    assert results["rms_error_au"] < results["constant_velocity_rms_error_au"]
    assert results["error_over_newton"] == pytest.approx(
        results["rms_error_au"] / results["newton_rms_error_au"]
    )


def test_training_ends_where_the_prediction_begins(experiment: SolarExperiment) -> None:
    train, validation = experiment._windows
    truth = SolarSystem().ephemeris("1999-06-15", "2000-01-01")
    assert train.q.shape[1:] == (WINDOW, 10, 3)
    assert len(validation) == round(0.1 * (len(train) + len(validation)))
    assert torch.equal(train.q[0], truth.q[:WINDOW])
    assert torch.equal(validation.q[-1, -1], truth.q[WINDOW * (len(train) + len(validation)) - 1])
    assert torch.equal(experiment.future.q[0, 0], truth.q[-1])


def test_another_end_or_integrator_of_the_prediction_leaves_the_training_as_it_is(
    experiment: SolarExperiment,
) -> None:
    other = SolarExperiment(replace(experiment.config, test_end="2000-02-01", method="pefrl"))
    assert {"test_end", "method"} == other.evaluation_only
    assert other.task().digest() == experiment.task().digest()


def test_position_errors_are_distances() -> None:
    q = torch.zeros(1, 2, 3, 3)
    q[0, 1, 2] = torch.tensor([3.0, 4.0, 0.0])
    assert position_error(q, torch.zeros_like(q)).tolist() == [[0, 0, 0], [0, 0, 5]]
