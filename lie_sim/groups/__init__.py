"""Matrix groups with closed-form exp and log whose first and second gradients are finite everywhere."""

from lie_sim.groups.affine import SE2, SE3, SemidirectTranslation, Translation
from lie_sim.groups.base import LieGroup
from lie_sim.groups.finite import Cyclic, Dihedral, FiniteGroup, Trivial
from lie_sim.groups.linear import SO2, SO3, LinearGroup, Orthogonal
from lie_sim.groups.polyhedral import Icosahedral, Octahedral, Tetrahedral
from lie_sim.groups.registry import group, random_transform
from lie_sim.groups.rotations import matrix_from_quaternion, quaternion_from_matrix
from lie_sim.groups.scaled import ScaledRotation2

__all__ = [
    "SE2",
    "SE3",
    "SO2",
    "SO3",
    "Cyclic",
    "Dihedral",
    "FiniteGroup",
    "Icosahedral",
    "LieGroup",
    "LinearGroup",
    "Octahedral",
    "Orthogonal",
    "ScaledRotation2",
    "SemidirectTranslation",
    "Tetrahedral",
    "Translation",
    "Trivial",
    "group",
    "matrix_from_quaternion",
    "quaternion_from_matrix",
    "random_transform",
]
