"""Symplectic splitting methods for learned and exact Hamiltonians, behind torchdiffeq's signature."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.integrators: write 'import lie_sim.integrators'")

from lie_sim.integrators.dynamics import SeparableDynamics, SystemDynamics, separable_dynamics
from lie_sim.integrators.lie_dynamics import LieGroupDynamics, RigidBodyDynamics
from lie_sim.integrators.lie_group import CommutatorFree, MuntheKaas
from lie_sim.integrators.method import Memory, Method
from lie_sim.integrators.ode import odeint, odeint_adjoint
from lie_sim.integrators.registry import get_method, is_method, methods, splitting_methods
from lie_sim.integrators.rigid_body import RigidBodySplitting
from lie_sim.integrators.splitting import SplittingMethod
from lie_sim.integrators.stepper import advance, integrate
from lie_sim.integrators.torchdiffeq_plugin import register_torchdiffeq, unregister_torchdiffeq

__all__ = [
    "CommutatorFree",
    "LieGroupDynamics",
    "Memory",
    "Method",
    "MuntheKaas",
    "RigidBodyDynamics",
    "RigidBodySplitting",
    "SeparableDynamics",
    "SplittingMethod",
    "SystemDynamics",
    "advance",
    "get_method",
    "integrate",
    "is_method",
    "methods",
    "odeint",
    "odeint_adjoint",
    "register_torchdiffeq",
    "separable_dynamics",
    "splitting_methods",
    "unregister_torchdiffeq",
]
