"""Liftings: from positions to points of a group and their relative poses."""

from lie_sim.lifting.base import (
    LandmarkGeometry,
    Lifting,
    PairGeometry,
    gather_points,
    pair_mask,
    pair_vectors,
)
from lie_sim.lifting.finite import FiniteLift
from lie_sim.lifting.frame import FrameLift
from lie_sim.lifting.haar import HaarLift
from lie_sim.lifting.irreps import PARITIES, HarmonicLift, SphericalHarmonics, representations
from lie_sim.lifting.landmarks import LandmarkLift
from lie_sim.lifting.moments import MomentLift
from lie_sim.lifting.radial import RADIAL_BASES, RadialBasis, compress, smooth_cutoff

__all__ = [
    "PARITIES",
    "RADIAL_BASES",
    "FiniteLift",
    "FrameLift",
    "HaarLift",
    "HarmonicLift",
    "LandmarkGeometry",
    "LandmarkLift",
    "Lifting",
    "MomentLift",
    "PairGeometry",
    "RadialBasis",
    "SphericalHarmonics",
    "compress",
    "gather_points",
    "pair_mask",
    "pair_vectors",
    "representations",
    "smooth_cutoff",
]
