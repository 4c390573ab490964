"""The command line itself: options follow the dataclasses, and every mistake is one clear line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from lie_sim.cli.errors import exit_code
from lie_sim.cli.main import COMMANDS
from lie_sim.cli.parsing import option_names, parse
from lie_sim.cli.train import TrainOptions, read_settings
from lie_sim.errors import CheckpointError, LieSimError, NonFiniteError
from lie_sim.experiments import SpringsConfig, experiment_class, experiment_names

Run = Callable[..., Any]
EXPERIMENTS = ["shapes", "solar", "springs"]


def test_every_experiment_is_covered() -> None:
    assert set(EXPERIMENTS) <= set(experiment_names())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_configuration_round_trip(name: str, lie_sim: Run, tmp_path: Path) -> None:
    printed = lie_sim("config", name)
    assert (printed.code, printed.err) == (0, "")
    file = tmp_path / "c.toml"
    file.write_text(printed.out)
    cls = experiment_class(name)
    assert read_settings(file, cls) == cls.Config()
    file.write_text(f'experiment = "{name}"\n' + printed.out)  # the experiment.toml of a run
    assert read_settings(file, cls) == cls.Config()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_field_is_an_option_with_help(name: str, lie_sim: Run) -> None:
    shown = lie_sim("train", name, "--help")
    assert shown.code == 0
    lines = [line.strip("│ ") for line in shown.out.splitlines()]
    for option in option_names(experiment_class(name).Config()):
        at = [i for i, line in enumerate(lines) if re.match(rf"{re.escape(option)}($|[ ,])", line)]
        if "no-" not in option:
            assert len(at) == 1, option
            assert not lines[at[0] + 1].startswith(("(default", "--")), f"{option} has no help"


def _count(config: Any) -> int:
    values = [getattr(config, field.name) for field in fields(config)]
    return sum(_count(value) if is_dataclass(value) else 1 + isinstance(value, bool) for value in values)


def test_option_names_follow_the_fields() -> None:
    assert len(option_names(SpringsConfig())) == _count(SpringsConfig())


def test_options_override_the_defaults() -> None:
    words = ["elsewhere", "--num_train=7", "--model.width", "16", "--model.no-use-masses"]
    words += ["--training.betas", "0.8", "-0.0"]
    options = parse(
        TrainOptions,
        [*words, "--no-progress"],
        prog="x",
        default=TrainOptions(Path("runs"), SpringsConfig()),
    )
    settings = options.settings
    assert isinstance(settings, SpringsConfig)
    assert (options.run_dir, options.progress, options.restart) == (Path("elsewhere"), False, False)
    assert (settings.num_train, settings.model.width, settings.model.use_masses) == (7, 16, False)
    assert settings.training.betas == (0.8, 0.0)
    assert settings.training.max_steps == SpringsConfig().training.max_steps


def test_options_override_the_file(lie_sim: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("num_train = 5\n[training]\nmax_steps = -1\n")
    failed = lie_sim("train", "springs", tmp_path / "run", "--config", file)
    assert (failed.code, failed.err.count("\n")) == (2, 1)
    assert "max_steps" in failed.err  # the file was read, and refused


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("tran springs", "unknown command tran; did you mean train?"),
        ("--versoin", "unknown option --versoin; did you mean --version?"),
        ("xyzzy", "unknown command xyzzy; see lie-sim --help"),
        ("train", "name an experiment: molecules, qm9, shapes, solar, springs"),
        ("train sprngs", "unknown experiment 'sprngs'; did you mean springs?"),
        ("train springs --modl.width 3", "unknown option --modl.width; did you mean --model.width?"),
        ("train springs --width 3", "unknown option --width; did you mean --model.width?"),
        ("train springs --lr 0.1", "unknown option --lr; did you mean --training.learning-rate?"),
        ("train springs --epochs 9", "unknown option --epochs; did you mean --training.max-steps?"),
        ("train molecules --r-max 6", "unknown option --r-max; did you mean --model.cutoff?"),
        ("simulate springs --dt 0.1", "unknown option --dt; did you mean --step-size?"),
        ("simulate springs --method verlet --out {here}/run", "did you mean leapfrog?"),
        (
            "train molecules --max-cpu-seconds 3",
            "unknown option --max-cpu-seconds; did you mean --training.max-cpu-seconds?",
        ),
        ("train shapes --start-from x", "unknown option --start-from\n"),
        ("train springs -x", "unknown option -x"),
        ("train springs a b", "unexpected argument 'b'"),
        ("train springs --model.width x", "--model.width: expected a whole number, got 'x'"),
        ("train springs --training.learning-rate x", "--training.learning-rate: expected a number, got 'x'"),
        ("train springs --training.loss foo", "invalid choice 'foo' for argument '--training.loss'"),
        ("train springs --num-train", "Missing value for argument '--num-train'"),
        ("train springs --config", "Missing value for argument '--config'"),
        ("train springs --config {here}/none.toml", "cannot read the configuration {here}/none.toml"),
        ("train springs --config {here}/wrong_key.toml", "unknown key training.max_stps"),
        ("train springs --config {here}/wrong_type.toml", "num_train must be int, got str 'many'"),
        ("train springs --config {here}/not.toml", "not.toml is not TOML"),
        ("train springs --config {here}/shapes.toml", "holds options of 'shapes', not of 'springs'"),
        (
            "train springs --model.lifting foo",
            "unknown lifting 'foo'; choose one of frame, moments, haar, finite",
        ),
        ("train springs --training.max-steps 0", "a run needs an end"),
        ("train springs --training.clip-norm inf", "--training.clip-norm: expected a finite number, got inf"),
        ("train springs --model.epsilon nan", "model: epsilon must be finite and not negative, got nan"),
        ("train springs --model.num-frames -1", "--model.num-frames must be at least 0, got -1"),
        ("train springs --model.width {huge}", "--model.width: expected a whole number from 0 to 2^63"),
        ("train springs --data-seed {huge}", "--data-seed: expected a whole number from 0 to 2^63"),
        ("train springs --training.seed {huge}", "seed must be from 0 to 2^63 - 1, got 9"),
        ("train springs --training.seed -1", "seed must be from 0 to 2^63 - 1, got -1"),
        ("train springs --config {here}/infinite.toml", "--training.clip-norm: expected a finite number"),
        ("train shapes --num-test 0", "--num-test must be at least 1 cloud, got 0"),
        ("train shapes --num-train {huge}", "--num-train: expected a whole number"),
        ("train solar --validation-share 1e30", "--validation-share must be from 0 to below 1"),
        ("train solar --validation-share -1", "--validation-share must be from 0 to below 1"),
        ("train solar --step-days 0", "--step-days must be positive"),
        ("train solar --step-days 1e30", "--step-days must be positive and at most the 7305 days"),
        ("train solar --test-end 1999-01-01", "must follow each other"),
        ("train solar --test-end 2300-01-01", "between 1899-12-04 and 2200-02-01"),
        ("train solar --test-end banana", "a date must look like"),
        ("train solar --method frogleap", "frogleap"),
        ("demo {here}/demo --seed {huge}", "--seed: expected a whole number from 0 to 2^63 - 1"),
        ("demo {here}/demo --seed -1", "--seed: expected a whole number from 0 to 2^63 - 1"),
        ("demo {here}/demo --cpu-seconds nan", "--cpu-seconds: expected a finite number, got nan"),
        ("demo {here}/demo --cpu-seconds 0", "a run needs an end"),
        ("demo {here}/demo --num-test {huge}", "--num-test: expected a whole number"),
        ("config springs --num-train 3", "unknown option --num-train"),
        ("evaluate {here}/none", "does not exist: give a run directory"),
        ("report {here}/none", "evaluate a training run first"),
        ("info {here}/none", "does not exist"),
        ("info {here}", "neither a run directory nor a model"),
        ("info", "MODEL_OR_RUN"),
        ("rollout {here}/none", "does not exist"),
        ("demo {here}/demo --cpu-second 3", "unknown option --cpu-second; did you mean --cpu-seconds?"),
    ],
)
def test_a_mistake_is_one_line(command: str, message: str, lie_sim: Run, tmp_path: Path) -> None:
    (tmp_path / "wrong_key.toml").write_text("[training]\nmax_stps = 3\n")
    (tmp_path / "wrong_type.toml").write_text('num_train = "many"\n')
    (tmp_path / "not.toml").write_text("num_train: 3\n")
    (tmp_path / "shapes.toml").write_text('experiment = "shapes"\n')
    (tmp_path / "infinite.toml").write_text("[training]\nclip_norm = inf\n")
    words = [word.format(here=tmp_path, huge="9" * 30) for word in command.split()]
    failed = lie_sim(*words)
    assert (failed.code, failed.out) == (2, "")
    assert message.format(here=tmp_path) in failed.err
    assert failed.err.startswith(f"lie-sim {words[0]}: " if words[0] in COMMANDS else "lie-sim: ")
    assert failed.err.endswith("\n")
    assert failed.err.count("\n") == 1
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")],
)
def test_too_little_memory_is_one_line(
    error: Exception, lie_sim: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(*_: Any) -> None:
        raise error

    monkeypatch.setattr("lie_sim.cli.info.config", config)
    failed = lie_sim("config", "springs")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert failed.err.startswith("lie-sim config: there is not enough memory")


def test_other_failures_show_where_they_happened(lie_sim: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def config(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("lie_sim.cli.info.config", config)
    with pytest.raises(RuntimeError, match="a bug"):
        lie_sim("config", "springs")


def test_exit_codes() -> None:
    @dataclass
    class Case:
        error: BaseException
        code: int

    cases = [
        Case(NonFiniteError("NaN"), 1),
        Case(LieSimError("anything"), 1),
        Case(OSError(28, "No space left on device"), 1),
        Case(CheckpointError("damaged"), 2),
        Case(FileNotFoundError("nowhere"), 2),
        Case(ValueError("impossible"), 2),
        Case(KeyboardInterrupt(), 130),
    ]
    assert [exit_code(case.error) for case in cases] == [case.code for case in cases]


def test_help_and_version(lie_sim: Run) -> None:
    shown = lie_sim("--help")
    assert (shown.code, shown.err) == (0, "")
    assert all(f"  {name} " in shown.out for name in COMMANDS)
    assert lie_sim() == shown
    assert re.fullmatch(r"lie-sim \d+\.\d+\.\d+\n", lie_sim("--version").out)
    for command in COMMANDS:
        one = lie_sim(command, "--help")
        assert (one.code, one.err) == (0, ""), command
        assert one.out.startswith(f"usage: lie-sim {command}")


def test_printed_configuration_is_complete(lie_sim: Run) -> None:
    values = tomllib.loads(lie_sim("config", "springs").out)
    assert set(values) == {field.name for field in fields(SpringsConfig)}
