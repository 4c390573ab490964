"""Long trajectories of many systems, without gradients: streamed, resumable, not stopped by systems that diverge."""

from lie_sim.rollout.directory import StoredRollout
from lie_sim.rollout.frames import (
    Frames,
    RolloutError,
    RolloutResult,
    energy_change,
    largest_energy_change,
    mean_squared_error,
)
from lie_sim.rollout.one_run import RolloutEnd
from lie_sim.rollout.runner import Rollout
from lie_sim.rollout.trajectories import rollout

__all__ = [
    "Frames",
    "Rollout",
    "RolloutEnd",
    "RolloutError",
    "RolloutResult",
    "StoredRollout",
    "energy_change",
    "largest_energy_change",
    "mean_squared_error",
    "rollout",
]
