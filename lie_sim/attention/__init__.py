"""Self-attention whose weights depend on relative poses, with the paper's kernels by name."""

from lie_sim.attention.induced import WHY_NO_LINFORMER, InducedLieAttention
from lie_sim.attention.kernels import COMBINATIONS, CONTENT_KERNELS, LOCATION_KERNELS
from lie_sim.attention.moments import MomentAttention
from lie_sim.attention.normalisation import NORMALISATIONS, attention_weights
from lie_sim.attention.self_attention import AttentionConfig, LieSelfAttention
from lie_sim.attention.steerable import KERNELS, SteerableAttention

__all__ = [
    "COMBINATIONS",
    "CONTENT_KERNELS",
    "KERNELS",
    "LOCATION_KERNELS",
    "NORMALISATIONS",
    "WHY_NO_LINFORMER",
    "AttentionConfig",
    "InducedLieAttention",
    "LieSelfAttention",
    "MomentAttention",
    "SteerableAttention",
    "attention_weights",
]
