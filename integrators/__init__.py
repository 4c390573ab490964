"""Integrators behind torchdiffeq's signature: symplectic, thermal, constrained, on Lie groups; exact or learned."""

if not __name__.startswith("lie_sim."):
    raise ImportError("this folder is the package lie_sim.integrators: write 'import lie_sim.integrators'")

from lie_sim.integrators.adaptive import AdaptiveLeapfrog
from lie_sim.integrators.clock import Clocked
from lie_sim.integrators.compiled import Compiled
from lie_sim.integrators.constraints import ConstrainedDynamics, DistanceConstraints
from lie_sim.integrators.dense import odeint_dense
from lie_sim.integrators.dynamics import DrivenDynamics, SeparableDynamics, SystemDynamics, separable_dynamics
from lie_sim.integrators.extended import Tao2, Tao4
from lie_sim.integrators.hermite import DenseOutput
from lie_sim.integrators.implicit import Gauss4, Gauss6, ImplicitMidpoint
from lie_sim.integrators.kinetic_baths import CSVR, NoseHooverChain
from lie_sim.integrators.lie_dynamics import LieGroupDynamics, RigidBodyDynamics
from lie_sim.integrators.lie_group import CommutatorFree, MuntheKaas
from lie_sim.integrators.method import Memory, Method
from lie_sim.integrators.noise import normal_noise, philox
from lie_sim.integrators.ode import odeint, odeint_adjoint
from lie_sim.integrators.rattle import Rattle
from lie_sim.integrators.registry import get_method, is_method, methods, splitting_methods
from lie_sim.integrators.rigid_body import RigidBodySplitting
from lie_sim.integrators.splitting import SplittingMethod
from lie_sim.integrators.stepper import advance, integrate
from lie_sim.integrators.thermostats import BAOAB, OBABO, LangevinMiddle
from lie_sim.integrators.torchdiffeq_plugin import register_torchdiffeq, unregister_torchdiffeq

__all__ = [
    "BAOAB",
    "CSVR",
    "OBABO",
    "AdaptiveLeapfrog",
    "Clocked",
    "CommutatorFree",
    "Compiled",
    "ConstrainedDynamics",
    "DenseOutput",
    "DistanceConstraints",
    "DrivenDynamics",
    "Gauss4",
    "Gauss6",
    "ImplicitMidpoint",
    "LangevinMiddle",
    "LieGroupDynamics",
    "Memory",
    "Method",
    "MuntheKaas",
    "NoseHooverChain",
    "Rattle",
    "RigidBodyDynamics",
    "RigidBodySplitting",
    "SeparableDynamics",
    "SplittingMethod",
    "SystemDynamics",
    "Tao2",
    "Tao4",
    "advance",
    "get_method",
    "integrate",
    "is_method",
    "methods",
    "normal_noise",
    "odeint",
    "odeint_adjoint",
    "odeint_dense",
    "philox",
    "register_torchdiffeq",
    "separable_dynamics",
    "splitting_methods",
    "unregister_torchdiffeq",
]
