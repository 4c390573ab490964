"""Options of the models that impute."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class CDSAConfig:
    """Options of :class:`~lie_sim.imputation.CDSA` and :class:`~lie_sim.imputation.GeometricCDSA`.

    Args:
        num_measurements: M; where they are vectors, 1 for positions, 2 for positions and their velocities.
        width: C, a multiple of ``num_heads``.
        num_heads: H.
        num_layers: how many.
        unit_of_time: of ``times``; lengths of gaps are told in it.
        frequencies: angular; where they are given, every entry is told cos ωt and sin ωt of its time. Empty for data
            without a clock, of which only differences of times matter.
        landmarks: R of the time axis; 0 for attention between all times.
        window: T, fixed, where there are landmarks; 0 otherwise.
        dim: components of each measurement, where these are vectors; 0 where they are numbers.
        num_places: L, fixed, where places are always the same, as stations are: each has weights of its own then. 0
            where they are exchangeable, as particles are.
        relation_width: hidden channels of the network by which a :class:`~lie_sim.imputation.CDSA` relates what is
            measured at one time; 0 for none. Vectors have none.
    """

    num_measurements: int
    width: int = 32
    num_heads: int = 4
    num_layers: int = 2
    unit_of_time: float = 1.0
    frequencies: tuple[float, ...] = ()
    landmarks: int = 0
    window: int = 0
    dim: int = 0
    num_places: int = 0
    relation_width: int = 96

    def __post_init__(self) -> None:
        if min(self.num_measurements, self.width, self.num_heads, self.num_layers) < 1:
            raise ValueError("num_measurements, width, num_heads and num_layers must be at least 1")
        if self.width % self.num_heads:
            raise ValueError(f"width={self.width} must be a multiple of num_heads={self.num_heads}")
        if not 0 < self.unit_of_time < math.inf:
            raise ValueError(f"unit_of_time must be positive, got {self.unit_of_time}")
        if (self.landmarks > 0) != (self.window > 0) or self.landmarks < 0 or self.window < 0:
            raise ValueError(
                "landmarks belong to a fixed window: give both, or neither; got "
                f"landmarks={self.landmarks} and window={self.window}"
            )
        if self.num_places < 0 or (self.num_places and self.dim):
            raise ValueError(
                f"particles are exchangeable: num_places={self.num_places} is for measurements that are numbers"
            )
        if self.relation_width < 0:
            raise ValueError(f"relation_width must be at least 0, got {self.relation_width}")
        if self.dim < 0 or (self.dim and (self.num_measurements > 2 or self.landmarks)):
            raise ValueError(
                "vectors are positions, or positions and velocities, without landmarks; got "
                f"dim={self.dim}, num_measurements={self.num_measurements} and landmarks={self.landmarks}"
            )
