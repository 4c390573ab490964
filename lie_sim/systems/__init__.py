"""Ground-truth systems with trajectories that are exact or accurate to near machine precision."""

from lie_sim.systems.base import System, build_system, register_system, system_names
from lie_sim.systems.dipoles import SoftDipoles
from lie_sim.systems.driven import DrivenDuffing, DrivenSprings, DrivenSystem, TidalTwoBody
from lie_sim.systems.nbody import SoftenedCharges, SoftenedGravity
from lie_sim.systems.pendulum import PendulumChain
from lie_sim.systems.rigid_body import FreeRigidBody, HeavyTop, RigidBodySystem
from lie_sim.systems.solar import SolarSystem
from lie_sim.systems.springs import Springs

__all__ = [
    "DrivenDuffing",
    "DrivenSprings",
    "DrivenSystem",
    "FreeRigidBody",
    "HeavyTop",
    "PendulumChain",
    "RigidBodySystem",
    "SoftDipoles",
    "SoftenedCharges",
    "SoftenedGravity",
    "SolarSystem",
    "Springs",
    "System",
    "TidalTwoBody",
    "build_system",
    "register_system",
    "system_names",
]
