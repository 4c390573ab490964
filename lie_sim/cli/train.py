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

from lie_sim.cli.errors import StoppedError, UsageError
from lie_sim.cli.parsing import Inlined, option_names, parse
from lie_sim.cli.placement import Placement
from lie_sim.cli.runs import (
    check_same_options,
    is_run,
    named_experiment,
    remove_run,
    resume_command,
    show,
    with_units,
)
from lie_sim.distributed import train as train_anywhere
from lie_sim.errors import ConfigError, NonFiniteError, TrainingInterrupted
from lie_sim.experiments import Experiment, open_run, read_results
from lie_sim.plain import from_plain
from lie_sim.training import TrainingResult


@dataclass(frozen=True)
class TrainOptions:
    """Train an experiment, evaluate it and write its report; a run that is there is continued.

    Args:
        run_dir: where the run is kept.
        settings: the experiment.
        config: TOML file with options (lie-sim config prints one); options given here override it.
        model: the model, lie_transformer or se3_transformer, where the experiment has a choice; its options are those
            of --model.… in the help of the same command with it.
        progress: show progress bars.
        restart: remove the run that is in the directory, and begin again.
        workers: processes of Ray that share every batch, or the smallest and the largest number (2:8); 0 for this
            process without Ray.
        address: of the Ray cluster, or auto; by default the workers are on this machine.
        device: cpu or cuda; a GPU for each worker.
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    settings: Inlined[object]
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    progress: bool = True
    restart: bool = False
    workers: Annotated[str, tyro.conf.arg(metavar="N")] = "0"
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    device: str = "cpu"


def train(argv: Sequence[str]) -> None:
    """Train, evaluate, report, and print a summary."""
    if argv and argv[0] == "--resume":
        _resume(argv[1:])
        return
    if "--resume" in argv:
        named = next(iter(argv[argv.index("--resume") + 1 :]), "RUN_DIR")
        raise UsageError(f"a run goes on with its own options: lie-sim train --resume {named}")
    cls = named_experiment(argv, command="train")
    if cls is None:
        return
    defaults = TrainOptions(Path("runs", cls.name), experiment_settings(cls, argv[1:]))
    options = parse(TrainOptions, argv[1:], prog=f"lie-sim train {cls.name}", default=defaults)
    experiment, folder = cls(options.settings), options.run_dir
    where = Placement(options.workers, options.address, options.device)
    if options.restart:
        remove_run(folder, experiment)
    check_same_options(folder, experiment)
    _run(experiment, folder, ["train", *argv], progress=options.progress, where=where)


def _resume(argv: Sequence[str]) -> None:
    """Go on with the run of a directory, with its own options."""
    finder = argparse.ArgumentParser(prog="lie-sim train --resume", add_help=False, exit_on_error=False)
    finder.add_argument("--no-progress", action="store_true")
    finder.add_argument("--workers", default="0")
    finder.add_argument("--address")
    finder.add_argument("--device", default="cpu")
    known, rest = finder.parse_known_args(list(argv))
    if len(rest) != 1 or rest[0].startswith("-"):
        raise UsageError(
            "give one run directory: "
            "lie-sim train --resume RUN_DIR [--no-progress] [--workers N] [--address ADDRESS] [--device DEVICE]"
        )
    folder, where = Path(rest[0]), Placement(known.workers, known.address, known.device)
    _run(open_run(folder), folder, ["train", "--resume", *argv], progress=not known.no_progress, where=where)


def _run(
    experiment: Experiment[Any],
    folder: Path,
    words: Sequence[str],
    *,
    progress: bool,
    where: Placement,
) -> None:
    with resumable(folder, words, where=where.words()):
        experiment.goes_on(folder)  # then its data are those it kept
        show(experiment.data_facts().items())
        result = train_anywhere(experiment, run=folder, progress=progress, **where.options())
    _summarise(experiment, result, folder)


def without_restart(words: Sequence[str]) -> list[str]:
    """The words of a command that goes on with what it began."""
    return [word for word in words if word != "--restart"]


@contextmanager
def resumable(folder: Path, words: Sequence[str], *, where: Sequence[str] = ()) -> Iterator[None]:
    """Turn Ctrl-C into a message that says which command goes on from there, a failure into one that begins again.

    Args:
        folder: the run directory.
        words: the command as it was given; it is the one to repeat where no run has begun, or where it does more
            than train.
        where: options that say on which workers it trains.

    Example:
        >>> with resumable(Path("nowhere"), ["train", "springs", "--restart"]):
        ...     raise KeyboardInterrupt
        Traceback (most recent call last):
        lie_sim.cli.errors.StoppedError: stopped. To go on: lie-sim train springs
    """
    try:
        yield
    except (TrainingInterrupted, KeyboardInterrupt) as error:
        done = str(error).partition(". To resume")[0] or "stopped"
        repeat = words[:1] != ["train"] or not is_run(folder)
        begin = shlex.join(["lie-sim", *without_restart(words)])
        command = begin if repeat else resume_command(folder, *where)
        raise StoppedError(f"{done}. To go on: {command}") from None
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; to begin again here with other options, add --restart") from error


def experiment_settings(cls: type[Experiment[Any]], argv: Sequence[str]) -> object:
    """The experiment's defaults, from the file of ``--config`` and with the model of ``--model`` if they are given.

    A file with options of that model keeps them.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", nargs="?")
    finder.add_argument("--model", nargs="?")
    found = finder.parse_known_args(list(argv))[0]
    settings: Any = cls.Config() if found.config is None else read_settings(Path(found.config), cls)
    if found.model is not None:
        other = cls.with_model(settings, found.model)
        settings = settings if type(settings.model) is type(other.model) else other
    _refuse_options_of_another_model(cls, settings, argv)
    return settings


def _refuse_options_of_another_model(cls: type[Experiment[Any]], settings: Any, argv: Sequence[str]) -> None:
    if not cls.models:
        return
    own = option_names(settings.model, "model.")
    for word in argv:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--model.") and name not in own:
            for other, make in cls.models.items():
                if name in option_names(make(), "model."):
                    raise UsageError(f"{name} is an option of the model {other!r}: add --model {other}")


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
            *with_units(read_results(folder), experiment.unit_of),
        ],
        indent="  ",
    )
    show(
        [(name, folder / file) for name, file in (("model", "model"), ("report", "report.html"))], indent="  "
    )
