"""Active learning of a potential: explore with what there is, label what it is least certain of, train again.

    folder/
      learn.toml                   what is learned; the same call goes on
      round_00/
        data.extxyz                labelled structures of this round: those given, and all labels of the rounds before
        model_0/, model_1/, …      an ensemble, each a run directory (lie-sim train molecules)
        rollout/                   molecular dynamics of the first of them, as of lie_sim.distributed.simulate
        chosen.extxyz              the frames of which the ensemble is least certain, no two alike
        labels.extxyz              their labels
      round_01/ …                  the last round only trains

Each stage is resumed where it stopped, or is skipped if its file is there.

Reference: Podryabinkin, Shapeev, Comput. Mater. Sci. 140 (2017) 171; Smith et al., J. Chem. Phys. 148 (2018) 241733.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ase.io
import numpy as np
from ase import Atoms, units

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.calculators.selection import most_uncertain, uncertainties
from lie_sim.data.dataset import split_seed
from lie_sim.data.labelling import LabelConfig, label_file
from lie_sim.data.reference_calculators import reference_calculator
from lie_sim.data.sampling import Sampling
from lie_sim.distributed.atoms import thermal_momenta
from lie_sim.distributed.export_atoms import all_atoms
from lie_sim.distributed.same_call import begin_or_go_on
from lie_sim.distributed.simulate import simulate
from lie_sim.distributed.train import train
from lie_sim.errors import ConfigError, DataError
from lie_sim.files import write_atomically
from lie_sim.integrators import get_method
from lie_sim.models.atomic import GLOBAL_INPUTS
from lie_sim.plain import to_plain
from lie_sim.training.run_state import newest_facts

_FRICTION = 0.02
"""Of the thermostat, 1/fs."""


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """How a round looks for new structures.

    Args:
        systems: trajectories, from structures drawn from the data.
        steps: of each, a multiple of ``save_every``.
        save_every: steps from one frame to the next.
        step_size: fs.
        temperature: K, of a Langevin thermostat.
        choose: frames to label, at most.
        select: "uncertain" frames, or "random" ones, to see what the choice is worth.
        distinct: Å; frames that differ by less are alike.
        least: eV/Å; frames of which the ensemble is more certain are not labelled.
    """

    systems: int = 8
    steps: int = 2000
    save_every: int = 50
    step_size: float = 0.5
    temperature: float = 500.0
    choose: int = 32
    select: Literal["uncertain", "random"] = "uncertain"
    distinct: float = 0.05
    least: float = 0.0

    def __post_init__(self) -> None:
        for name in ("systems", "steps", "save_every", "choose"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.steps % self.save_every:
            raise ConfigError(f"steps must be a multiple of save_every={self.save_every}, got {self.steps}")
        for name in ("step_size", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class Round:
    """What a round found.

    Args:
        number: from 0.
        structures: in its data, for training, validation and test.
        validation: smallest validation of the first model.
        chosen: frames that were chosen, 0 in the last round.
        labelled: frames that were labelled: those with forces that are too large are left out.
        folder: where it is.
    """

    number: int
    structures: int
    validation: float
    chosen: int
    labelled: int
    folder: Path


def learn(
    experiment: Any,
    *,
    folder: str | Path,
    calculator: str,
    rounds: int = 3,
    members: int = 2,
    exploration: Exploration = Exploration(),
    largest_force: float = 15.0,
    seed: int = 0,
    label_workers: int = 1,
    progress: bool = True,
    **placement: Any,
) -> list[Round]:
    """Extend the data of a molecules experiment by what its models are least certain of; the same call resumes.

    Inside ``with cluster(...)`` the trajectories are computed there.

    Args:
        experiment: ``molecules``, whose ``data`` is the file of labelled structures to begin with.
        folder: of everything.
        calculator: that labels: ``"gfn2"``, ``"gfn1"``, ``"emt"`` or ``"pkg.mod:Name"``; the one of the data.
        rounds: how often to explore and label; a further round only trains. More may be given later.
        members: models of the ensemble, at least 2; they differ in their seed.
        exploration: how to look for new structures.
        largest_force: eV/Å; frames with a larger force on an atom are left out.
        seed: of everything random but the training.
        label_workers: processes that label.
        progress: show progress bars.
        **placement: ``workers`` and what else :func:`~lie_sim.distributed.train` takes for each training.

    Returns:
        What each round found; the models of the last one have seen all labels.

    Raises:
        ConfigError: an option is impossible, there is no such calculator, or the folder holds something else.
        DataError: the package of the calculator is missing, or no frame of a round could be labelled.
    """
    if rounds < 1 or members < 2 or label_workers < 1:
        raise ConfigError(
            "rounds and label_workers must be at least 1 and members at least 2, got "
            f"{rounds}, {label_workers} and {members}"
        )
    config = LabelConfig(calculator, Sampling(sampling="none"), largest_force, seed)
    reference_calculator(calculator)  # it is needed after hours of training
    start, top = Path(experiment.config.data), Path(folder).resolve()
    if not len(experiment.structures) or start.suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"labels are added to extended XYZ: write {start} as .extxyz first")
    content = {
        "options": to_plain(experiment.config),
        "exploration": asdict(exploration),
        "calculator": calculator,
        "members": members,
        "largest_force": largest_force,
        "seed": seed,
    }
    begin_or_go_on(
        top / "learn.toml", content, like={"options": experiment.config, "exploration": exploration}
    )
    labels, found = [start], list[Round]()
    for number in range(rounds + 1):
        here = top / f"round_{number:02d}"
        data = _together(here / "data.extxyz", labels)
        runs = [here / f"model_{k}" for k in range(members)]
        for k, run in enumerate(runs):
            _train(experiment, data, run, k, progress=progress, **placement)
        chosen: list[Atoms] = []
        labelled = 0
        if number < rounds:
            noise = split_seed(seed, f"learn/{number}")
            chosen = _chosen(here, runs, data, exploration, noise, progress=progress)
            summary = label_file(here / "labels.extxyz", chosen, config, workers=label_workers)
            labelled = summary.frames
            if not labelled:
                reasons = (
                    "; ".join(list(summary.failures.values())[:1]) or f"forces above {largest_force} eV/Å"
                )
                raise DataError(f"none of the {len(chosen)} frames of {here} could be labelled: {reasons}")
            labels.append(here / "labels.extxyz")
        best = newest_facts(runs[0] / "checkpoints")["best_metric"]
        found.append(Round(number, sum(1 for _ in ase.io.iread(data)), best, len(chosen), labelled, here))
    return found


def _together(path: Path, parts: Sequence[Path]) -> Path:
    """One file of the structures of several."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, b"".join(part.read_bytes() for part in parts))
    return path


def _train(experiment: Any, data: Path, run: Path, member: int, *, progress: bool, **placement: Any) -> None:
    """One model of an ensemble, or what is left to do of it."""
    if (run / "results.json").exists():
        return
    training = replace(experiment.config.training, seed=experiment.config.training.seed + member)
    config = replace(experiment.config, data=str(data), training=training)
    train(type(experiment)(config), run=run, progress=progress, **placement)


def _chosen(
    here: Path, runs: Sequence[Path], data: Path, exploration: Exploration, seed: int, *, progress: bool
) -> list[Atoms]:
    """The frames to label."""
    path = here / "chosen.extxyz"
    if not path.exists():
        models = [run / "model" for run in runs]
        starts = _starts(data, exploration, seed)
        run = simulate(
            models[0],
            starts,
            steps=exploration.steps,
            dt=exploration.step_size * units.fs,
            store=here / "rollout",
            method=get_method(
                "langevin_middle",
                friction=_FRICTION / units.fs,
                temperature=exploration.temperature * units.kB,
            ),
            save_every=exploration.save_every,
            seed=seed,
            progress=progress,
        )
        frames = [atoms for atoms in all_atoms(run) if atoms.info["time"] > 0]
        if not frames:
            raise DataError(f"every trajectory of {here} diverged at once: lower temperature or step_size")
        if exploration.select == "random":
            order = np.random.default_rng(split_seed(seed, "choice")).permutation(len(frames))
            places = order[: exploration.choose].tolist()
        else:
            places = _least_certain(here, models, frames, exploration)
        text = io.StringIO()
        ase.io.write(text, [_bare(frames[k]) for k in places], format="extxyz")
        write_atomically(path, text.getvalue().encode())
    return list(ase.io.iread(path))


def _least_certain(
    here: Path, models: Sequence[Path], frames: Sequence[Atoms], exploration: Exploration
) -> list[int]:
    """Places of the frames about which the models differ most."""
    scores = uncertainties(LieTransformerCalculator(models[0], ensemble=models[1:]), frames)
    places = most_uncertain(
        scores, frames, count=exploration.choose, distinct=exploration.distinct, least=exploration.least
    )
    if not places:
        raise DataError(
            f"no frame of {here} is less certain than {exploration.least} eV/Å (the least certain has "
            f"{scores.max():.2g}): the models are done, or raise the temperature"
        )
    return places


def _starts(data: Path, exploration: Exploration, seed: int) -> list[Atoms]:
    """Structures of the data with momenta."""
    known = list(ase.io.iread(data))
    rng = np.random.default_rng(seed)
    starts = []
    for place in rng.choice(len(known), exploration.systems, replace=exploration.systems > len(known)):
        start = _bare(known[place])
        start.set_momenta(thermal_momenta(start.get_masses(), exploration.temperature * units.kB, rng))
        starts.append(start)
    return starts


def _bare(atoms: Atoms) -> Atoms:
    """Without results and momenta, but with the charge and spin that a calculator reads."""
    inputs = {name: atoms.info[name] for name in GLOBAL_INPUTS if name in atoms.info}
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=inputs)
