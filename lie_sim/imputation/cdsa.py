"""What is missing in time × place × measurement, by attention along each of the three axes at once.

    x̂ = Σ_k w_k e_k + δ,      |x − x̂| ~ scale b

The network (:mod:`lie_sim.imputation.layers`) mixes the simple estimates e_k (:mod:`lie_sim.imputation.simple`) and
adds a correction that begins at 0, so it starts as good as their mean. An entry is told its own series, and at its time
the measurements of its place and the means of the others.

Shape letters: B windows, T times, L places, M measurements, K estimates, I inputs.
Reference: Ma, Shou, Zareian, Mansour, Vetro, Chang, "CDSA: cross-dimensional self-attention for multivariate,
geo-tagged time series imputation", arXiv:1905.09904.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.imputer import Imputed, Imputer
from lie_sim.imputation.layers import Trunk, gaps
from lie_sim.imputation.relations import Relations
from lie_sim.imputation.simple import NAMES, Observations, estimates, series_mean
from lie_sim.time_encoding import BochnerTime


class CDSA(Imputer):
    """Cross-dimensional self-attention.

    Args:
        config: its options.

    Raises:
        ValueError: measurements are vectors: that is :class:`~lie_sim.imputation.GeometricCDSA`.

    Example:
        >>> model = CDSA(CDSAConfig(num_measurements=2, width=8))
        >>> seen = Observations.of(torch.randn(3, 10, 4, 2), torch.arange(10.0).expand(3, -1))
        >>> model(seen.hiding(torch.rand(3, 10, 4, 2) < 0.3)).values.shape
        torch.Size([3, 10, 4, 2])
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__(config)
        if config.dim:
            raise ValueError("measurements that are vectors need a GeometricCDSA: build_imputer makes one")
        self.time = BochnerTime(config.frequencies) if config.frequencies else None
        count = config.num_measurements
        inputs = 2 + len(NAMES) + 4 + 4 * count + (self.time.num_features if self.time is not None else 0)
        self.trunk = Trunk(config, inputs)
        self.direct = nn.Parameter(torch.zeros(count, inputs))
        self.named = _NamedPlaces(config) if config.num_places else None
        self.read = nn.Linear(config.width, len(NAMES) + 2)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)
        self.relations = Relations(config) if config.relation_width else None

    def forward(self, seen: Observations) -> Imputed:
        """Estimates of all entries, of values in units of their spread (mean 0, variance about 1).

        Raises:
            ValueError: there are other measurements, or another number of times than landmarks are for.
        """
        self.check_dtype(seen)
        self._check(seen)
        simple, times = estimates(seen), seen.times / self.config.unit_of_time
        inputs = self._inputs(seen, simple, times)
        x = self.trunk(inputs, times, seen.observed.any(-1).any(-1))
        mix, correction, log_scale = self.read(x).split([len(NAMES), 1, 1], dim=-1)
        direct = (inputs * self.direct).sum(-1)
        if self.named is not None:
            direct = direct + self.named(seen)
        found = (mix.softmax(-1) * simple).sum(-1) + direct + correction.squeeze(-1)
        log_scale = log_scale.squeeze(-1)
        if self.relations is not None:
            found, log_scale = self.relations(seen, found, log_scale)
        return Imputed.of(seen, found, log_scale.clamp(-8, 4).exp())

    def _check(self, seen: Observations) -> None:
        shape = seen.values.shape
        if shape[3] != self.config.num_measurements:
            raise ValueError(f"this model is for {self.config.num_measurements} measurements, got {shape[3]}")
        if self.config.num_places not in (0, shape[2]):
            raise ValueError(f"this model is for {self.config.num_places} places, got {shape[2]}")
        if self.config.window and shape[1] != self.config.window:
            raise ValueError(
                f"landmarks of the time axis are for windows of {self.config.window} times, got {shape[1]}: cut the "
                "data into such windows, or use a model with landmarks=0"
            )

    def _inputs(self, seen: Observations, simple: Tensor, times: Tensor) -> Tensor:
        """What is known of each entry, shape (B, T, L, M, I)."""
        known = torch.where(seen.observed, seen.values, 0.0) - series_mean(seen) * seen.observed
        parts = [torch.stack([known, seen.observed.to(known)], dim=-1), gaps(seen, times), simple]
        parts += [_at_the_same_time(known, seen.observed)]
        if self.time is not None:
            features = self.time(seen.times)[:, :, None, None]
            parts.append(features.expand(*seen.values.shape, -1).to(simple))
        return torch.cat([part.to(simple) for part in parts], dim=-1)


class _NamedPlaces(nn.Module):
    """What each measurement of each place is told by those of the other places at the same time: a regression.

    Args:
        config: as of the model.
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__()
        places, count = config.num_places, config.num_measurements
        self.weight = nn.Parameter(torch.zeros(places, count, places, 2 * count))
        self.others: Tensor
        self.register_buffer(
            "others", ~torch.eye(places, dtype=torch.bool)[:, None, :, None], persistent=False
        )

    def forward(self, seen: Observations) -> Float[Tensor, "B T L M"]:
        """A correction, 0 before any training."""
        known = torch.cat([seen.known, seen.observed.to(seen.known)], dim=-1)
        found: Tensor = torch.einsum("btkn,lmkn->btlm", known, self.weight * self.others)
        return found


def _at_the_same_time(
    known: Float[Tensor, "B T L M"], observed: Bool[Tensor, "B T L M"]
) -> Float[Tensor, "B T L M I"]:
    """For every entry all measurements of its place, and their means over the other places; and how many there are."""
    there = observed.to(known)
    others = there.sum(2, keepdim=True) - there
    mean = (known.sum(2, keepdim=True) - known) / others.clamp(min=1)
    row = torch.cat([known, there, mean, (others > 0).to(known)], dim=-1)
    return row[:, :, :, None].expand(*known.shape, -1)
