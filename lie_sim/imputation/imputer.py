"""What every model that imputes gives.

Shape letters: B windows, T times, L places, M measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.simple import Observations


@dataclass(frozen=True)
class Imputed:
    """Estimates of all entries.

    Args:
        values: shape (B, T, L, M); what was observed is as it was observed.
        scale: b, the mean absolute error to be expected, shape (B, T, L, M); 0 for what was observed.
        estimated: the model's estimate, also where something was observed.
        estimated_scale: its b.
    """

    values: Float[Tensor, "B T L M"]
    scale: Float[Tensor, "B T L M"]
    estimated: Float[Tensor, "B T L M"]
    estimated_scale: Float[Tensor, "B T L M"]

    @staticmethod
    def of(seen: Observations, found: Float[Tensor, "B T L M"], scale: Float[Tensor, "B T L M"]) -> Imputed:
        """Estimates, and observations where there are any."""
        kept = torch.where(seen.observed, seen.values, found), torch.where(seen.observed, 0.0, scale)
        return Imputed(*kept, found, scale)


class Imputer(nn.Module):
    """A model that estimates all entries of windows.

    Args:
        config: its options.
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, seen: Observations) -> Imputed:
        """Estimates of all entries."""
        raise NotImplementedError(f"{type(self).__name__} must implement forward")

    def check_dtype(self, seen: Observations) -> None:
        """Refuse observations of another precision than the weights.

        Raises:
            TypeError: they are.
        """
        own = next(self.parameters()).dtype
        if seen.values.dtype != own:
            raise TypeError(
                f"the observations are {seen.values.dtype} and the model is {own}: convert one of them, such as "
                "Observations(values.float(), observed, times.float()) or model.double()"
            )
