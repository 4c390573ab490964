"""Symplectic splitting methods for learned and exact Hamiltonians, behind torchdiffeq's signature."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.integrators: write 'import lie_sim.integrators'")

from lie_sim.integrators.dynamics import SeparableDynamics, SystemDynamics, separable_dynamics
from lie_sim.integrators.methods import SplittingMethod, get_method, is_splitting_method, methods
from lie_sim.integrators.ode import odeint, odeint_adjoint
from lie_sim.integrators.stepper import advance, integrate

__all__ = [
    "SeparableDynamics",
    "SplittingMethod",
    "SystemDynamics",
    "advance",
    "get_method",
    "integrate",
    "is_splitting_method",
    "methods",
    "odeint",
    "odeint_adjoint",
    "separable_dynamics",
]
