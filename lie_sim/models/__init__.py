"""Potentials: modules from positions to per-particle energies."""

from lie_sim.models.atomic import AtomicPotential
from lie_sim.models.atomic_config import AtomicConfig, HeadConfig, heads
from lie_sim.models.base import (
    EnergyModel,
    build_model,
    config_as_dict,
    model_class,
    model_class_of,
    model_names,
    parameter_count,
    register_model,
)
from lie_sim.models.config import LieTransformerConfig
from lie_sim.models.derivatives import Evaluation, evaluate, property_jacobian
from lie_sim.models.features import FeatureModel, Features, FeatureSizes
from lie_sim.models.fully_connected import FullyConnected, FullyConnectedConfig
from lie_sim.models.graph_classifier import GraphClassifier, GraphClassifierConfig
from lie_sim.models.lie_transformer import LieTransformer, LieTransformerClassifier
from lie_sim.models.presets import PAPER_PRESETS, paper_preset
from lie_sim.models.se3_config import SE3_PRESETS, SE3TransformerConfig
from lie_sim.models.se3_transformer import SE3Transformer, SE3TransformerDynamics, se3_preset

__all__ = [
    "PAPER_PRESETS",
    "SE3_PRESETS",
    "AtomicConfig",
    "AtomicPotential",
    "EnergyModel",
    "Evaluation",
    "FeatureModel",
    "FeatureSizes",
    "Features",
    "FullyConnected",
    "FullyConnectedConfig",
    "GraphClassifier",
    "GraphClassifierConfig",
    "HeadConfig",
    "LieTransformer",
    "LieTransformerClassifier",
    "LieTransformerConfig",
    "SE3Transformer",
    "SE3TransformerConfig",
    "SE3TransformerDynamics",
    "build_model",
    "config_as_dict",
    "evaluate",
    "heads",
    "model_class",
    "model_class_of",
    "model_names",
    "paper_preset",
    "parameter_count",
    "property_jacobian",
    "register_model",
    "se3_preset",
]
