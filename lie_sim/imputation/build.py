"""Which model an option set is of."""

from __future__ import annotations

from lie_sim.imputation.cdsa import CDSA
from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.geometric import GeometricCDSA
from lie_sim.imputation.imputer import Imputer


def build_imputer(config: CDSAConfig) -> Imputer:
    """A model with random weights: for numbers, or for vectors.

    Example:
        >>> build_imputer(CDSAConfig(num_measurements=1, dim=3, width=8)).num_simple
        4
    """
    return GeometricCDSA(config) if config.dim else CDSA(config)
