"""``lie-sim learn``: a potential that asks for the labels it needs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from lie_sim.cli.errors import StoppedError
from lie_sim.cli.parsing import Inlined, parse
from lie_sim.cli.placement import Placement
from lie_sim.cli.runs import show
from lie_sim.cli.train import experiment_settings
from lie_sim.distributed.active import Exploration
from lie_sim.distributed.active import learn as begin
from lie_sim.errors import TrainingInterrupted
from lie_sim.experiments import MoleculesConfig, MoleculesExperiment


@dataclass(frozen=True)
class LearnOptions:
    """Train a potential, label what it is least certain of, and again; the same command goes on.

    Args:
        folder: where everything is kept.
        settings: the experiment molecules; --data is the file of labelled structures to begin with.
        exploration: how to look for new structures.
        calculator: "gfn2" or "gfn1" (tblite), "emt", or anything importable as pkg.mod:Name; that of the data.
        rounds: how often to explore and label; more can be asked for later.
        members: models of the ensemble.
        largest_force: eV/Å; frames with a larger force on an atom are left out.
        seed: of everything random but the training.
        label_workers: processes that label.
        config: TOML file with options of the experiment; options given here override it.
        model: the network, lie_transformer or se3_transformer, as of lie-sim train.
        workers: processes of Ray that share every batch of a training, as of lie-sim train.
        address: of the Ray cluster they are on.
        device: where to train, cpu or cuda.
        progress: show progress bars.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    settings: Inlined[MoleculesConfig]
    exploration: Exploration = field(default_factory=Exploration)
    calculator: str = "gfn2"
    rounds: int = 3
    members: int = 2
    largest_force: float = 15.0
    seed: int = 0
    label_workers: int = 1
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    model: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    workers: Annotated[str, tyro.conf.arg(metavar="N")] = "0"
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    device: str = "cpu"
    progress: bool = True


def learn(argv: Sequence[str]) -> None:
    """Learn, and print what each round found."""
    settings = experiment_settings(MoleculesExperiment, argv)
    assert isinstance(settings, MoleculesConfig)
    options = parse(
        LearnOptions, argv, prog="lie-sim learn", default=LearnOptions(Path("runs/learn"), settings)
    )
    where = Placement(options.workers, options.address, options.device)
    try:
        rounds = begin(
            MoleculesExperiment(options.settings),
            folder=options.folder,
            calculator=options.calculator,
            rounds=options.rounds,
            members=options.members,
            exploration=options.exploration,
            largest_force=options.largest_force,
            seed=options.seed,
            label_workers=options.label_workers,
            progress=options.progress,
            **where.options(),
        )
    except (KeyboardInterrupt, TrainingInterrupted):
        raise StoppedError(f"stopped. To go on: {shlex.join(['lie-sim', 'learn', *argv])}") from None
    for each in rounds:
        print(
            f"round {each.number}: {each.structures} structures, validation {each.validation:.4g}, "
            f"{each.labelled} of {each.chosen} labelled"
        )
    show([("models", rounds[-1].folder / "model_*")])
