"""Learning to impute: observations are hidden, and the model is asked for them.

    loss = mean over the hidden of  |x − x̂| / b + log 2b        (Laplace: b becomes the expected absolute error)

Half of the windows have single entries hidden at random, half a whole place for some time (an outage), which is what a
model must be good at where a sensor fails or a particle is out of sight. A model that forecasts has the end of every
window hidden instead.

Shape letters: S samples, B batch, T times, L places, M measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lie_sim.imputation.imputer import Imputer
from lie_sim.imputation.simple import Observations
from lie_sim.training.tasks import Batch, TensorTask, select


class ImputationTask(TensorTask):
    """Hidden observations of windows.

    Args:
        train: windows of values in units of their spread.
        validation: likewise.
        share: of the observations that are hidden in a window where single entries are.
        longest: of an outage, in times; outages are of any length up to it. 0 for none.
        components: measurements that are hidden together, such as those of a vector; they follow each other.
        ahead: times at the end of every window that are hidden in all places, for a forecast; nothing else is then. 0
            for gaps.
        seed: of what is hidden in the validation.

    Raises:
        ValueError: a number is impossible.

    Example:
        >>> seen = Observations.of(torch.randn(4, 12, 3, 2), torch.arange(12.0).expand(4, -1))
        >>> task = ImputationTask(seen, seen, longest=6)
        >>> batch = task.batch(torch.arange(4), torch.Generator().manual_seed(0))
        >>> batch["hidden"].shape
        torch.Size([4, 12, 3, 2])
    """

    option_names: ClassVar[tuple[str, ...]] = ("share", "longest", "components", "ahead", "seed")

    def __init__(
        self,
        train: Observations,
        validation: Observations,
        *,
        share: float = 0.2,
        longest: int = 0,
        components: int = 1,
        ahead: int = 0,
        seed: int = 0,
    ) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share must be between 0 and 1, got {share}")
        if not 0 <= longest <= train.values.shape[1]:
            raise ValueError(
                f"longest must be from 0 to the window of {train.values.shape[1]}, got {longest}"
            )
        if components < 1 or train.values.shape[3] % components:
            raise ValueError(f"components={components} do not divide {train.values.shape[3]} measurements")
        if not 0 <= ahead < train.values.shape[1]:
            raise ValueError(
                f"ahead must be from 0 to less than the window of {train.values.shape[1]}, got {ahead}"
            )
        self.share, self.longest, self.components, self.seed = share, longest, components, seed
        self.ahead = ahead
        held = _tensors(validation)
        held["hidden"] = self.hidden(validation.observed, torch.Generator().manual_seed(seed))
        super().__init__(_tensors(train), held)

    def hidden(
        self, observed: Bool[Tensor, "B T L M"], generator: torch.Generator
    ) -> Bool[Tensor, "B T L M"]:
        """Which observations to hide: single ones in every other window, an outage in the rest; or the end of all."""
        if self.ahead:
            return observed & hidden_end(observed, self.ahead)
        vectors = (*observed.shape[:-1], observed.shape[-1] // self.components)
        single = torch.rand(vectors, generator=generator) < self.share
        single = single.repeat_interleave(self.components, dim=-1)
        if self.longest:
            outages = hidden_outages(observed, self.longest, generator)
            first = torch.randint(2, (), generator=generator)
            rest = (torch.arange(len(observed)) + first) % 2 == 1
            single = torch.where(rest[:, None, None, None], outages, single)
        return single.to(observed.device) & observed

    def batch(self, indices: Int[Tensor, " B"], generator: torch.Generator) -> Batch:
        """Windows, and what is hidden in them."""
        chosen = select(self._train, indices)
        return chosen | {"hidden": self.hidden(chosen["observed"], generator)}

    def loss(self, module: nn.Module, batch: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Negative log-likelihood of the hidden observations, less log 2."""
        found = _model(module)(_observations(batch).hiding(batch["hidden"]))
        error = (found.estimated - batch["values"]).abs() / found.estimated_scale
        each = torch.where(batch["hidden"], error + found.estimated_scale.log(), 0.0)
        return each.sum() / batch["hidden"].sum().clamp(min=1)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> dict[str, float]:
        """The loss on the validation data, and the mean absolute error of what is hidden there."""
        loss, error, count = 0.0, 0.0, 0
        for start in range(0, len(self._validation["values"]), _BATCH):
            part = select(self._validation, slice(start, start + _BATCH))
            hidden, number = part["hidden"], int(part["hidden"].sum())
            found = _model(module)(_observations(part).hiding(hidden))
            loss += number * float(self.loss(module, part))
            error += float((found.estimated - part["values"]).abs()[hidden].sum())
            count += number
        if not count:
            return {"validation_loss": math.nan, "mae": math.nan}
        return {"validation_loss": loss / count, "mae": error / count}


_BATCH = 64


def hidden_outages(
    observed: Bool[Tensor, "B T L M"], longest: int, generator: torch.Generator, *, shortest: int = 1
) -> Bool[Tensor, "B T L M"]:
    """All measurements of one place of each window, for from ``shortest`` to ``longest`` times in a row.

    Example:
        >>> observed = torch.ones(2, 10, 3, 2, dtype=torch.bool)
        >>> hidden = hidden_outages(observed, 4, torch.Generator().manual_seed(0))
        >>> bool((hidden.any(1).any(-1).sum(-1) == 1).all()), int(hidden.sum(1).max()) <= 4
        (True, True)
    """
    count, length, places, _ = observed.shape
    extent = torch.randint(shortest, longest + 1, (count,), generator=generator)
    begun = (torch.rand(count, generator=generator) * (length - extent + 1)).long()
    place = torch.randint(places, (count,), generator=generator)
    index = torch.arange(length)
    when = (index >= begun[:, None]) & (index < (begun + extent)[:, None])
    where = torch.arange(places) == place[:, None]
    return (when[:, :, None, None] & where[:, None, :, None]).expand(observed.shape)


def hidden_end(observed: Bool[Tensor, "B T L M"], ahead: int) -> Bool[Tensor, "B T L M"]:
    """The last times of all windows.

    Example:
        >>> hidden_end(torch.ones(1, 3, 1, 1, dtype=torch.bool), 1).flatten().tolist()
        [False, False, True]
    """
    length = observed.shape[1]
    late = torch.arange(length, device=observed.device) >= length - ahead
    return late[:, None, None].expand(observed.shape)


def _tensors(seen: Observations) -> dict[str, Tensor]:
    return {"values": seen.known, "observed": seen.observed, "times": seen.times}


def _observations(batch: Mapping[str, Tensor]) -> Observations:
    return Observations(batch["values"], batch["observed"], batch["times"])


def _model(module: nn.Module) -> Imputer:
    if not isinstance(module, Imputer):
        raise TypeError(f"this task is for a CDSA or GeometricCDSA, got {type(module).__name__}")
    return module
