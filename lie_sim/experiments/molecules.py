"""Molecules and crystals: a potential from structures with energies and forces in a file.

Training, validation and test structures are drawn from the file by a seed. The test tells the errors of energies and
forces, by element and by the size of the force.

Units: eV, Å, and meV where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from lie_sim.data.molecules import Molecules
from lie_sim.data.plausible import nearest_pair
from lie_sim.elements import symbols
from lie_sim.errors import ConfigError
from lie_sim.experiments.base import Evaluation, Experiment, register_experiment
from lie_sim.experiments.dynamics_options import DynamicsOptions
from lie_sim.experiments.model_choice import ModelConfig, network_options
from lie_sim.experiments.molecules_facts import labels
from lie_sim.experiments.molecules_split import Split, drawn, kept
from lie_sim.experiments.molecules_start import keep_start, kept_start, start_model
from lie_sim.models import AtomicPotential, LieTransformerConfig, SE3TransformerConfig, model_class_of
from lie_sim.models.atomic import DEFAULT_NETWORKS
from lie_sim.report import ReportData
from lie_sim.training import (
    MoleculesTask,
    PropertyTask,
    Target,
    TrainingConfig,
    atomic_potential,
    named_target,
    property_heads,
)
from lie_sim.training.fine_tuning import fine_tuned
from lie_sim.training.molecules import errors

ARROWS = "The arrows are force errors, predicted minus reference."
METRICS = {"force_mae": "force MAE (eV/Å)", "energy_atom_mae": "energy MAE (eV/atom)"}
"""Measured at every validation, for the learning curve of the report."""
UNITS = {
    "energy_mae": "eV",
    "energy_rmse": "eV",
    "energy_atom_mae": "eV/atom",
    "force_mae": "eV/Å",
    "force_rmse": "eV/Å",
    "energy_shift": "eV",
    "interval": "eV",
    "nve_drift": "meV/atom/ps",
    "nve_fluctuation": "meV/atom",
}
"""Of the figures of an evaluation."""
UNITS_OF_KINDS = {"dipole": "e Å", "charges": "e", "polarizability": "Å³", "spatial_extent": "Å²"}
"""Of properties; those of other kinds are in the units of the data, whatever these are."""


def molecules_model() -> LieTransformerConfig:
    """Two blocks of moment attention."""
    return LieTransformerConfig(**DEFAULT_NETWORKS["lie_transformer"])


def molecules_se3_model() -> SE3TransformerConfig:
    """Two blocks of features up to degree 2."""
    return SE3TransformerConfig(**DEFAULT_NETWORKS["se3_transformer"])


def molecules_training() -> TrainingConfig:
    """Five CPU minutes."""
    return TrainingConfig(
        optimizer="muon",
        learning_rate=0.01,
        min_learning_rate_ratio=0.0,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        ema_decay=0.995,
        clip_norm=10.0,
        warmup_steps=150,
        batch_size=8,
        max_steps=0,
        max_cpu_seconds=300.0,
        validate_every=1000,
        checkpoint_every=500,
    )


@dataclass(frozen=True)
class MoleculesConfig:
    """Options of an experiment with molecules.

    Args:
        data: file of structures: .extxyz, .db, .traj, .npz or .safetensors.
        energy_unit: of an npz file that does not say it, such as "kcal/mol".
        check_units: refuse forces and distances so large or small that they must be in other units.
        num_train: training structures; 0 for eight in ten.
        num_validation: validation structures; 0 for one in ten.
        num_test: test structures; 0 for all others.
        data_seed: of the split.
        force_weight: of the squared force errors in the loss.
        energy_weight: of the squared energy errors of an atom.
        stress_weight: of the squared stress errors.
        huber_delta: eV/Å of a force, or eV of an atom's energy, beyond which an error counts by its size and not by its
            square; 0 never does.
        inputs: global inputs of the model, "charge" and "spin".
        properties: what is learned beside the energy: "dipole", "charges", "polarizability", or any number of a
            molecule as "NAME:intensive" or "NAME:extensive".
        property_weight: of the mean absolute errors of the properties in units of their spread.
        start_from: run directory, model folder or name of a shipped model whose network the training begins with;
            "" for a new one. Reference energies are fitted to the data.
        dynamics: molecular dynamics with the trained potential, for the report.
        model: the network.
        training: the training run.
    """

    data: str = ""
    energy_unit: str = ""
    check_units: bool = True
    num_train: int = 0
    num_validation: int = 0
    num_test: int = 0
    data_seed: int = 0
    force_weight: float = 100.0
    energy_weight: float = 10.0
    stress_weight: float = 0.0
    huber_delta: float = 0.0
    inputs: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    property_weight: float = 1.0
    start_from: str = ""
    dynamics: DynamicsOptions = field(default_factory=DynamicsOptions)
    model: ModelConfig = field(default_factory=molecules_model)
    training: TrainingConfig = field(default_factory=molecules_training)

    def __post_init__(self) -> None:
        for name in ("num_train", "num_validation", "num_test"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("force_weight", "energy_weight", "stress_weight", "huber_delta", "property_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be finite and not negative, got {getattr(self, name)}")


@register_experiment
class MoleculesExperiment(Experiment[MoleculesConfig]):
    """Learn a potential of atoms from a file of labelled structures."""

    name = "molecules"
    Config = MoleculesConfig
    models: ClassVar = {"lie_transformer": molecules_model, "se3_transformer": molecules_se3_model}
    evaluation_only: ClassVar[frozenset[str]] = frozenset(
        {"num_test", *(f"dynamics.{entry.name}" for entry in fields(DynamicsOptions))}
    )

    _saved: Split | None = None
    _saved_start: AtomicPotential | None = None

    @cached_property
    def structures(self) -> Molecules:
        """All structures of the file."""
        config = self.config
        if not config.data:
            raise ConfigError(
                "give a file of structures: --data FILE (.extxyz, .db, .traj, .npz or .safetensors)"
            )
        from lie_sim.data.structure_files import read_structures  # ASE takes half a second to import

        molecules = read_structures(
            config.data, energy_unit=config.energy_unit or None, check_units=config.check_units
        )
        if "energy" not in molecules.values:
            raise ConfigError(
                f"{config.data} holds no energies: give each structure REF_energy (eV) in its comment line or "
                "info, and its atoms REF_forces (eV/Å); lie-sim label makes such files"
            )
        return molecules

    @property
    def split(self) -> Split:
        """Places of the structures in the file: those that the run keeps, or drawn by the seed."""
        if self._saved is None:
            return drawn(self.structures, self.config)
        saved = kept(self._saved, self.structures, source=self.config.data)
        return saved.with_test(self.config.num_test)

    @cached_property
    def splits(self) -> dict[str, Molecules]:
        """Training, validation and test structures."""
        return {name: self.structures[places] for name, places in self.split.places().items()}

    def keep(self, folder: Path) -> None:
        """Write the split, and the model that the run goes on from."""
        self.split.save(folder)
        keep_start(self.start, folder)

    def reuse(self, folder: Path) -> None:
        """Read the split and the model that the run goes on from, if the run has kept them."""
        self._saved = Split.load(folder)
        self._saved_start = kept_start(folder) if self.config.start_from else None
        self.__dict__.pop("start", None)
        self.__dict__.pop("splits", None)

    @property
    def targets(self) -> tuple[Target, ...]:
        """The properties that are learned."""
        return tuple(named_target(text) for text in self.config.properties)

    @cached_property
    def start(self) -> AtomicPotential | None:
        """The model that the run goes on from."""
        name, model = self.config.start_from, self.config.model
        if self._saved_start is not None or not name:
            return self._saved_start
        found = start_model(name, model, self.models[model_class_of(model).name]())
        if self.config.inputs not in ((), found.config.inputs):
            raise ConfigError(
                f"start_from: the inputs of {name} are {list(found.config.inputs)}: leave --inputs away"
            )
        return found

    @property
    def cutoff(self) -> float:
        """Of the model, in Å."""
        return self.config.model.cutoff if self.start is None else self.start.cutoff

    @property
    def inputs(self) -> tuple[str, ...]:
        """Global inputs of the model."""
        return self.config.inputs if self.start is None else self.start.config.inputs

    @property
    def config_in_use(self) -> MoleculesConfig:
        """The options, with the network of the model that the run goes on from."""
        network = None if self.start is None else self.start.network.config
        return replace(self.config, model=network) if isinstance(network, ModelConfig) else self.config

    def build(self) -> AtomicPotential:
        """An untrained potential for the elements and energies of the training data, or that of ``start_from``."""
        torch.manual_seed(self.training.seed)
        self._refuse_new_elements()
        self._refuse_no_neighbours()
        if self.start is not None:
            return self._fine_tuned(self.start)
        architecture, network = model_class_of(self.config.model).name, network_options(self.config.model)
        if self.config.model.energy_scale == 1.0:
            del network["energy_scale"]  # that of the data
        train = self.splits["train"]
        found = property_heads(train, self.targets)
        options = {"architecture": architecture, "network": network, "inputs": self.config.inputs}
        return atomic_potential(train, heads=found, **options)

    def _refuse_new_elements(self) -> None:
        known = set(self.splits["train"].elements)
        for name, part in self.splits.items():
            if unknown := sorted(set(part.elements) - known):
                raise ConfigError(
                    f"{name} structures have {symbols(unknown)}, of which no training structure says "
                    "anything: take more training structures, another data_seed, or those structures out of the file"
                )

    def _refuse_no_neighbours(self) -> None:
        if not self.cutoff:  # all see one another
            return
        nearest = nearest_pair(self.splits["train"], enough=self.cutoff)
        if self.cutoff <= nearest < np.inf:
            raise ConfigError(
                f"no two atoms of the training structures are nearer than {nearest:.3g} Å, and with a cutoff of "
                f"{self.cutoff:g} Å none would have a neighbour: take a larger one, such as 5"
            )

    def _fine_tuned(self, start: AtomicPotential) -> AtomicPotential:
        train = self.splits["train"]
        found = property_heads(train, self.targets)
        try:
            return fine_tuned(start, train, heads=found).train()
        except ValueError as error:
            raise ConfigError(f"start_from: {error}") from error

    def task(self) -> MoleculesTask:
        """Energies, forces and stresses."""
        config = self.config
        return MoleculesTask(
            self.splits["train"],
            self.splits["validation"],
            cutoff=self.cutoff,
            inputs=self.inputs,
            force_weight=config.force_weight,
            energy_weight=config.energy_weight,
            huber_delta=config.huber_delta,
            stress_weight=config.stress_weight,
            targets=self.targets,
            property_weight=config.property_weight,
        )

    def property_predictions(self, module: nn.Module) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Predicted and reference values of the properties on the test structures, in the units of the data."""
        if not self.targets:
            return {}
        parts = self.splits["train"], self.splits["validation"]
        task = PropertyTask(*parts, targets=self.targets, cutoff=self.cutoff, inputs=self.inputs)
        return task.predictions_on(module, self.splits["test"])

    def evaluate(self, module: nn.Module, *, progress: bool = True) -> Evaluation:
        """Errors on the test structures."""
        from lie_sim.experiments.molecules_dynamics import dynamics  # ASE again
        from lie_sim.experiments.molecules_report import (
            breakdown,
            mean_errors,
            parity,
            property_parity,
            views,
        )

        test, places = self.splits["test"], self.split.places()["test"]
        found = errors(module, test, cutoff=self.cutoff, inputs=self.inputs)
        results = summary(found, test)
        told = self.property_predictions(module)
        results |= {f"{name}_mae": mae for name, mae in mean_errors(told).items()}
        units = {target.name: (UNITS_OF_KINDS.get(target.kind, ""), 1.0) for target in self.targets}
        assert isinstance(module, AtomicPotential)
        moved = dynamics(module, test, self.config.dynamics)
        report = ReportData(
            title="Potential of atoms",
            subtitle=f"Energies and forces of {self.config.data}",
            summary=self._facts(results | moved.results),
            metrics={name: text for name, text in METRICS.items() if name in results},
            parity=parity(module, found, test) + property_parity(told, units),
            breakdown=breakdown(found, test, places),
            molecules=views(found, test, places),
            plots=moved.plots,
            notes={"molecules": ARROWS} if "forces" in found else {},
        )
        return Evaluation(results=results | moved.results, report=report)

    def data_facts(self) -> dict[str, str]:
        """Structures of each part, elements, and the labels that were read, with their sizes."""
        config = self.config
        weights = {
            "energy": config.energy_weight,
            "forces": config.force_weight,
            "stress": config.stress_weight,
        }
        learned = [
            *(name for name, weight in weights.items() if weight),
            *(each.name for each in self.targets),
        ]
        return {
            "structures": f"{len(self.structures):,} of {self.config.data}: "
            + ", ".join(f"{name} {len(part):,}" for name, part in self.splits.items()),
            "elements": symbols(self.structures.elements),
            **labels(self.structures, learned=learned, inputs=self.inputs),
        }

    def unit_of(self, figure: str) -> str:
        """As in ``UNITS`` and ``UNITS_OF_KINDS``."""
        kinds = {f"{target.name}_mae": target.kind for target in self.targets}
        return UNITS.get(figure, UNITS_OF_KINDS.get(kinds.get(figure, ""), ""))

    def _facts(self, results: dict[str, float]) -> dict[str, str]:
        facts = {
            "training, validation, test": ", ".join(str(len(part)) for part in self.splits.values()),
            "elements": symbols(self.splits["train"].elements),
            "energy MAE": f"{1000 * results['energy_atom_mae']:.3g} meV/atom",
        }
        if "force_mae" in results:
            facts["force MAE"] = f"{1000 * results['force_mae']:.3g} meV/Å"
        for target in self.targets:
            name = f"{target.name}_mae"
            facts[f"{target.name} MAE"] = f"{results[name]:.4g} {self.unit_of(name)}".rstrip()
        if "nve_drift" in results:
            facts["energy drift"] = f"{results['nve_drift']:.2g} meV/atom/ps"
        return facts


def summary(found: dict[str, np.ndarray], test: Molecules) -> dict[str, float]:
    """Mean absolute and root mean square errors."""
    energy = found["energy"]
    results = {
        "energy_mae": float(np.abs(energy).mean()),
        "energy_atom_mae": float(np.abs(energy / test.sizes).mean()),
        "energy_rmse": float(np.sqrt(np.square(energy).mean())),
    }
    if "forces" in found:
        results["force_mae"] = float(np.abs(found["forces"]).mean())
        results["force_rmse"] = float(np.sqrt(np.square(found["forces"]).mean()))
    return results
