"""Values that are missing in observations: simple estimates, and attention along time, place and measurement."""

from lie_sim.imputation.build import build_imputer
from lie_sim.imputation.cdsa import CDSA
from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.geometric import GeometricCDSA
from lie_sim.imputation.imputer import Imputed, Imputer
from lie_sim.imputation.layers import CrossDimensionalLayer
from lie_sim.imputation.simple import NAMES, Observations, estimates, hermite, neighbours
from lie_sim.imputation.training import ImputationTask, hidden_end, hidden_outages

__all__ = [
    "CDSA",
    "NAMES",
    "CDSAConfig",
    "CrossDimensionalLayer",
    "GeometricCDSA",
    "ImputationTask",
    "Imputed",
    "Imputer",
    "Observations",
    "build_imputer",
    "estimates",
    "hermite",
    "hidden_end",
    "hidden_outages",
    "neighbours",
]
