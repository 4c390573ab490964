"""Whole experiments: data, model, training, evaluation and report under one name."""

from lie_sim.experiments.base import (
    Evaluation,
    Experiment,
    experiment_class,
    experiment_names,
    open_run,
)
from lie_sim.experiments.molecules import MoleculesConfig, MoleculesExperiment
from lie_sim.experiments.qm9 import Qm9Config, Qm9Experiment
from lie_sim.experiments.results import read_results
from lie_sim.experiments.shapes import ShapesConfig, ShapesExperiment
from lie_sim.experiments.solar import SolarConfig, SolarExperiment
from lie_sim.experiments.springs import SpringsConfig, SpringsExperiment

__all__ = [
    "Evaluation",
    "Experiment",
    "MoleculesConfig",
    "MoleculesExperiment",
    "Qm9Config",
    "Qm9Experiment",
    "ShapesConfig",
    "ShapesExperiment",
    "SolarConfig",
    "SolarExperiment",
    "SpringsConfig",
    "SpringsExperiment",
    "experiment_class",
    "experiment_names",
    "open_run",
    "read_results",
]
