"""Datasets of trajectories and of molecules: making them, keeping them on disk, and targets derived from them."""

from lie_sim.data.charged import benchmark_error, charged_trajectories, linear_motion
from lie_sim.data.constellations import (
    ConstellationConfig,
    Constellations,
    constellation_splits,
    make_constellations,
)
from lie_sim.data.dataset import (
    Dataset,
    DatasetConfig,
    generate_dataset,
    generate_split,
    load_dataset,
    save_dataset,
)
from lie_sim.data.derivatives import force_targets, hermite_weights
from lie_sim.data.graphs import GraphSet, fold_split, read_tu, stratified_folds
from lie_sim.data.molecules import Molecules
from lie_sim.data.qm9 import qm9, qm9_splits
from lie_sim.data.solar import solar_trajectories
from lie_sim.data.trajectories import Trajectories, make_trajectories

__all__ = [
    "ConstellationConfig",
    "Constellations",
    "Dataset",
    "DatasetConfig",
    "GraphSet",
    "Molecules",
    "Trajectories",
    "benchmark_error",
    "charged_trajectories",
    "constellation_splits",
    "fold_split",
    "force_targets",
    "generate_dataset",
    "generate_split",
    "hermite_weights",
    "linear_motion",
    "load_dataset",
    "make_constellations",
    "make_trajectories",
    "qm9",
    "qm9_splits",
    "read_tu",
    "save_dataset",
    "solar_trajectories",
    "stratified_folds",
]
