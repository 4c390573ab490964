"""Thousands of long trajectories, and training, here or on a Ray cluster: runs that survive being killed anywhere."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.distributed: write 'import lie_sim.distributed'")

from lie_sim.distributed.active import Exploration, Round, learn
from lie_sim.distributed.cluster import Cluster, ClusterError, cluster
from lie_sim.distributed.compact import compact
from lie_sim.distributed.export import export
from lie_sim.distributed.label import LabelRun, label
from lie_sim.distributed.run import FailedChunksError, Run, Segment, Status
from lie_sim.distributed.serve import Served, serve
from lie_sim.distributed.simulate import simulate
from lie_sim.distributed.store import DifferingSegmentError
from lie_sim.distributed.train import RayFit, train
from lie_sim.distributed.trajectory import Trajectory
from lie_sim.distributed.tune import Trial, tune
from lie_sim.distributed.verify import Findings, verify
from lie_sim.errors import MissingPackageError

__all__ = [
    "Cluster",
    "ClusterError",
    "DifferingSegmentError",
    "Exploration",
    "FailedChunksError",
    "Findings",
    "LabelRun",
    "MissingPackageError",
    "RayFit",
    "Round",
    "Run",
    "Segment",
    "Served",
    "Status",
    "Trajectory",
    "Trial",
    "cluster",
    "compact",
    "export",
    "label",
    "learn",
    "serve",
    "simulate",
    "train",
    "tune",
    "verify",
]
