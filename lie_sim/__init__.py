"""Group-equivariant attention as a learned Hamiltonian: trajectories, molecules and clusters.

The names here are the ones most programs need; everything else is in the sub-packages.
"""

from lie_sim.checkpoint import load_model, save_model
from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
from lie_sim.models import LieTransformer
from lie_sim.state import Particles, PhaseState

__version__ = "0.1.0"

__all__ = [
    "GeneralHamiltonian",
    "Hamiltonian",
    "LieTransformer",
    "Particles",
    "PhaseState",
    "__version__",
    "load_model",
    "save_model",
]
