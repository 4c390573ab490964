"""Group-equivariant attention as a learned Hamiltonian: trajectories, molecules and clusters.

The names here are the ones most programs need; everything else is in the sub-packages. They are imported at
their first use, so that ``import lie_sim`` and ``lie-sim --help`` do not wait for torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lie_sim.checkpoint import load_model, save_model
    from lie_sim.driven import DrivenHamiltonian
    from lie_sim.hamiltonian import GeneralHamiltonian, Hamiltonian
    from lie_sim.models import LieTransformer
    from lie_sim.shipped import shipped_models
    from lie_sim.state import Particles, PhaseState

__version__ = "0.1.0"

__all__ = [
    "DrivenHamiltonian",
    "GeneralHamiltonian",
    "Hamiltonian",
    "LieTransformer",
    "Particles",
    "PhaseState",
    "__version__",
    "load_model",
    "save_model",
    "shipped_models",
]

_HOME = {
    "DrivenHamiltonian": "driven",
    "GeneralHamiltonian": "hamiltonian",
    "Hamiltonian": "hamiltonian",
    "LieTransformer": "models",
    "Particles": "state",
    "PhaseState": "state",
    "load_model": "checkpoint",
    "save_model": "checkpoint",
    "shipped_models": "shipped",
}
"""Public name to the module that defines it."""

if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        """A public name, or a part such as ``lie_sim.models``, at its first use (PEP 562)."""
        if name in _HOME:
            value = getattr(import_module(f"lie_sim.{_HOME[name]}"), name)
        elif not name.startswith("_") and find_spec(f"lie_sim.{name}"):
            value = import_module(f"lie_sim.{name}")
        else:
            raise AttributeError(f"module 'lie_sim' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
