"""Attention along time, place and measurement at once, and what it is told of gaps.

    A_T[t, t′] = softmax_{t′} Σ_{l,m} ⟨q_tlm, k_t′lm⟩ / √(L M d) + ψ(t − t′),      A_L and A_M likewise
    Z = V ×_T A_T ×_L A_L ×_M A_M

All three maps are made from the same input, and products along different axes commute, so their order does not matter.
A joint map over all entries would cost (T L M)², these cost T² + L² + M². Weights are shared over times and places:
their numbers may change between training and use, and places may be permuted.

Long windows: along the time axis keys and values may be projected to ``landmarks`` rows, as in a Linformer. The
projection belongs to the index of a time, so the length of the window is then fixed, and nothing about it is causal.

Shape letters: B windows, T times, L places, M measurements, C channels, H heads, D channels of a head, R landmarks,
I inputs.
References: Ma, Shou, Zareian, Mansour, Vetro, Chang, "CDSA: cross-dimensional self-attention for multivariate,
geo-tagged time series imputation", arXiv:1905.09904 (decomposed form); Wang, Li, Khabsa, Fang, Ma, "Linformer",
arXiv:2006.04768.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.simple import Observations, neighbours

AXES = (1, 2, 3)
"""Time, place, measurement."""


class Trunk(nn.Module):
    """What is known of each entry, and of all others that matter to it, as channels.

    Args:
        config: as of the model.
        num_inputs: I, of an entry; each measurement has weights of its own for them.
    """

    def __init__(self, config: CDSAConfig, num_inputs: int) -> None:
        super().__init__()
        count = config.num_measurements
        self.embed = nn.Parameter(torch.randn(count, num_inputs, config.width) / math.sqrt(num_inputs))
        self.measurement = nn.Parameter(0.1 * torch.randn(count, config.width))
        self.layers = nn.ModuleList(CrossDimensionalLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, inputs: Float[Tensor, "B T L M I"], times: Float[Tensor, "B T"], frames: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T L M C"]:
        """Channels; ``times`` in the unit of time, ``frames`` are those with any observation."""
        x = torch.einsum("btlmi,mic->btlmc", inputs, self.embed) + self.measurement
        for layer in self.layers:
            x = layer(x, times, frames)
        read: Tensor = self.norm(x)
        return read


def gaps(seen: Observations, times: Float[Tensor, "B T"]) -> Float[Tensor, "B T L M 4"]:
    """How far away the observations before and after each entry are (log), and whether there are any."""
    near, length = neighbours(seen.observed), seen.values.shape[1]
    t = times[:, :, None, None].expand(seen.values.shape)
    found = []
    for index, exists in ((near.before, near.before >= 0), (near.after, near.after < length)):
        gap = (t.gather(1, index.clamp(0, length - 1)) - t).abs()
        found += [torch.where(exists, torch.log1p(gap), 0.0), exists.to(t)]
    return torch.stack(found, dim=-1)


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
            logits = products(query, key, axis)
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


def products(query: Tensor, key: Tensor, axis: int) -> Float[Tensor, "B H Q P"]:
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
