"""The commands from end to end, on a run of three steps."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from lie_sim.checkpoint import load_model
from lie_sim.cli import demo as demo_module
from lie_sim.cli.runs import with_units
from lie_sim.errors import NonFiniteError
from lie_sim.experiments import SpringsExperiment, experiment_class, experiment_names

Run = Callable[..., Any]
HUGE = "9" * 30


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Any]]:
    """Experiments that only note that they were run."""
    calls: list[tuple[Path, Any]] = []

    def run(self: SpringsExperiment, directory: Path, *, progress: bool = True) -> Any:
        calls.append((directory, self.config))
        raise KeyboardInterrupt

    monkeypatch.setattr(SpringsExperiment, "run", run)
    return calls


def test_train_keeps_everything_in_the_run_directory(springs_run: Path) -> None:
    written = {path.name for path in springs_run.iterdir()}
    assert {"experiment.toml", "metrics.jsonl", "model", "results.json", "report.html", "figures"} <= written
    report = json.loads((springs_run / "report_data.json").read_text())
    assert report["summary"]["model"] == "LieTransformer"
    values = tomllib.loads((springs_run / "experiment.toml").read_text())
    assert (values["experiment"], values["num_train"], values["model"]["width"]) == ("springs", 8, 8)


def test_train_again_continues_and_prints_figures_and_paths(
    springs_run: Path, tiny: list[str], lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpringsExperiment, "evaluate_run", lambda *_, **__: None)  # the figures are there
    weights = load_model(springs_run / "model").state_dict()
    again = lie_sim("train", "springs", springs_run, *tiny)
    assert (again.code, again.err) == (0, "")
    assert "springs: 3 steps" in again.out
    results = json.loads((springs_run / "results.json").read_text())
    assert all(name in again.out for name in [*results, str(springs_run / "report.html")])
    assert f"{results['mse5']:.4g}" in again.out
    after = load_model(springs_run / "model").state_dict()
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def test_other_options_are_refused_and_change_nothing(springs_run: Path, lie_sim: Run) -> None:
    before = (springs_run / "experiment.toml").read_bytes()
    failed = lie_sim("train", "springs", springs_run, "--num-train", 9)
    assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert "--num-train was 8 and is 9" in failed.err
    assert "--restart" in failed.err
    assert (springs_run / "experiment.toml").read_bytes() == before
    other = lie_sim("train", "shapes", springs_run)
    assert other.code == 2
    assert "holds a run of 'springs', not of 'shapes'" in other.err


def test_restart_removes_the_run_and_nothing_else(
    springs_run: Path, tmp_path: Path, lie_sim: Run, untrained: list[tuple[Path, Any]]
) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run")
    (folder / "nonfinite_step_7").mkdir()
    (folder / "nonfinite_step_7" / "batch.safetensors").write_text("evidence")
    (folder / "notes.txt").write_text("mine")
    (folder / "nonfinite_step_notes.txt").write_text("mine")
    stopped = lie_sim("train", "springs", folder, "--num-train", 9, "--restart")
    kept = {path.name for path in folder.iterdir() if path.suffix != ".safetensors"}
    assert kept == {"notes.txt", "nonfinite_step_notes.txt"}
    assert [(directory, config.num_train) for directory, config in untrained] == [(folder, 9)]
    assert stopped.code == 130
    assert stopped.err == f"lie-sim train: stopped. To go on: lie-sim train springs {folder} --num-train 9\n"


@pytest.mark.parametrize("name", experiment_names())
def test_options_of_the_evaluation_are_options_that_the_training_does_not_see(name: str) -> None:
    cls = experiment_class(name)
    declared = cls.evaluation_only  # type: ignore[attr-defined]
    assert declared
    own = {field.name for field in fields(cls.Config)} - {"training", "model", "data_seed"}
    assert {option.partition(".")[0] for option in declared} <= own


def test_options_of_the_evaluation_may_change(
    springs_run: Path, tiny: list[str], tmp_path: Path, lie_sim: Run
) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run")
    model = load_model(folder / "model").state_dict()
    done = lie_sim("train", "springs", folder, *tiny, "--num-test", 3, "--long-steps", 12)
    assert (done.code, done.err) == (0, "")
    assert "mse12_last" in done.out
    assert set(json.loads((folder / "results.json").read_text())) >= {"mse12", "mse12_last"}
    values = tomllib.loads((folder / "experiment.toml").read_text())
    assert (values["num_test"], values["long_steps"]) == (3, 12)
    after = load_model(folder / "model").state_dict()
    assert all(torch.equal(after[name], model[name]) for name in model)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-train", "many"), "expected a whole number"),
        (("--training.max-steps", "0"), "a run needs an end"),
        (("--model.lifting", "foo"), "unknown lifting"),
        (("--num-train", "0"), "at least 1"),
        (("--model.num-heads", "5"), "5"),
    ],
)
def test_restart_with_impossible_options_keeps_the_run(
    words: tuple[str, str], message: str, springs_run: Path, tmp_path: Path, lie_sim: Run
) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run")
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    failed = lie_sim("train", "springs", folder, "--restart", "--no-progress", *words)
    assert (failed.code, failed.err.count("\n")) == (2, 1), failed
    assert message in failed.err
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before


def test_attention_is_chosen_by_name(tiny: list[str], tmp_path: Path, lie_sim: Run) -> None:
    choice = ("--model.attention", "induced", "--model.cutoff", 1.5, "--model.num-landmarks", 3)
    done = lie_sim("train", "springs", tmp_path / "run", *tiny, *choice)
    assert (done.code, done.err) == (0, "")
    config = load_model(tmp_path / "run" / "model").potential.config
    assert (config.attention, config.num_landmarks) == ("induced", 3)
    refused = lie_sim("train", "springs", tmp_path / "other", *tiny, "--model.attention", "linformer")
    assert refused.code == 2
    assert "refused on particles" in refused.err


def test_demo_restart_removes_the_demonstration_and_nothing_else(
    springs_run: Path, tmp_path: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run", ignore=shutil.ignore_patterns("rollout*"))
    (folder / "comparison.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")

    def run_demo(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "run_demo", run_demo)
    refused = lie_sim("demo", folder, "--num-train", 9)
    assert refused.code == 2
    assert "--restart" in refused.err
    assert (folder / "comparison.json").exists()
    stopped = lie_sim("demo", folder, "--restart", "--num-train", 9)
    assert stopped.err == f"lie-sim demo: stopped. To go on: lie-sim demo {folder} --num-train 9\n"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_restart_leaves_a_directory_that_is_no_run(
    tmp_path: Path, lie_sim: Run, untrained: list[tuple[Path, Any]]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "precious.txt").write_text("mine")
    lie_sim("train", "springs", tmp_path, "--restart")
    assert len(untrained) == 1
    assert (tmp_path / "model" / "precious.txt").exists()


def test_a_run_that_never_began_does_not_block(
    tmp_path: Path, lie_sim: Run, untrained: list[tuple[Path, Any]]
) -> None:
    """A width that the heads do not divide fails after the directory was claimed."""
    (tmp_path / "experiment.toml").write_text('experiment = "springs"\nnum_train = 30\n')
    assert lie_sim("train", "springs", tmp_path, "--num-train", 32).code == 130
    assert len(untrained) == 1


def test_the_file_gives_defaults_and_options_override_it(
    springs_run: Path, lie_sim: Run, tmp_path: Path, untrained: list[tuple[Path, Any]]
) -> None:
    lie_sim("train", "springs", tmp_path, "--config", springs_run / "experiment.toml", "--num-test", 5)
    ((_, config),) = untrained
    assert (config.num_train, config.num_test, config.model.width) == (8, 5, 8)


def test_failure_at_run_time_is_one_line(
    tmp_path: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise NonFiniteError("the loss is not finite\nin step 3")

    monkeypatch.setattr(SpringsExperiment, "run", run)
    failed = lie_sim("train", "springs", tmp_path)
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert failed.err.startswith("lie-sim train: the loss is not finite in step 3; ")
    assert "add --restart" in failed.err


def test_figures_are_shown_with_their_units() -> None:
    molecules = experiment_class("molecules")
    figures = {"force_mae": 0.0123456, "nve_drift": float("nan"), "energy_mae": 2.0}
    shown = with_units(figures, molecules(molecules.Config()).unit_of)
    assert shown == [("force_mae", "0.01235 eV/Å"), ("nve_drift", "not finite"), ("energy_mae", "2 eV")]


def test_evaluate_and_report(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run")
    results = (folder / "results.json").read_bytes()
    for file in ("results.json", "report_data.json", "report.html"):
        (folder / file).unlink()
    assert "evaluate a training run first" in lie_sim("report", folder).err
    done = lie_sim("evaluate", folder, "--no-progress")
    assert (done.code, done.err) == (0, "")
    assert (folder / "results.json").read_bytes() == results
    (folder / "report.html").unlink()
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "figures")
    again = lie_sim("report", folder)
    assert (again.code, again.out) == (0, f"{folder / 'report.html'}\n")
    assert (folder / "report.html").is_file()
    assert any((folder / "figures").glob("*.png"))
    assert not (folder / "results.json").exists()  # nothing was evaluated


def test_info(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    shown = lie_sim("info", springs_run)
    assert (shown.code, shown.err) == (0, "")
    facts = dict(
        line.split(maxsplit=1) for line in shown.out.splitlines() if len(line.split(maxsplit=1)) == 2
    )
    assert facts["kind"] == "hamiltonian"
    assert facts["symmetry"] == "E(2), exact"
    assert facts["steps"] == "3"
    results = json.loads((springs_run / "results.json").read_text())
    assert facts["mse10"] == f"{results['mse10']:.4g}"
    options = tomllib.loads(shown.out.split("\nconfiguration\n")[1])
    assert (options["num_train"], options["model"]["width"], options["training"]["max_steps"]) == (8, 8, 3)
    alone = lie_sim("info", springs_run / "model")
    assert alone.code == 0
    assert set(tomllib.loads(alone.out.split("\nconfiguration\n")[1])) == {"model"}


def test_status_of_a_training_run(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    shown = lie_sim("status", springs_run)
    assert (shown.code, shown.err) == (0, "")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown.out.splitlines())
    assert (facts["experiment"], facts["steps"]) == ("springs", "3 of 3")
    assert facts["validated at step"] == "3"
    rows = [json.loads(line) for line in (springs_run / "metrics.jsonl").read_text().splitlines()]
    (loss,) = {row["validation_loss"] for row in rows if "validation_loss" in row}
    assert facts["validation_loss"] == f"{loss:.4g}"
    assert facts["model"] == str(springs_run / "model")
    folder = shutil.copytree(springs_run, tmp_path / "run")
    shutil.rmtree(folder / "model")
    (folder / "metrics.jsonl").unlink()
    begun = lie_sim("status", folder).out
    assert "0 of 3" in begun
    assert f"none yet; to go on: lie-sim train --resume {folder}" in begun


def test_a_damaged_model_is_one_line(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "run")
    (weights,) = (folder / "model").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    for command in ("info", "evaluate", "rollout"):
        failed = lie_sim(command, folder)
        assert (failed.code, failed.out, failed.err.count("\n")) == (2, "", 1), command
        assert "truncated" in failed.err
    shutil.rmtree(folder / "model")
    assert "has no complete model: finish it" in lie_sim("info", folder).err


def test_demo_passes_its_options_on(tmp_path: Path, lie_sim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    row = {"parameters": 7, "cpu_seconds": 1.0, "mse5": 1e-6, "mse100": float("nan"), "diverged_share": 0.0}

    def run_demo(folder: Path, config: Any, *, progress: bool) -> dict[str, dict[str, float]]:
        calls.append((folder, config.cpu_seconds, progress))
        return {"ours": row, "theirs": row}

    monkeypatch.setattr(demo_module, "run_demo", run_demo)
    done = lie_sim("demo", tmp_path, "--cpu-seconds", 2, "--no-progress")
    assert (done.code, done.err) == (0, "")
    assert calls == [(tmp_path, 2.0, False)]
    assert "mse100" in done.out
    assert [line.split()[0] for line in done.out.splitlines()] == ["model", "ours", "theirs", "report"]
    assert "1e-06" in done.out


def test_resume_takes_the_options_from_the_run(springs_run: Path, tmp_path: Path, lie_sim: Run) -> None:
    folder = shutil.copytree(springs_run, tmp_path / "my run")
    (folder / "model" / "model.json").unlink()
    hint = lie_sim("rollout", folder, "--steps", 2)
    assert hint.code == 2
    assert f"lie-sim train --resume '{folder}'" in hint.err
    assert lie_sim("train", "--resume", folder, "--no-progress").code == 0
    assert (folder / "model" / "model.json").is_file()
    assert "give one run directory" in lie_sim("train", "--resume").err
    assert f"lie-sim train --resume {folder}" in lie_sim("train", "springs", "--resume", folder).err


def test_a_model_that_does_not_fit_the_data_leaves_nothing_behind(tmp_path: Path, lie_sim: Run) -> None:
    folder = tmp_path / "run"
    failed = lie_sim("train", "springs", folder, "--model.dim", 3, "--num-train", 4, "--num-validation", 2)
    assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert "positions must have shape" in failed.err
    assert not folder.exists()


def test_number_of_threads(lie_sim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert lie_sim("config", "springs", "--threads", 2).code == 0
        assert torch.get_num_threads() == 2
        assert lie_sim("config", "springs").code == 0
        assert torch.get_num_threads() == 1
        for wrong in ("0", "x", "-1"):
            assert (
                "--threads must be a whole number" in lie_sim("config", "springs", f"--threads={wrong}").err
            )
    finally:
        torch.set_num_threads(before)
