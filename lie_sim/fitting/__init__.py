"""From a table of observations with gaps to a Hamiltonian and its forecasts."""

from lie_sim.fitting.columns import Columns
from lie_sim.fitting.config import FitConfig
from lie_sim.fitting.files import save_fit
from lie_sim.fitting.fit import Fit, fit
from lie_sim.fitting.forecast import FittedTrack
from lie_sim.fitting.shooting import Shooting, ShootingTask
from lie_sim.fitting.table import Ledger, ObservedTable, Track, read_table

__all__ = [
    "Columns",
    "Fit",
    "FitConfig",
    "FittedTrack",
    "Ledger",
    "ObservedTable",
    "Shooting",
    "ShootingTask",
    "Track",
    "fit",
    "read_table",
    "save_fit",
]
