"""Which models an experiment can be run with: the configurations of an option ``model``."""

from __future__ import annotations

from lie_sim.models import LieTransformerConfig, SE3TransformerConfig

ModelConfig = LieTransformerConfig | SE3TransformerConfig
"""In a file, the table ``[model]`` is of the one that knows most of its keys."""
