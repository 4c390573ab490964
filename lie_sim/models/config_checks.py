"""What the configurations of models refuse, in one wording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lie_sim.attention import WHY_NO_LINFORMER

ATTENTIONS = ("full", "local", "induced")


def require_positive(name: str, value: float) -> None:
    """Refuse a scale that cannot be divided by.

    Raises:
        ValueError: the value is 0, negative, infinite or NaN.

    Example:
        >>> require_positive("length_scale", float("nan"))
        Traceback (most recent call last):
        ValueError: length_scale must be positive and finite, got nan
    """
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def require_choices(config: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a name that is none of those allowed for its field."""
    for name, allowed in choices.items():
        value = getattr(config, name)
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(allowed)}")


def require_attention(config: Any) -> None:
    """Refuse an attention that is unknown or lacks a cutoff, and landmarks that nothing would use."""
    if config.attention == "linformer":
        raise ValueError(WHY_NO_LINFORMER)
    require_choices(config, {"attention": ATTENTIONS})
    if config.attention != "full" and not config.cutoff:
        raise ValueError(
            f"attention={config.attention!r} attends to the particles within the cutoff: give cutoff > 0"
        )
    default = type(config).num_landmarks
    if config.attention != "induced" and config.num_landmarks != default:
        raise ValueError(
            f"num_landmarks is for attention='induced' and would have no effect with {config.attention!r}: "
            f"leave it {default}, not {config.num_landmarks}"
        )


def require_numbers(
    config: Any, *, least: Mapping[str, int], positive: Iterable[str], not_negative: Iterable[str]
) -> None:
    """Refuse counts below their least value, scales that are not positive, and lengths below 0."""
    for name, smallest in least.items():
        if not getattr(config, name) >= smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {getattr(config, name)}")
    for name in positive:
        require_positive(name, getattr(config, name))
    for name in not_negative:
        value = getattr(config, name)
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be finite and not negative, got {value}")


def require_standards(config: Any) -> None:
    """Refuse means and deviations of masses and attributes that are not finite, not positive or too few."""
    if not math.isfinite(config.mass_mean):
        raise ValueError(f"mass_mean must be finite, got {config.mass_mean}")
    for name in ("attribute_mean", "attribute_std"):
        value = getattr(config, name)
        if value and len(value) != config.num_attributes:
            raise ValueError(f"{name} has {len(value)} values for num_attributes={config.num_attributes}")
        if not all(map(math.isfinite, value)):
            raise ValueError(f"{name} must be finite, got {value}")
    for number, value in enumerate(config.attribute_std):
        require_positive(f"attribute_std[{number}]", value)
