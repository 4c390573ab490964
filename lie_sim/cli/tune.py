"""``lie-sim tune``: a search for good options of an experiment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lie_sim.cli.errors import OPTIONS, StoppedError, UsageError
from lie_sim.cli.parsing import Inlined, parse
from lie_sim.cli.runs import named_experiment, show
from lie_sim.cli.train import experiment_settings
from lie_sim.distributed import Trial
from lie_sim.distributed import tune as search

_SHOWN = 5


@dataclass(frozen=True)
class TuneOptions:
    """Train an experiment with other options again and again on Ray; the same command goes on.

    Args:
        folder: where the search is kept.
        settings: the experiment; options that do not vary.
        space: what varies: option=log:1e-4,1e-2, =uniform:0,0.1, =int:1,4 or =choice:32,64.
        samples: number of trials.
        scheduler: asha stops trials that are behind others; random none.
        seed: of the values.
        config: TOML file with options of the experiment; options given here override it.
        model: the model, lie_transformer or se3_transformer, as of lie-sim train.
        address: of the Ray cluster, or auto; by default the trials run on this machine.
        workers: trials at a time; by default as many as there are processors.
        progress: show a progress bar.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    settings: Inlined[object]
    space: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OPTION=VALUES")] = ()
    samples: int = 16
    scheduler: Literal["asha", "random"] = "asha"
    seed: int = 0
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    workers: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    progress: bool = True


def tune(argv: Sequence[str]) -> None:
    """Search, and print the best trials."""
    cls = named_experiment(argv, command="tune")
    if cls is None:
        return
    defaults = TuneOptions(Path("runs", f"tune-{cls.name}"), experiment_settings(cls, argv[1:]))
    options = parse(TuneOptions, argv[1:], prog=f"lie-sim tune {cls.name}", default=defaults)
    OPTIONS.set(())  # a search names them as Python does
    try:
        trials = search(
            cls(options.settings),
            _space(options.space),
            samples=options.samples,
            folder=options.folder,
            scheduler=options.scheduler,
            seed=options.seed,
            address=options.address,
            workers=options.workers,
            progress=options.progress,
        )
    except KeyboardInterrupt:
        raise StoppedError(f"stopped. To go on: {shlex.join(['lie-sim', 'tune', *argv])}") from None
    _summarise(trials, options.folder, cls.name)


def _space(words: Sequence[str]) -> dict[str, str]:
    """Options with their values, named as in a configuration file.

    Example:
        >>> _space(["training.learning-rate=log:1e-4,1e-2"])
        {'training.learning_rate': 'log:1e-4,1e-2'}
    """
    space = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals:
            raise UsageError(
                f"--space takes OPTION=VALUES, such as training.learning-rate=log:1e-4,1e-2; got {word}"
            )
        space[name.removeprefix("--").replace("-", "_")] = values
    return space


def _summarise(trials: Sequence[Trial], folder: Path, name: str) -> None:
    print(f"{len(trials)} trials, {sum(trial.state == 'finished' for trial in trials)} with all their steps")
    for trial in trials[:_SHOWN]:
        values = ", ".join(f"{option} = {value}" for option, value in trial.values.items())
        print(f"  {trial.number:4d}  {trial.validation:.4g} after {trial.steps:,} steps: {values}")
    best = shlex.join(["lie-sim", "train", name, "--config", str(folder / "best.toml")])
    show([("all trials", folder / "results.csv"), ("train the best", best)])
