"""The springs experiment from data to report, and what a run directory remembers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lie_sim import load_model
from lie_sim.errors import ConfigError
from lie_sim.experiments import (
    ShapesConfig,
    ShapesExperiment,
    SpringsConfig,
    SpringsExperiment,
    experiment_class,
    open_run,
)
from lie_sim.experiments.springs import POINTS, free_motion_scores
from lie_sim.report import ReportData


def test_a_run_leaves_results_report_and_model(springs_run: Path) -> None:
    names = {path.name for path in springs_run.iterdir()}
    assert {"experiment.toml", "training.toml", "metrics.jsonl", "model", "checkpoints"} <= names
    assert {"results.json", "report_data.json", "report.html", "figures"} <= names
    results = json.loads((springs_run / "results.json").read_bytes())
    assert set(results) == {"mse5", "mse10", "mse10_last", "diverged_share"}
    assert 0 < results["mse5"] < results["mse10"] < results["mse10_last"]


def test_the_report_shows_all_parts(springs_run: Path) -> None:
    report = ReportData.load(springs_run / "report_data.json")
    assert len(report.trajectories) == 2  # no more than there are test systems
    assert report.first_trajectory == 1
    assert report.trajectories[0].label.endswith("· rank 1 of 2")
    assert set(report.notes) == {"trajectories", "error", "energy", "comparison"}
    assert "(q, p)" in report.notes["error"]
    assert set(report.error_curves) == {"LieTransformer", "free motion"}
    assert len(report.energy_curves) == 3
    assert [row["step"] for row in report.learning_curve][-1] == 4
    assert report.configuration["num_train"] == 16
    assert len(report.equivariance) == 12
    assert all(row.passed for row in report.equivariance)


def test_a_run_is_opened_with_the_options_it_had(springs_run: Path, tiny_springs: SpringsConfig) -> None:
    run = open_run(springs_run)
    assert isinstance(run, SpringsExperiment)
    assert run.config == tiny_springs


def test_an_evaluation_can_be_repeated(springs_run: Path) -> None:
    again = open_run(springs_run).evaluate(load_model(springs_run / "model"), progress=False)
    assert again.results == json.loads((springs_run / "results.json").read_bytes())


def test_a_finished_run_is_continued_without_a_step(springs_run: Path, tiny_springs: SpringsConfig) -> None:
    before = (springs_run / "metrics.jsonl").read_bytes()
    assert SpringsExperiment(tiny_springs).run(springs_run, progress=False).steps == 4
    assert (springs_run / "metrics.jsonl").read_bytes() == before


def test_the_evaluation_of_a_finished_run_may_change(
    springs_run: Path, tiny_springs: SpringsConfig, tmp_path: Path
) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run")
    other = SpringsExperiment(replace(tiny_springs, num_test=3, long_steps=12))
    assert set(other.evaluation_only) == {"num_test", "long_steps"}
    result = other.run(folder, progress=False)
    weights, before = result.module.state_dict(), load_model(springs_run / "model").state_dict()
    assert all(torch.equal(weights[name], before[name]) for name in before)
    results = json.loads((folder / "results.json").read_bytes())
    assert set(results) == {"mse5", "mse12", "mse12_last", "diverged_share"}
    assert open_run(folder).config == other.config
    report = ReportData.load(folder / "report_data.json")
    assert (len(report.trajectories), report.configuration["long_steps"]) == (3, 12)


def test_the_directory_of_another_experiment_is_refused(springs_run: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run of 'springs', not of 'shapes'"):
        ShapesExperiment(ShapesConfig()).run(springs_run, progress=False)


def test_other_options_in_the_same_directory_are_refused(
    springs_run: Path, tiny_springs: SpringsConfig
) -> None:
    changed = replace(tiny_springs, training=replace(tiny_springs.training, learning_rate=1e-4))
    before = (springs_run / "experiment.toml").read_bytes()
    with pytest.raises(ConfigError, match="learning_rate"):
        SpringsExperiment(changed).run(springs_run, progress=False)
    assert (springs_run / "experiment.toml").read_bytes() == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a run directory: it has no experiment\.toml"):
        open_run(tmp_path)
    toml = tmp_path / "experiment.toml"
    toml.write_text("experiment = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        open_run(tmp_path)
    toml.write_text('experiment = "pendulum"')
    with pytest.raises(
        ConfigError,
        match="unknown experiment 'pendulum'; choose one of molecules, qm9, shapes, solar, springs",
    ):
        open_run(tmp_path)
    toml.write_text('experiment = "springs"\nnum_trian = 3')
    with pytest.raises(ConfigError, match="unknown key num_trian"):
        open_run(tmp_path)


def test_experiments_are_found_by_name() -> None:
    assert experiment_class("springs") is SpringsExperiment


def test_chunks_of_a_split_do_not_depend_on_the_others(tiny_springs: SpringsConfig) -> None:
    one, more = SpringsExperiment(tiny_springs), SpringsExperiment(replace(tiny_springs, num_train=20))
    assert torch.equal(one.chunks("test", POINTS).q, more.chunks("test", POINTS).q)
    assert one.chunks("test", POINTS).q.shape == (2, POINTS, 6, 2)
    assert one.train_chunks.digest() != one.chunks("val", POINTS).digest()


def test_free_motion_is_a_straight_line(tiny_springs: SpringsConfig) -> None:
    truth = SpringsExperiment(tiny_springs).chunks("test", 21)
    found = free_motion_scores(truth).predicted
    velocity = truth.p[:, 0] / truth.particles.masses[..., None]
    line = truth.q[:, :1] + (truth.times - truth.times[0])[:, None, None] * velocity[:, None]
    assert torch.allclose(found.q, line, rtol=0, atol=1e-12)


def test_a_rollout_longer_than_the_data_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="long_steps must be from 6 to 499, got 600"):
        SpringsConfig(long_steps=600)
    with pytest.raises(ConfigError, match="got 5"):  # mse5 is the error of a chunk
        SpringsConfig(long_steps=5)


def long_rollouts(config: SpringsConfig) -> SpringsConfig:
    """Noisy chunks of 31 points, trained through ten points of them by stepping back."""
    options = {"rollout_points": 10, "rollout_adjoint": "reversible", "rollout_method": "leapfrog"}
    return replace(
        config,
        train_points=31,
        noise=0.01,
        training=replace(config.training, loss="rollout", rollout_substeps=2, **options),
    )


def test_noise_is_of_the_training_and_validation_data_only(tiny_springs: SpringsConfig) -> None:
    job = SpringsExperiment(long_rollouts(tiny_springs))
    for split in ("train", "val"):
        clean, noisy = job.chunks(split, 31), job.observed(split)
        for name in ("q", "p"):
            error = getattr(noisy, name) - getattr(clean, name)
            assert float(error.std()) == pytest.approx(0.01, rel=0.05)
        assert torch.equal(noisy.q, SpringsExperiment(job.config).observed(split).q)
    assert not torch.equal(job.observed("train").q[:2, 0], job.observed("val").q[:2, 0])
    calm = SpringsExperiment(tiny_springs)
    assert torch.equal(calm.observed("train").q, calm.chunks("train", POINTS).q)
    clean_scale = SpringsExperiment(replace(job.config, noise=0.0)).build().potential.config.energy_scale
    assert job.build().potential.config.energy_scale == pytest.approx(clean_scale, rel=0.3)


def test_a_run_may_start_from_another(springs_run: Path, tiny_springs: SpringsConfig, tmp_path: Path) -> None:
    fine = replace(long_rollouts(tiny_springs), start_from=str(springs_run))
    job = SpringsExperiment(fine)
    begun, trained = job.build().state_dict(), load_model(springs_run / "model").state_dict()
    assert all(torch.equal(begun[name], trained[name]) for name in trained)
    result = job.run(tmp_path / "fine", progress=False)
    weights = result.module.state_dict()
    assert any(not torch.equal(weights[name], trained[name]) for name in trained)
    assert open_run(tmp_path / "fine").config == fine
    other = replace(fine, model=replace(fine.model, width=16))
    with pytest.raises(ConfigError, match="holds a model of another architecture"):
        SpringsExperiment(other).build()


def test_impossible_chunks_are_refused(tiny_springs: SpringsConfig) -> None:
    with pytest.raises(ConfigError, match="train_points must be from 2 to 500, got 501"):
        replace(tiny_springs, train_points=501)
    with pytest.raises(ConfigError, match="rollout_points = 10 needs chunks of as many points"):
        replace(long_rollouts(tiny_springs), train_points=9)
    with pytest.raises(ConfigError, match="noise must be finite and not negative"):
        replace(tiny_springs, noise=-0.1)
