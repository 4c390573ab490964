"""Finding models and runs on disk, and showing figures."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lie_sim.cli.errors import UsageError, suggestion
from lie_sim.errors import ConfigError
from lie_sim.experiments import Experiment, experiment_class, experiment_names, open_run
from lie_sim.models import model_class_of
from lie_sim.plain import to_plain
from lie_sim.shipped import resolve_model, shipped_models
from lie_sim.training import read_metrics

_MAY_CHANGE = {"training.checkpoint_every"}
_OF_EVERY_ROW = {"step", "cpu_seconds", "train_loss", "learning_rate", "grad_norm"}
"""Metrics that are written without a validation too."""
_OF_A_RUN = (
    "experiment.toml",
    "split.json",
    "start",
    "training.toml",
    "metrics.jsonl",
    "checkpoints",
    "model",
    "results.json",
    "report_data.json",
    "report.html",
    "figures",
    "nonfinite_step_[0-9]*",
)


def named_experiment(argv: Sequence[str], *, command: str) -> type[Experiment[Any]] | None:
    """The experiment that the first word names; None if there is only a request for help.

    Raises:
        UsageError: no experiment, or an unknown one.
    """
    names = ", ".join(experiment_names())
    if not argv:
        raise UsageError(f"name an experiment: {names}")
    if argv[0] in ("-h", "--help"):
        print(f"usage: lie-sim {command} EXPERIMENT [...]\n\nExperiments: {names}.")
        print(f"lie-sim {command} EXPERIMENT --help shows the options.")
        if command == "train":
            print("lie-sim train --resume RUN_DIR goes on with a run that was stopped, with its own options.")
        return None
    if argv[0] not in experiment_names():
        hint = suggestion(argv[0], experiment_names())
        raise UsageError(f"unknown experiment {argv[0]!r}{hint or f'; there are {names}'}")
    return experiment_class(argv[0])


def is_run(path: Path) -> bool:
    """Whether a directory is the directory of a run."""
    return (path / "experiment.toml").is_file()


def model_folder(path: Path) -> Path:
    """The folder of the model, given it, the run directory it is in, or the name of a shipped model.

    Raises:
        UsageError: there is none.
    """
    for folder in (path / "model", path):
        if (folder / "model.json").is_file():
            return folder
    if is_run(path):
        raise UsageError(
            f"the run {path} has no complete model: finish it, or write the model again, with {resume_command(path)}"
        )
    if str(path) in shipped_models() and not path.exists():
        return resolve_model(path)
    if not path.exists():
        raise UsageError(
            f"{path} does not exist: give a run directory, the folder of a model, or the name of a shipped one "
            f"({', '.join(shipped_models()) or 'there is none'})"
        )
    raise UsageError(
        f"{path} is neither a run directory nor a model: it has no experiment.toml and no model.json"
    )


def training_status(folder: Path) -> list[tuple[str, Any]]:
    """How far the training of a run is, as :func:`show` takes it."""
    experiment = open_run(folder)
    file, training = folder / "metrics.jsonl", experiment.training
    rows = read_metrics(file) if file.is_file() else []
    last: dict[str, Any] = {"step": 0, "cpu_seconds": 0.0} | (rows[-1] if rows else {})
    steps, seconds = (
        f" of {end:,.0f}" if end else "" for end in (training.max_steps, training.max_cpu_seconds)
    )
    shown: list[tuple[str, Any]] = [
        ("run", folder),
        ("experiment", experiment.name),
        ("steps", f"{last['step']:,}{steps}"),
        ("CPU seconds", f"{last['cpu_seconds']:,.0f}{seconds}"),
    ]
    validated = next((row for row in reversed(rows) if row.keys() - _OF_EVERY_ROW), None)
    if validated is not None:
        figures = {name: x for name, x in validated.items() if name not in _OF_EVERY_ROW and x is not None}
        shown += [("validated at step", validated["step"]), *with_units(figures, experiment.unit_of)]
    done = (folder / "model" / "model.json").is_file()
    return [*shown, ("model", folder / "model" if done else f"none yet; to go on: {resume_command(folder)}")]


def resume_command(folder: Path, *where: str) -> str:
    """The command that goes on with a run, with the options that it has.

    Args:
        folder: the run directory.
        *where: further words, such as ``--workers 4``.

    Example:
        >>> resume_command(Path("my runs"))
        "lie-sim train --resume 'my runs'"
    """
    return shlex.join(["lie-sim", "train", "--resume", str(folder), *where])


def check_same_options(folder: Path, experiment: Experiment[Any]) -> None:
    """Refuse to continue a run with other options, before any data are made or any file is touched.

    Options that only concern the evaluation (``evaluation_only`` of the experiment) may change. A directory
    whose run never wrote a checkpoint holds nothing to continue, and is free.

    Raises:
        ConfigError: the directory holds another run.
    """
    if not is_run(folder) or not any((folder / "checkpoints").glob("*.safetensors")):
        return
    existing = open_run(folder)
    if existing.name != experiment.name:
        raise ConfigError(
            f"{folder} holds a run of {existing.name!r}, not of {experiment.name!r}: choose another directory"
        )
    models = [getattr(config, "model", None) for config in (existing.config, experiment.config)]
    if type(models[0]) is not type(models[1]):
        name = model_class_of(models[0]).name
        raise ConfigError(
            f"{folder} holds a run of the model {name!r}, not {model_class_of(models[1]).name!r}: add --model {name} "
            f"({resume_command(folder)} has all options), or use another run directory, or --restart"
        )
    before, now = _flat(to_plain(existing.config)), _flat(to_plain(experiment.config))
    may_change = _MAY_CHANGE | getattr(experiment, "evaluation_only", frozenset())
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in may_change
    ]
    if changed:
        ends = all(each.startswith("training.max_") for each in changed)
        ends = ends and hasattr(experiment.config, "start_from")
        further = (
            f"; to carry its weights further, begin a new run with --start-from {folder}" if ends else ""
        )
        raise ConfigError(
            f"{folder} holds a run with other options: {'; '.join(changed)}. Use the same options "
            f"({resume_command(folder)} does), another run directory, or --restart{further}"
        )


def remove_run(folder: Path, experiment: Experiment[Any], *, also: Sequence[str] = ()) -> None:
    """Remove the run in a directory for another to begin there: what a run writes, and nothing else.

    A directory that is no run is left alone.

    Args:
        folder: the run directory.
        experiment: the run that is to begin. Its module is built first, so that options that make none
            leave the old run as it is.
        also: further files of that kind of run.
    """
    if not is_run(folder):
        return
    experiment.build()
    for pattern in (*_OF_A_RUN, *also):
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def with_units(results: Mapping[str, float], unit_of: Callable[[str], str]) -> list[tuple[str, str]]:
    """Figures of an evaluation and their units, as :func:`show` takes them."""
    return [
        (name, f"{_text(value)} {unit_of(name) if math.isfinite(value) else ''}".rstrip())
        for name, value in results.items()
    ]


def show(rows: Iterable[tuple[str, Any]], *, indent: str = "") -> None:
    """Print names and values in two columns."""
    pairs = [(name, _text(value)) for name, value in rows]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{indent}{name:{width}}  {value}")


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if math.isfinite(value) else "not finite"
