"""Searching for good options of an experiment: trials on Ray, of which the poor ones are stopped early.

    search/
      search.toml          what is searched
      trials/0007/         the run directory of a trial, like any other
      results.csv          trial, its values, steps, best validation, how it stands
      best.toml            the options of the best trial, for ``lie-sim train EXPERIMENT --config``

A search that was stopped goes on when it is called again: trials resume from their checkpoints. Which of them are
stopped early depends on which are there first; what each of them computes does not.

Reference: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (asynchronous halving).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from lie_sim.distributed.same_call import begin_or_go_on
from lie_sim.distributed.space import Dimension, draw, parse_space, with_values
from lie_sim.distributed.with_ray import with_ray
from lie_sim.errors import ConfigError
from lie_sim.files import write_atomically
from lie_sim.plain import from_plain, to_plain
from lie_sim.training.run_state import newest_facts

_SEARCH = "search.toml"
FAILED = "failed.txt"
"""In the directory of a trial: why it failed."""
_GRACE = 16
"""No trial is stopped before this part of its steps."""


@dataclass(frozen=True)
class Trial:
    """How a trial stands.

    Args:
        number: from 0.
        values: of the options that vary.
        folder: its run directory.
        steps: after which the newest checkpoint was written.
        validation: the smallest so far; infinite if there is none.
        state: ``"waiting"``, ``"unfinished"`` (stopped early, or not yet at its end), ``"finished"`` or ``"failed"``.
    """

    number: int
    values: dict[str, Any]
    folder: Path
    steps: int
    validation: float
    state: str


def tune(
    experiment: Any,
    space: Mapping[str, str | Dimension],
    *,
    samples: int,
    folder: str | Path,
    scheduler: str = "asha",
    seed: int = 0,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    retries: int = 3,
    progress: bool = True,
) -> list[Trial]:
    """Train an experiment with other options again and again; the same call resumes.

    Args:
        experiment: with the options that do not vary.
        space: values by dotted name, such as ``{"training.learning_rate": "log:1e-4,1e-2"}``
            (:mod:`lie_sim.distributed.space`).
        samples: number of trials; a search may be called again with more.
        folder: of the search; on a cluster one that all nodes see.
        scheduler: ``"asha"`` stops trials that are behind others; ``"random"`` none.
        seed: of the values.
        address: of Ray, as of :func:`~lie_sim.distributed.cluster`; None for the one that is in use, or a Ray of this
            machine that ends with the search.
        workers: trials at a time; None for as many as there are processors.
        threads: of torch in each trial.
        retries: how often a trial may lose its process.
        progress: show a progress bar.

    Returns:
        The trials, the best first; the same as in ``results.csv``.

    Raises:
        ConfigError: an option is unknown or impossible, or the folder holds another search.
        MissingPackageError: Ray is there without what a search needs.
        ClusterError: Ray cannot be reached.
    """
    _check(experiment, samples, scheduler)
    dimensions, place = parse_space(space), Path(folder).resolve()
    drawn = [draw(dimensions, seed, number) for number in range(samples)]
    experiments = [_changed(experiment, values) for values in drawn]
    content = {"experiment": experiment.name, "space": _described(dimensions), "seed": seed}
    content |= {"options": to_plain(experiment.config)}
    begin_or_go_on(place / _SEARCH, content, like={"options": experiment.config})
    folders = [place / "trials" / f"{number:04d}" for number in range(samples)]
    processors = None if workers is None else workers * threads
    with with_ray("ray_tune", address, processors=processors) as ray_tune:
        try:
            ray_tune.run_trials(
                [ray_tune.Task(*each, threads) for each in zip(experiments, folders, strict=True)],
                folder=place,
                stop_early=scheduler == "asha",
                max_steps=experiment.training.max_steps,
                grace_steps=max(1, experiment.training.max_steps // _GRACE),
                at_once=workers,
                retries=retries,
                progress=progress,
            )
        finally:
            found = sorted(
                (_standing(number, drawn[number], folders[number]) for number in range(samples)),
                key=lambda trial: (trial.validation, trial.number),
            )
            _write(place, experiment, found)
    return found


def _check(experiment: Any, samples: int, scheduler: str) -> None:
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    if scheduler not in ("asha", "random"):
        raise ConfigError(f"scheduler must be 'asha' or 'random', got {scheduler!r}")
    training = experiment.training
    if scheduler == "asha" and not (training.validate_every and training.max_steps):
        raise ConfigError(
            "trials can only be stopped early by their validations: give training.validate_every and "
            "training.max_steps, or scheduler 'random'"
        )


def _changed(experiment: Any, values: Mapping[str, Any]) -> Any:
    """The experiment with other options; one that cannot be built is refused."""
    plain = with_values(to_plain(experiment.config), values)
    return type(experiment)(from_plain(type(experiment.config), plain, source="the search"))


def _described(space: Mapping[str, Dimension]) -> dict[str, Any]:
    return {name: {"kind": each.kind, "values": list(each.values)} for name, each in space.items()}


def _standing(number: int, values: dict[str, Any], folder: Path) -> Trial:
    facts = newest_facts(folder / "checkpoints")
    best = facts.get("best_metric")
    state = "unfinished" if facts else "waiting"
    if (folder / FAILED).exists():
        state = "failed"
    elif (folder / "results.json").exists():
        state = "finished"
    steps = int(facts.get("step", 0))
    return Trial(number, values, folder, steps, math.inf if best is None else float(best), state)


def _write(folder: Path, experiment: Any, trials: list[Trial]) -> None:
    """``results.csv`` and ``best.toml``."""
    text = io.StringIO()
    names = list(trials[0].values)
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", *names, "steps", "validation", "state"])
    for trial in trials:
        values = [trial.values[name] for name in names]
        table.writerow([trial.number, *values, trial.steps, trial.validation, trial.state])
    write_atomically(folder / "results.csv", text.getvalue().encode())
    if math.isfinite(trials[0].validation):
        best = to_plain(_changed(experiment, trials[0].values).config)
        write_atomically(
            folder / "best.toml", tomli_w.dumps({"experiment": experiment.name, **best}).encode()
        )
