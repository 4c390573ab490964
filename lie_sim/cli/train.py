"""``lie-sim train``: from the data to the report, in one run directory."""

from __future__ import annotations

import argparse
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from lie_sim.cli.errors import StoppedError
from lie_sim.cli.parsing import Inlined, parse
from lie_sim.cli.runs import check_same_options, named_experiment, remove_run, show
from lie_sim.errors import ConfigError, TrainingInterrupted
from lie_sim.experiments import Experiment, read_results
from lie_sim.plain import from_plain
from lie_sim.training import TrainingResult


@dataclass(frozen=True)
class TrainOptions:
    """Train an experiment, evaluate it and write its report; a run that is there is continued.

    Args:
        run_dir: where the run is kept.
        settings: the experiment.
        config: TOML file with options (lie-sim config prints one); options given here override it.
        progress: show progress bars.
        restart: remove the run that is in the directory, and begin again.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    settings: Inlined[object]
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    progress: bool = True
    restart: bool = False


def train(argv: Sequence[str]) -> None:
    """Train, evaluate, report, and print a summary."""
    cls = named_experiment(argv, command="train")
    if cls is None:
        return
    defaults = TrainOptions(Path("runs", cls.name), _settings(cls, argv[1:]))
    options = parse(TrainOptions, argv[1:], prog=f"lie-sim train {cls.name}", default=defaults)
    experiment, folder = cls(options.settings), options.run_dir
    if options.restart:
        remove_run(folder, experiment)
    check_same_options(folder, experiment)
    with resumable(["train", *without_restart(argv)]):
        result = experiment.run(folder, progress=options.progress)
    _summarise(experiment, result, folder)


def without_restart(words: Sequence[str]) -> list[str]:
    """The words of a command that goes on with what it began."""
    return [word for word in words if word != "--restart"]


@contextmanager
def resumable(words: Sequence[str]) -> Iterator[None]:
    """Turn Ctrl-C into a message that says which command goes on from there.

    Example:
        >>> with resumable(["train", "springs"]):
        ...     raise KeyboardInterrupt
        Traceback (most recent call last):
        lie_sim.cli.errors.StoppedError: stopped. To go on: lie-sim train springs
    """
    try:
        yield
    except (TrainingInterrupted, KeyboardInterrupt) as error:
        done = str(error).partition(". To resume")[0] or "stopped"
        raise StoppedError(f"{done}. To go on: {shlex.join(['lie-sim', *words])}") from None


def _settings(cls: type[Experiment[Any]], argv: Sequence[str]) -> object:
    """The experiment's defaults, from the file of ``--config`` if it is given."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", nargs="?")
    path = finder.parse_known_args(list(argv))[0].config
    return cls.Config() if path is None else read_settings(Path(path), cls)


def read_settings(path: Path, cls: type[Experiment[Any]]) -> object:
    """Options of an experiment from a TOML file; the ``experiment.toml`` of a run is one too.

    Raises:
        ConfigError: no such file, no TOML, options of another experiment, an unknown key or a wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    name = values.pop("experiment", cls.name)
    if name != cls.name:
        raise ConfigError(f"{path} holds options of {name!r}, not of {cls.name!r}")
    return from_plain(cls.Config, values, source=str(path))


def _summarise(experiment: Experiment[Any], result: TrainingResult, folder: Path) -> None:
    print(
        f"{experiment.name}: {result.steps:,} steps in {result.cpu_seconds:,.0f} CPU s, ended by {result.stopped_by}"
    )
    show(
        [
            ("best validation", f"{result.best_metric:.4g} at step {result.best_step:,}"),
            *read_results(folder).items(),
        ],
        indent="  ",
    )
    show(
        [(name, folder / file) for name, file in (("model", "model"), ("report", "report.html"))], indent="  "
    )
