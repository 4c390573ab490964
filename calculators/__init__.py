"""Learned potentials as ASE calculators."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.calculators: write 'import lie_sim.calculators'")

from lie_sim.calculators.calculator import LieTransformerCalculator
from lie_sim.calculators.dynamics import AtomsDynamics, IntegratorMD
from lie_sim.calculators.hessian import SecondDerivatives
from lie_sim.calculators.many import predict_many
from lie_sim.calculators.structures import Structures, structures

__all__ = [
    "AtomsDynamics",
    "IntegratorMD",
    "LieTransformerCalculator",
    "SecondDerivatives",
    "Structures",
    "predict_many",
    "structures",
]
