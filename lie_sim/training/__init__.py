"""Training: tasks (data and loss), options, and a loop whose runs survive being killed."""

from lie_sim.training.classification import ClassificationTask, LabelledSets
from lie_sim.training.config import TrainingConfig, load_config, save_config
from lie_sim.training.dynamics import DerivativeTask, ForceTask, RolloutTask, dynamics_task
from lie_sim.training.fine_tuning import fine_tuned
from lie_sim.training.graphs import GraphTask, evaluate_graphs, sag_pool_training
from lie_sim.training.loop import TrainingResult, train
from lie_sim.training.metrics import read_metrics
from lie_sim.training.molecules import MoleculesTask
from lie_sim.training.properties import PropertyTask, property_model
from lie_sim.training.references import atomic_potential, reference_energies
from lie_sim.training.scales import fit_scales
from lie_sim.training.targets import Target, named_target, property_heads
from lie_sim.training.tasks import Task

__all__ = [
    "ClassificationTask",
    "DerivativeTask",
    "ForceTask",
    "GraphTask",
    "LabelledSets",
    "MoleculesTask",
    "PropertyTask",
    "RolloutTask",
    "Target",
    "Task",
    "TrainingConfig",
    "TrainingResult",
    "atomic_potential",
    "dynamics_task",
    "evaluate_graphs",
    "fine_tuned",
    "fit_scales",
    "load_config",
    "named_target",
    "property_heads",
    "property_model",
    "read_metrics",
    "reference_energies",
    "sag_pool_training",
    "save_config",
    "train",
]
