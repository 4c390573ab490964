"""Architectures of the published experiments, as configurations.

Sources: Hutchinson et al., arXiv:2012.10885, and the flags of its released scripts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lie_sim.models.config import LieTransformerConfig

_COMMON = LieTransformerConfig(
    location="mlp",
    gated_values=False,
    norm="pre",
    paper_blocks=True,
    head="deep",
    readout="mean",
    epsilon=0.0,
    num_heads=8,
    kernel_hidden=16,
)

PAPER_PRESETS: dict[str, LieTransformerConfig] = {
    "springs-T2": replace(
        _COMMON,
        dim=2,
        num_attributes=1,
        lifting="haar",
        group="T(2)",
        width=160,
        num_layers=5,
        normalisation="constant",
        centre=True,
    ),
    "springs-SE2": replace(
        _COMMON,
        dim=2,
        num_attributes=1,
        lifting="finite",
        group="C2",
        element_code="index",
        width=80,
        num_layers=3,
        normalisation="constant",
        centre=True,
    ),
    "shapes": replace(
        _COMMON,
        dim=2,
        use_masses=False,
        num_attributes=33,
        lifting="finite",
        group="C4",
        element_code="index",
        width=512,
        num_layers=6,
        normalisation="softmax",
    ),
    "qm9": replace(
        _COMMON,
        dim=3,
        use_masses=False,
        num_attributes=15,
        lifting="haar",
        group="SE(3)",
        num_lifts=4,
        pose="quaternion",
        squash=7.0,
        width=1504,
        num_layers=6,
        kernel_hidden=6,
        content="concat_linear",
        content_features=8,
        location="plain",
        combination="mlp",
        normalisation="constant",
        head="linear",
    ),
}


def paper_preset(preset: str, **options: Any) -> LieTransformerConfig:
    """Configuration of a published experiment with single fields overridden.

    Raises:
        ValueError: unknown preset.

    Example:
        >>> paper_preset("springs-T2").width
        160
    """
    if preset not in PAPER_PRESETS:
        raise ValueError(f"unknown paper preset {preset!r}; choose one of {', '.join(PAPER_PRESETS)}")
    return replace(PAPER_PRESETS[preset], **options)
