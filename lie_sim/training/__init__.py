"""Training: tasks (data and loss), options, and a loop whose runs survive being killed."""

from lie_sim.training.classification import ClassificationTask, LabelledSets
from lie_sim.training.config import TrainingConfig, load_config, save_config
from lie_sim.training.dynamics import DerivativeTask, RolloutTask, dynamics_task
from lie_sim.training.loop import TrainingResult, train
from lie_sim.training.metrics import read_metrics
from lie_sim.training.scales import fit_scales
from lie_sim.training.tasks import Task

__all__ = [
    "ClassificationTask",
    "DerivativeTask",
    "LabelledSets",
    "RolloutTask",
    "Task",
    "TrainingConfig",
    "TrainingResult",
    "dynamics_task",
    "fit_scales",
    "load_config",
    "read_metrics",
    "save_config",
    "train",
]
