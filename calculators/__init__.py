"""Learned potentials as ASE calculators.

The names are imported at their first use: ASE looks into this package for plug-ins whenever it starts.
"""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.calculators: write 'import lie_sim.calculators'")

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lie_sim.calculators.calculator import LieTransformerCalculator
    from lie_sim.calculators.calibration import Calibration
    from lie_sim.calculators.conversion import Structures, structures
    from lie_sim.calculators.dynamics import AtomsDynamics, IntegratorMD
    from lie_sim.calculators.hessian import SecondDerivatives
    from lie_sim.calculators.infrared import infrared_intensities, vibrations
    from lie_sim.calculators.many import predict_many
    from lie_sim.calculators.remote import RemoteCalculator
    from lie_sim.calculators.uncertainty import UncertaintyWarning

__all__ = [
    "AtomsDynamics",
    "Calibration",
    "IntegratorMD",
    "LieTransformerCalculator",
    "RemoteCalculator",
    "SecondDerivatives",
    "Structures",
    "UncertaintyWarning",
    "infrared_intensities",
    "predict_many",
    "structures",
    "vibrations",
]

_HOME = {
    "AtomsDynamics": "dynamics",
    "Calibration": "calibration",
    "IntegratorMD": "dynamics",
    "LieTransformerCalculator": "calculator",
    "RemoteCalculator": "remote",
    "SecondDerivatives": "hessian",
    "Structures": "conversion",
    "UncertaintyWarning": "uncertainty",
    "infrared_intensities": "infrared",
    "predict_many": "many",
    "structures": "conversion",
    "vibrations": "infrared",
}
"""Public name to the module that defines it."""

if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        """A public name at its first use (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'lie_sim.calculators' has no attribute {name!r}")
        value = getattr(import_module(f"lie_sim.calculators.{_HOME[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
