"""Options of a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lie_sim.errors import ConfigError


@dataclass(frozen=True)
class FitConfig:
    """Options of :func:`~lie_sim.fitting.fit`.

    Args:
        masses: one for all, or one for each particle in the order of their names.
        distinct: whether particles differ in more than their mass; each then has a kind of its own.
        holdout: part of the time of every track, at its end, that is not fitted but compared with the forecast.
        forecast: time that is forecast beyond the end, in parts of the time that was observed.
        window: times that are looked at together when gaps are filled; more where gaps are longer than a quarter of it.
        segment: intervals of a segment of the shooting; short ones are learned from sooner.
        noise: of observed positions, in the unit of length; None to estimate it.
        imputer_steps: training steps of the model that fills gaps.
        fit_steps: training steps of each round of shooting.
        rounds: of shooting; before each but the first, gaps are filled by the fitted motion.
        end_steps: quasi-Newton steps by which the state at the end of every track is found; 0 for that of
            the shooting.
        width: of the LieTransformer.
        seed: of everything random.
    """

    masses: tuple[float, ...] = (1.0,)
    distinct: bool = False
    holdout: float = 0.2
    forecast: float = 0.5
    window: int = 64
    segment: int = 4
    noise: float | None = None
    imputer_steps: int = 400
    fit_steps: int = 400
    rounds: int = 2
    end_steps: int = 20
    width: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.masses or not all(0 < mass < math.inf for mass in self.masses):
            raise ConfigError(f"masses must be positive, got {self.masses}")
        if not 0 <= self.holdout <= 0.9 or not 0 <= self.forecast < math.inf:
            raise ConfigError(
                f"holdout must be from 0 to 0.9 and forecast not negative, got {self.holdout} and {self.forecast}"
            )
        if self.noise is not None and not 0 < self.noise < math.inf:
            raise ConfigError(f"noise must be positive, got {self.noise}")
        for name in ("segment", "imputer_steps", "fit_steps", "rounds", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.end_steps < 0:
            raise ConfigError(f"end_steps must not be negative, got {self.end_steps}")
        if self.window < 4:
            raise ConfigError(f"window must be at least 4, got {self.window}")
