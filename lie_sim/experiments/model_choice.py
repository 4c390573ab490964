"""Which models an experiment can be run with: the configurations of an option ``model``."""

from __future__ import annotations

from typing import Any

from lie_sim.models import LieTransformerConfig, SE3TransformerConfig
from lie_sim.plain import to_plain

ModelConfig = LieTransformerConfig | SE3TransformerConfig
"""In a file, the table ``[model]`` is of the one that knows most of its keys."""
_FROM_THE_DATA = ("keep_moments", "num_species", "num_attributes", "attribute_mean", "attribute_std")


def network_options(model: ModelConfig) -> dict[str, Any]:
    """Options of the network of a potential, without those that follow from the data."""
    return {key: value for key, value in to_plain(model).items() if key not in _FROM_THE_DATA}
