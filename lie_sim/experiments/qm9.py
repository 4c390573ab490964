"""QM9: the twelve properties of small organic molecules with one model, or some of them, on the usual split.

One network tells all chosen targets; each is learned by its mean absolute error in units of its spread. The test tells
the error of every target in the units of the literature, beside that of a least-squares fit to the composition.

    full recipe     lie-sim train qm9 runs/qm9 --training.max-steps 1500000 --training.max-cpu-seconds 0

Reference: Ramakrishnan, Dral, Rupp, von Lilienfeld, Scientific Data 1 (2014) 140022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from lie_sim.data.molecules import Molecules
from lie_sim.data.qm9 import QM9_TARGETS, qm9, qm9_splits
from lie_sim.errors import ConfigError
from lie_sim.experiments.base import Evaluation, Experiment, register_experiment
from lie_sim.experiments.model_choice import ModelConfig, network_options
from lie_sim.experiments.molecules import (
    molecules_model,
    molecules_se3_model,
    molecules_training,
)
from lie_sim.models import AtomicPotential, model_class_of
from lie_sim.report import ReportData, Table
from lie_sim.training import PropertyTask, TrainingConfig, property_model
from lie_sim.training.targets import Target, composition_errors
from lie_sim.units import BOHR, DEBYE, HARTREE

MEV = 1000 * HARTREE
QM9_HEADS = {
    "mu": Target("mu", head="dipole", kind="dipole", reading="norm", factor=DEBYE),
    "alpha": Target("alpha", head="polarizability", kind="polarizability", reading="mean", factor=BOHR**3),
    "principal": Target(
        "principal", head="polarizability", kind="polarizability", reading="principal", factor=BOHR**3
    ),
    "charges": Target("charges", head="charges", kind="charges"),
    "r2": Target("r2", head="spatial_extent", kind="spatial_extent", factor=BOHR**2),
    "Cv": Target("Cv", head="Cv", kind="extensive"),
    **{name: Target(name, head=name, kind="intensive", factor=HARTREE) for name in ("homo", "lumo", "gap")},
    **{
        name: Target(name, head=name, kind="extensive", factor=HARTREE)
        for name in ("zpve", "U0", "U", "H", "G")
    },
}
"""The head of each target; the model speaks eV, Å, e Å, Å³, Å², and cal/(mol K) for Cv.

``charges`` are Mulliken's: the length of a dipole does not tell its sign, the charges that make it do.
``principal`` are the eigenvalues of the polarizability, whose tensors are given in another frame than the coordinates:
without it, alpha alone would leave all but the mean of the tensor unknown.
"""
REPORTED = {
    "mu": ("D", 1.0),
    "alpha": ("bohr³", 1.0),
    "principal": ("bohr³", 1.0),
    "charges": ("e", 1.0),
    "r2": ("bohr²", 1.0),
    "Cv": ("cal/(mol K)", 1.0),
}
"""Unit in which an error is told, and the unit of the data in it; energies are told in meV."""


def reported(name: str) -> tuple[str, float]:
    """Unit of the error of a target, and the unit of the data in it.

    Example:
        >>> reported("mu"), reported("U0")[0]
        (('D', 1.0), 'meV')
    """
    return REPORTED.get(name, ("meV", MEV))


def qm9_training() -> TrainingConfig:
    """Five CPU minutes."""
    return replace(molecules_training(), batch_size=32, validate_every=2000)


def with_eigenvalues(molecules: Molecules) -> Molecules:
    """The eigenvalues of the polarizability as values, shape (M, 3), ascending, in bohr³."""
    xx, xy, yy, xz, yz, zz = molecules.values["polarizability"].T
    tensors = np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], 1).reshape(-1, 3, 3)
    return replace(molecules, values={**molecules.values, "principal": np.linalg.eigvalsh(tensors)})


@dataclass(frozen=True)
class Qm9Config:
    """Options of an experiment with QM9.

    Args:
        targets: what is learned, of mu, alpha, homo, lumo, gap, r2, zpve, U0, U, H, G, Cv, and charges, and principal,
            the eigenvalues of the polarizability.
        num_train: training molecules, up to 100,000; fewer are the first of them.
        num_validation: validation molecules, up to 17,748; all take 15 CPU s a time.
        num_test: test molecules, up to 13,083.
        data_seed: of the split.
        cache: folder of the parsed data; empty for the user's.
        model: the network.
        training: the training run.
    """

    targets: tuple[str, ...] = (*QM9_TARGETS, "charges", "principal")
    num_train: int = 100_000
    num_validation: int = 2_000
    num_test: int = 13_083
    data_seed: int = 0
    cache: str = ""
    model: ModelConfig = field(default_factory=molecules_model)
    training: TrainingConfig = field(default_factory=qm9_training)

    def __post_init__(self) -> None:
        unknown = [name for name in self.targets if name not in QM9_HEADS]
        if unknown or not self.targets or len(set(self.targets)) != len(self.targets):
            raise ConfigError(
                f"targets must be some of {', '.join(QM9_HEADS)}, each once, got {', '.join(self.targets) or 'none'}"
            )
        for name, largest in (("num_train", 100_000), ("num_validation", 17_748), ("num_test", 13_083)):
            if not 1 <= getattr(self, name) <= largest:
                raise ConfigError(f"{name} must be 1 to {largest:,}, got {getattr(self, name):,}")


@register_experiment
class Qm9Experiment(Experiment[Qm9Config]):
    """Learn properties of QM9's molecules."""

    name = "qm9"
    Config = Qm9Config
    models: ClassVar = {"lie_transformer": molecules_model, "se3_transformer": molecules_se3_model}
    evaluation_only: ClassVar[frozenset[str]] = frozenset({"num_test"})

    @cached_property
    def splits(self) -> dict[str, Molecules]:
        """Training, validation and test molecules."""
        config = self.config
        molecules = with_eigenvalues(qm9(cache=config.cache or None))
        chosen = qm9_splits(seed=config.data_seed, train=config.num_train, validation=config.num_validation)
        chosen["test"] = chosen["test"][: config.num_test]
        return {name: molecules[part] for name, part in chosen.items()}

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is learned."""
        return tuple(QM9_HEADS[name] for name in self.config.targets)

    def build(self) -> AtomicPotential:
        """An untrained model of properties, with the constants of the training data."""
        torch.manual_seed(self.training.seed)
        model = self.config.model
        options = {"architecture": model_class_of(model).name, "network": network_options(model)}
        return property_model(self.splits["train"], self.targets, **options)

    def task(self) -> PropertyTask:
        """The chosen targets."""
        return PropertyTask(
            self.splits["train"],
            self.splits["validation"],
            targets=self.targets,
            cutoff=self.config.model.cutoff,
        )

    def evaluate(self, module: nn.Module, *, progress: bool = True) -> Evaluation:
        """Errors on the test molecules."""
        from lie_sim.experiments.molecules_report import mean_errors, property_parity  # ASE takes its time

        told = self.task().predictions_on(module, self.splits["test"])
        found = mean_errors(told)
        results: dict[str, float] = {}
        rows: list[list[str | int | float | None]] = []
        for target in self.targets:
            unit, factor = reported(target.name)
            mae = factor * found[target.name]
            simple = factor * self.composition_error(target)
            results |= {f"mae_{target.name}": mae, f"baseline_mae_{target.name}": simple}
            rows.append([target.name, unit, *(float(f"{x:.4g}") for x in (mae, simple, mae / simple))])
        columns = ["target", "unit", "MAE", "MAE of the composition", "ratio"]
        report = ReportData(
            title="Properties of QM9",
            subtitle="B3LYP/6-31G(2df,p) properties of small organic molecules",
            summary={
                "training, validation, test": ", ".join(str(len(part)) for part in self.splits.values())
            },
            comparison=Table(columns=columns, rows=rows),
            parity=property_parity(told, {name: reported(name) for name in told}, self.explained(told)),
        )
        return Evaluation(results=results, report=report)

    def unit_of(self, figure: str) -> str:
        """Unit in which the errors of a target are told."""
        return reported(figure.rpartition("mae_")[2])[0]

    def explained(self, told: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """What the composition of the test molecules says of energies that add up, in the unit of the data."""
        train, test = self.splits["train"], self.splits["test"]
        sums = [
            target for target in self.targets if target.kind == "extensive" and target.name not in REPORTED
        ]
        return {each.name: told[each.name][1] + composition_errors(train, test, each) for each in sums}

    def composition_error(self, target: Target) -> float:
        """Mean absolute error of a fit to the composition, in the unit of the data."""
        return float(np.abs(composition_errors(self.splits["train"], self.splits["test"], target)).mean())
