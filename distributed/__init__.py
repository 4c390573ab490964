"""Runs of thousands of long trajectories, on this machine or a Ray cluster, that survive being killed at any time."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.distributed: write 'import lie_sim.distributed'")

from lie_sim.distributed.cluster import Cluster, ClusterError, cluster
from lie_sim.distributed.compact import compact
from lie_sim.distributed.export import MissingPackageError, export
from lie_sim.distributed.label import LabelRun, label
from lie_sim.distributed.run import FailedChunksError, Run, Segment, Status
from lie_sim.distributed.serve import Served, serve
from lie_sim.distributed.simulate import simulate
from lie_sim.distributed.store import DifferingSegmentError
from lie_sim.distributed.trajectory import Trajectory
from lie_sim.distributed.verify import Findings, verify

__all__ = [
    "Cluster",
    "ClusterError",
    "DifferingSegmentError",
    "FailedChunksError",
    "Findings",
    "LabelRun",
    "MissingPackageError",
    "Run",
    "Segment",
    "Served",
    "Status",
    "Trajectory",
    "cluster",
    "compact",
    "export",
    "label",
    "serve",
    "simulate",
    "verify",
]
