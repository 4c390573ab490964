"""Options of the molecular dynamics that a report of a potential shows; importing them takes no ASE."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lie_sim.errors import ConfigError


@dataclass(frozen=True)
class DynamicsOptions:
    """Molecular dynamics with the trained potential, for the report.

    Args:
        picoseconds: length; 0 for none.
        time_step: fs.
        temperature: K; the relaxed structure is given twice as much as kinetic energy, half of which it will lose
            to the potential.
        max_cpu_seconds: it ends earlier if it takes longer.
        seed: of the velocities.
    """

    picoseconds: float = 2.0
    time_step: float = 0.5
    temperature: float = 300.0
    max_cpu_seconds: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("picoseconds", "temperature", "max_cpu_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(
                    f"dynamics.{name} must be finite and not negative, got {getattr(self, name)}"
                )
        if not 0 < self.time_step < math.inf:
            raise ConfigError(f"dynamics.time_step must be positive, got {self.time_step}")
