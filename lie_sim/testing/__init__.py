"""Tests that any ASE calculator can be run through, ours among them."""

from lie_sim.testing.conformance import CalculatorConformance
from lie_sim.testing.measures import (
    continuity_error,
    force_error,
    orthogonal_error,
    permutation_error,
    size_consistency_error,
    stress_error,
    supercell_error,
    transformed_error,
    translation_error,
    unwrapped_error,
)

__all__ = [
    "CalculatorConformance",
    "continuity_error",
    "force_error",
    "orthogonal_error",
    "permutation_error",
    "size_consistency_error",
    "stress_error",
    "supercell_error",
    "transformed_error",
    "translation_error",
    "unwrapped_error",
]
