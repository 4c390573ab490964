"""How far to trust a prediction: intervals that cover what they promise, and structures that are better asked about.

A small potential of water (ASE's EMT as the reference) is calibrated on structures that it was not trained on. Its
last layer then tells a standard deviation of every energy, at next to no cost; where that is larger than usual the
calculator warns. The structures it is least sure of are worth a label: adding those helps more than adding others.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from lie_sim.calculators import Calibration, LieTransformerCalculator
from lie_sim.data.structure_files import from_atoms
from lie_sim.experiments.molecules import molecules_training
from lie_sim.training import MoleculesTask, train
from lie_sim.training.references import atomic_potential

NETWORK = {"width": 32, "num_heads": 8, "num_moments": 8, "kernel_hidden": 32, "cutoff": 4.0}


def water(count: int, *, seed: int, shake: float = 0.08) -> list[Atoms]:
    """Displaced water with energies and forces of the reference."""
    random, made = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = molecule("H2O", calculator=EMT())
        atoms.positions = 1.13 * atoms.positions + random.normal(0, shake, (3, 3))
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.arrays["REF_forces"] = atoms.get_forces()
        made.append(atoms)
    return made


def trained(systems: list[Atoms]) -> LieTransformerCalculator:
    """A small potential."""
    data = from_atoms(systems)
    torch.manual_seed(0)
    model = atomic_potential(data, network=NETWORK)
    task = MoleculesTask(data, data[:20], cutoff=model.cutoff)
    train(model, task, replace(molecules_training(), max_steps=350, max_cpu_seconds=0.0), progress=False)
    return LieTransformerCalculator(model, dtype="float64")


def energies(systems: list[Atoms]) -> np.ndarray:
    """Those of the reference."""
    return np.array([atoms.info["REF_energy"] for atoms in systems])


def main() -> None:
    known, held_out, new = water(200, seed=0), water(400, seed=1), water(1000, seed=2)
    calculator = trained(known)
    calibration = Calibration.fit(calculator, held_out, coverage=0.9, known=known)
    options = {"dtype": "float64", "calibration": calibration}
    trusted = LieTransformerCalculator(calculator.models[0], **options, on_uncertain="ignore")

    found = trusted.predict_many(new, properties=["energy", "energy_std", "energy_interval"])
    truth = energies(new)
    low, high = np.array([each["energy_interval"] for each in found]).T
    errors = np.abs(truth - [each["energy"] for each in found])
    sigma = np.array([each["energy_std"] for each in found])
    print(
        f"new structures inside of their 90 % intervals: {100 * np.mean((low <= truth) & (truth <= high)):.1f} %"
    )
    sure = sigma < np.median(sigma)
    print(f"mean error of the surer half {1000 * errors[sure].mean():.2f} meV")
    print(f"mean error of the other half {1000 * errors[~sure].mean():.2f} meV")

    strange = molecule("H2O")
    strange.positions[1] += [0.0, 0.7, 0.0]  # a bond twice as long
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LieTransformerCalculator(calculator.models[0], **options).evaluate(strange, ["energy"])
    print(caught[0].message)

    pool = trusted.predict_many(water(300, seed=3, shake=0.13), properties=["energy_std"])
    order = np.argsort([-each["energy_std"] for each in pool])
    test = water(300, seed=4, shake=0.13)
    for how, chosen in (("at random", range(50)), ("the least certain", order[:50])):
        more = water(300, seed=3, shake=0.13)
        better = trained(known + [more[place] for place in chosen])
        error = energies(test) - [each["energy"] for each in better.predict_many(test, properties=["energy"])]
        print(
            f"50 labels more, {how}: root mean square error {1000 * np.sqrt(np.square(error).mean()):.0f} meV"
        )


if __name__ == "__main__":
    main()
