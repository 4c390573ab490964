"""What measurements at the same time say of each other, as wind from the east and north say of its speed.

    x̂ ← x̂ + f(x, x̂),    log b ← log b + g(x, x̂)        f, g one network of two hidden layers, 0 before any training

It reads what was observed, and the estimate where nothing was. Between measurements of a place it reads values, as laws
hold between these, not between deviations from means of windows; places that are always the same have a first layer of
their own, as their units of spread differ, and share the rest. Between such places it reads, before that, deviations
from the mean of each series in its window: what one place says of another moves with their levels over the years.

Shape letters: B windows, T times, L places, M measurements, G groups, each with I = 2R numbers and masks, H channels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.simple import Observations, series_mean


class Relations(nn.Module):
    """Corrections by what else is measured at the same time.

    Args:
        config: as of the model.

    Example:
        >>> seen = Observations.of(torch.randn(3, 10, 4, 2), torch.arange(10.0).expand(3, -1))
        >>> found, log_scale = Relations(CDSAConfig(num_measurements=2))(seen, seen.values, seen.values)
        >>> torch.equal(found, seen.values)
        True
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__()
        count, places, width = config.num_measurements, config.num_places, config.relation_width
        self.all = _Network(1, places * count, width) if places > 1 else None
        self.each = _Network(max(places, 1), count, width) if count > 1 else None

    def forward(
        self, seen: Observations, found: Float[Tensor, "B T L M"], log_scale: Float[Tensor, "B T L M"]
    ) -> tuple[Float[Tensor, "B T L M"], Float[Tensor, "B T L M"]]:
        """Estimates and logarithms of their scales, corrected."""
        if self.all is not None:
            estimated = found.mean(1, keepdim=True)
            level = torch.where(seen.observed.any(1, keepdim=True), series_mean(seen), estimated)
            row = _known(seen, found, level).flatten(2).unsqueeze(2)
            correction, change = self.all(row).reshape(*found.shape, 2).unbind(-1)
            found, log_scale = found + correction, log_scale + change
        if self.each is not None:
            row = _known(seen, found).flatten(3)
            correction, change = self.each(row).reshape(*found.shape, 2).unbind(-1)
            found, log_scale = found + correction, log_scale + change
        return found, log_scale


def _known(
    seen: Observations, found: Float[Tensor, "B T L M"], level: Float[Tensor, "B 1 L M"] | float = 0.0
) -> Float[Tensor, "B T L M 2"]:
    """What was observed, or else the estimate, less a level; and whether it was."""
    values = torch.where(seen.observed, seen.values, found) - level
    return torch.stack([values, seen.observed.to(values)], dim=-1)


class _Network(nn.Module):
    """From values and whether they were observed to a correction and a change of the scale of each.

    Args:
        groups: G that have a first layer of their own; 1 for the same for all.
        count: R, numbers of a group.
        width: H.
    """

    def __init__(self, groups: int, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, 2 * count, width) / math.sqrt(2 * count))
        self.bias = nn.Parameter(torch.zeros(groups, width))
        read, middle = nn.Linear(width, 2 * count), nn.Linear(width, width)
        nn.init.zeros_(read.weight)
        nn.init.zeros_(read.bias)
        self.rest = nn.Sequential(nn.GELU(), middle, nn.GELU(), read)

    def forward(self, row: Float[Tensor, "B T G I"]) -> Float[Tensor, "B T G I"]:
        weight = self.weight.expand(row.shape[2], -1, -1)
        found: Tensor = self.rest(torch.einsum("btgi,gih->btgh", row, weight) + self.bias)
        return found
