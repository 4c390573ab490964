"""What is missing in time × place × measurement, by attention along each of the three axes at once.

    A_T[t, t′] = softmax_{t′} Σ_{l,m} ⟨q_tlm, k_t′lm⟩ / √(L M d) + ψ(t − t′),      A_L and A_M likewise
    Z = V ×_T A_T ×_L A_L ×_M A_M                    x̂ = Σ_k w_k e_k + δ,      |x − x̂| ~ scale b

All three maps are made from the same input, and products along different axes commute, so their order does not matter.
A joint map over all entries would cost (T L M)², these cost T² + L² + M². Weights are shared over times and places:
their numbers may change between training and use, and places may be permuted. An entry is told its own series, and at
its time the measurements of its place and the means of the others. The network mixes the simple estimates e_k
(:mod:`lie_sim.imputation.simple`) and adds a correction that begins at 0, so it starts as good as their mean.

Long windows: along the time axis keys and values may be projected to ``landmarks`` rows, as in a Linformer. The
projection belongs to the index of a time, so the length of the window is then fixed, and nothing about it is causal.

Shape letters: B windows, T times, L places, M measurements, C channels, H heads, K estimates, R landmarks.
References: Ma, Shou, Zareian, Mansour, Vetro, Chang, "CDSA: cross-dimensional self-attention for multivariate,
geo-tagged time series imputation", arXiv:1905.09904 (decomposed form); Wang, Li, Khabsa, Fang, Ma, "Linformer",
arXiv:2006.04768.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lie_sim.imputation.simple import NAMES, Observations, estimates, neighbours, series_mean
from lie_sim.time_encoding import BochnerTime

AXES = (1, 2, 3)
"""Time, place, measurement."""


@dataclass(frozen=True)
class CDSAConfig:
    """Options of :class:`CDSA`.

    Args:
        num_measurements: M.
        width: C, a multiple of ``num_heads``.
        num_heads: H.
        num_layers: how many.
        unit_of_time: of ``times``; lengths of gaps are told in it.
        frequencies: angular; where they are given, every entry is told cos ωt and sin ωt of its time. Empty for data
            without a clock, of which only differences of times matter.
        landmarks: R of the time axis; 0 for attention between all times.
        window: T, fixed, where there are landmarks; 0 otherwise.
    """

    num_measurements: int
    width: int = 32
    num_heads: int = 4
    num_layers: int = 2
    unit_of_time: float = 1.0
    frequencies: tuple[float, ...] = ()
    landmarks: int = 0
    window: int = 0

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


class CDSA(nn.Module):
    """Cross-dimensional self-attention.

    Args:
        config: its options.

    Example:
        >>> model = CDSA(CDSAConfig(num_measurements=2, width=8))
        >>> seen = Observations.of(torch.randn(3, 10, 4, 2), torch.arange(10.0).expand(3, -1))
        >>> model(seen.hiding(torch.rand(3, 10, 4, 2) < 0.3)).values.shape
        torch.Size([3, 10, 4, 2])
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__()
        self.config = config
        self.time = BochnerTime(config.frequencies) if config.frequencies else None
        count = config.num_measurements
        inputs = 2 + len(NAMES) + 4 + 4 * count + (self.time.num_features if self.time is not None else 0)
        self.embed = nn.Parameter(torch.randn(count, inputs, config.width) / math.sqrt(inputs))
        self.measurement = nn.Parameter(0.1 * torch.randn(count, config.width))
        self.direct = nn.Parameter(torch.zeros(count, inputs))
        self.layers = nn.ModuleList(CrossDimensionalLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        self.read = nn.Linear(config.width, len(NAMES) + 2)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(self, seen: Observations) -> Imputed:
        """Estimates of all entries, of values in units of their spread (mean 0, variance about 1).

        Raises:
            ValueError: there are other measurements, or another number of times than landmarks are for.
        """
        self._check(seen)
        simple = estimates(seen)
        inputs = self._inputs(seen, simple)
        x = torch.einsum("btlmi,mic->btlmc", inputs, self.embed) + self.measurement
        frames = seen.observed.any(-1).any(-1)
        for layer in self.layers:
            x = layer(x, seen.times / self.config.unit_of_time, frames)
        mix, correction, log_scale = self.read(self.norm(x)).split([len(NAMES), 1, 1], dim=-1)
        direct = (inputs * self.direct).sum(-1)
        found = (mix.softmax(-1) * simple).sum(-1) + direct + correction.squeeze(-1)
        scale = log_scale.squeeze(-1).clamp(-8, 4).exp()
        return Imputed(
            torch.where(seen.observed, seen.values, found),
            torch.where(seen.observed, 0.0, scale),
            found,
            scale,
        )

    def _check(self, seen: Observations) -> None:
        shape = seen.values.shape
        if shape[3] != self.config.num_measurements:
            raise ValueError(f"this model is for {self.config.num_measurements} measurements, got {shape[3]}")
        if self.config.window and shape[1] != self.config.window:
            raise ValueError(
                f"landmarks of the time axis are for windows of {self.config.window} times, got {shape[1]}: cut the "
                "data into such windows, or use a model with landmarks=0"
            )

    def _inputs(self, seen: Observations, simple: Tensor) -> Tensor:
        """What is known of each entry, shape (B, T, L, M, ·)."""
        near, length = neighbours(seen.observed), seen.values.shape[1]
        t = (seen.times / self.config.unit_of_time)[:, :, None, None].expand(seen.values.shape)
        gaps = []
        for index, exists in ((near.before, near.before >= 0), (near.after, near.after < length)):
            gap = (t.gather(1, index.clamp(0, length - 1)) - t).abs()
            gaps += [torch.where(exists, torch.log1p(gap), 0.0), exists.to(t)]
        known = torch.where(seen.observed, seen.values, 0.0) - series_mean(seen) * seen.observed
        parts = [torch.stack([known, seen.observed.to(t), *gaps], dim=-1).to(simple), simple]
        parts += [_at_the_same_time(known, seen.observed)]
        if self.time is not None:
            features = self.time(seen.times)[:, :, None, None]
            parts.append(features.expand(*seen.values.shape, -1).to(simple))
        return torch.cat(parts, dim=-1)


def _at_the_same_time(
    known: Float[Tensor, "B T L M"], observed: Bool[Tensor, "B T L M"]
) -> Float[Tensor, "B T L M I"]:
    """For every entry all measurements of its place, and their means over the other places; and how many there are."""
    there = observed.to(known)
    others = there.sum(2, keepdim=True) - there
    mean = (known.sum(2, keepdim=True) - known) / others.clamp(min=1)
    row = torch.cat([known, there, mean, (others > 0).to(known)], dim=-1)
    return row[:, :, :, None].expand(*known.shape, -1)


class CrossDimensionalLayer(nn.Module):
    """Attention along three axes, then a network for each entry.

    Args:
        config: as of the model.
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__()
        self.heads, width = config.num_heads, config.width
        self.before = nn.LayerNorm(width)
        self.maps = nn.ModuleList(nn.Linear(width, 2 * width, bias=False) for _ in AXES)
        self.value, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.delays = DelayBias(config.num_heads)
        self.project: nn.ParameterList | None = None
        if config.landmarks:
            bound = 1 / math.sqrt(config.landmarks)
            made = (torch.empty(config.landmarks, config.window).uniform_(-bound, bound) for _ in range(2))
            self.project = nn.ParameterList(made)
        self.each = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, x: Float[Tensor, "B T L M C"], times: Float[Tensor, "B T"], frames: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T L M C"]:
        """The next features; frames without any observation are zeroed before they are projected."""
        y = self.before(x)
        value = self.value(y).unflatten(-1, (self.heads, -1))
        if self.project is not None:
            value = self._projected(value, 1, frames)
        for axis, maps in zip(AXES, self.attention(y, times, frames), strict=True):
            value = along(value, maps, axis)
        mixed: Tensor = x + self.out(value.flatten(-2))
        further: Tensor = self.each(mixed)
        return mixed + further

    def attention(
        self, y: Float[Tensor, "B T L M C"], times: Float[Tensor, "B T"], frames: Bool[Tensor, "B T"]
    ) -> list[Float[Tensor, "B H Q P"]]:
        """The map of every axis, rows that sum to 1, shape (B, H, ·, ·); of time (T, R) where it is projected."""
        found = []
        for axis, maps in zip(AXES, self.maps, strict=True):
            query, key = (part.unflatten(-1, (self.heads, -1)) for part in maps(y).chunk(2, dim=-1))
            if axis == 1 and self.project is not None:
                key = self._projected(key, 0, frames)
            logits = _products(query, key, axis)
            if axis == 1 and self.project is None:
                logits = logits + self.delays(times[:, :, None] - times[:, None])
            found.append(logits.softmax(-1))
        return found

    def _projected(
        self, x: Float[Tensor, "B T L M H D"], which: int, frames: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B R L M H D"]:
        """E K or F V of a Linformer: keys (0) or values (1) of landmarks in place of times."""
        assert self.project is not None
        return torch.einsum("rt,bt,btlmhd->brlmhd", self.project[which], frames.to(x), x)


class DelayBias(nn.Module):
    """ψ(Δt) ≤ 0 for each head: how much less a time counts that is further away.

    Args:
        num_heads: H.

    Example:
        >>> bias = DelayBias(2)(torch.tensor([[[0.0, 3.0]]]))
        >>> bias.shape, bool((bias[..., 0] == 0).all())
        (torch.Size([1, 2, 1, 2]), True)
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.linspace(-3.0, 0.0, num_heads))

    def forward(self, delay: Float[Tensor, "B T S"]) -> Float[Tensor, "B H T S"]:
        """−rate_h · log(1 + |Δt|), of delays in the unit of time."""
        penalty: Tensor = self.log_rate.exp()[None, :, None, None] * torch.log1p(delay.abs())[:, None]
        return penalty.neg()


def _products(query: Tensor, key: Tensor, axis: int) -> Float[Tensor, "B H Q P"]:
    """Inner products of slices across an axis, over the root of how many numbers they sum."""
    q, k = (x.movedim(axis, 1).movedim(-2, 1).flatten(3) for x in (query, key))
    found: Tensor = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return found


def along(
    value: Float[Tensor, "B T L M H D"], maps: Float[Tensor, "B H Q P"], axis: int
) -> Float[Tensor, "..."]:
    """The product of a map with a value along one of its axes."""
    moved = value.movedim(axis, 1).movedim(-2, 1)
    mixed: Tensor = (maps @ moved.flatten(3)).unflatten(-1, moved.shape[3:])
    return mixed.movedim(1, -2).movedim(1, axis)
