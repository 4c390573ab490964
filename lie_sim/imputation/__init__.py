"""Values that are missing in observations: simple estimates, and attention along time, place and measurement."""

from lie_sim.imputation.cdsa import CDSA, CDSAConfig, CrossDimensionalLayer, Imputed
from lie_sim.imputation.simple import NAMES, Observations, estimates, neighbours
from lie_sim.imputation.training import ImputationTask, hidden_outages

__all__ = [
    "CDSA",
    "NAMES",
    "CDSAConfig",
    "CrossDimensionalLayer",
    "ImputationTask",
    "Imputed",
    "Observations",
    "estimates",
    "hidden_outages",
    "neighbours",
]
