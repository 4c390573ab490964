"""What is it worth to label what an ensemble is least certain of, and not frames at random?

Ethanol with GFN2-xTB labels. Each run begins with a few frames at 300 K and twice explores at 500 K and labels, as
``lie-sim learn`` does; the models of the last round are tested on forces at 700 K, where no label was made. Runs differ
in the seed of start and training, and in how the frames to label are chosen out of the trajectories: by the ensemble,
or at random. Everything else is equal: the first models and trajectories are the same to the bit, labels and steps of
training the same in number.

    force_mae_S           meV/Å, mean over seeds; S is uncertain, random or start (the models of the first round)
    worst_force_S         meV/Å, mean over seeds of the 99th percentile of the errors of forces on atoms
    force_error_ratio     force_mae_uncertain over force_mae_random; less than 1 is a gain
    worst_force_ratio     the same of the 99th percentiles

    python benchmarks/active_learning.py DIR [--seeds 3] [--steps 1500]

Needs tblite. About an hour of one core; what is in DIR is not computed again.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read
from record import record

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.data.labelling import LabelConfig, label_file
from lie_sim.data.sampling import Sampling
from lie_sim.distributed.active import Exploration, learn
from lie_sim.experiments import MoleculesConfig, MoleculesExperiment
from lie_sim.experiments.dynamics_options import DynamicsOptions
from lie_sim.experiments.molecules import molecules_training

START, TEST = 60, 400
"""Frames."""
ROUNDS, CHOOSE = 2, 40
EXPLORED, TESTED = 500.0, 700.0
"""K."""
SELECTIONS = ("uncertain", "random")


def frames(file: Path, count: int, temperature: float, seed: int) -> Path:
    """A file of labelled frames of molecular dynamics."""
    sampling = Sampling(
        sampling="md", frames=count, temperature=(temperature,), start=False, equilibration=1000
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    label_file(file, [molecule("CH3CH2OH")], LabelConfig("gfn2", sampling, seed=seed))
    return file


def experiment(data: Path, *, steps: int, seed: int) -> MoleculesExperiment:
    """The usual network and training, for a number of steps instead of a time; one frame in ten validates."""
    training = replace(
        molecules_training(), max_cpu_seconds=0.0, max_steps=steps, validate_every=steps // 5, seed=100 * seed
    )
    return MoleculesExperiment(
        MoleculesConfig(
            data=str(data),
            data_seed=seed,
            num_test=1,
            dynamics=DynamicsOptions(picoseconds=0.0),
            training=training,
        )
    )


def force_errors(model: Path, test: list[Atoms]) -> np.ndarray:
    """Of every component, meV/Å, shape (structures, atoms, 3)."""
    found = LieTransformerCalculator(model).predict_many(test, properties=["forces"])
    return 1000 * np.array(
        [each["forces"] - atoms.arrays["REF_forces"] for each, atoms in zip(found, test, strict=True)]
    )


def measured(folder: Path, test: list[Atoms]) -> dict[str, float]:
    """Mean over the models of a round."""
    errors = [force_errors(run / "model", test) for run in sorted(folder.glob("model_*"))]
    return {
        "force_mae": float(np.mean([np.abs(each).mean() for each in errors])),
        "worst_force": float(np.mean([np.percentile(np.linalg.norm(each, axis=-1), 99) for each in errors])),
    }


def one_seed(home: Path, seed: int, steps: int, test: list[Atoms]) -> dict[str, dict[str, float]]:
    """What each selection reaches, and where both begin."""
    start = frames(home / f"start_{seed}.extxyz", START, 300.0, seed)
    found = {}
    for select in SELECTIONS:
        folder = home / f"{select}_{seed}"
        rounds = learn(
            experiment(start, steps=steps, seed=seed),
            folder=folder,
            calculator="gfn2",
            rounds=ROUNDS,
            exploration=Exploration(temperature=EXPLORED, choose=CHOOSE, select=select),
            seed=seed,
            progress=False,
        )
        found["start"] = measured(rounds[0].folder, test)
        found[select] = measured(rounds[-1].folder, test) | {"structures": rounds[-1].structures}
        print(f"seed {seed}, {select}: {found[select]}, start {found['start']}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("home", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of each training")
    parser.add_argument("--dry-run", action="store_true", help="do not write the result")
    options = parser.parse_args()
    test = read(frames(options.home / "test.extxyz", TEST, TESTED, 10_000), ":")
    runs = [one_seed(options.home, seed, options.steps, test) for seed in range(options.seeds)]
    figures = {
        f"{quantity}_{arm}": statistics.fmean(run[arm][quantity] for run in runs)
        for quantity in ("force_mae", "worst_force")
        for arm in ("start", "random", "uncertain")
    }
    figures |= {
        "force_error_ratio": figures["force_mae_uncertain"] / figures["force_mae_random"],
        "worst_force_ratio": figures["worst_force_uncertain"] / figures["worst_force_random"],
    }
    for key, value in figures.items():
        print(f"{key:24} {value:.3g}")
    if not options.dry_run:
        print(record("active_learning", figures, threads=1, details={"seeds": runs}))


if __name__ == "__main__":
    main()
