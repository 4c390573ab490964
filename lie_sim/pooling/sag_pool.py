r"""Self-attention pooling of particles: which of them matter is told by a graph convolution over the pairs.

    z_i = Θ·f_i + Θ'·Σ_j w_ij f_j / (1 + Σ_j w_ij) + b        w: envelope of the pairs

    hard   keep the ⌈ratio · N⌉ highest z          (SAGPool; what is kept jumps as particles move)
    soft   g = soft_top_k(z, ratio · N)            (smooth; every g hangs on all particles)
    gate   g_i = σ(z_i/τ)                          (smooth and local; the only one for energies)

The paper's convolution has Θ' = Θ. Where all pairs interact with weight 1 it gives the same score to all particles,
hence two vectors here. The features that remain are f_i tanh(z_i). Scores are made of invariants only, so the choice
commutes with the group and with permutations; particles that are kept keep their group elements and the poses relative
to one another, so attention on the smaller set is as equivariant as on the whole.

Shape letters: B batch, N particles, N2 kept ones, L lifts, M = N·L points, K neighbours, C channels.
Reference: Lee, Lee, Kang, "Self-attention graph pooling", ICML 2019, arXiv:1904.08082.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lie_sim.lifting.base import LandmarkGeometry, PairGeometry, gather_points
from lie_sim.pooling.soft_top_k import check_temperature, local_gate, soft_top_k
from lie_sim.pooling.top_k import check_ratio, hard_top_k, kept_count

POOL_MODES = ("hard", "soft", "gate")


class PairScore(nn.Module):
    """One invariant number of each particle, a graph convolution over the pairs; see the module's equation.

    Args:
        width: C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, f: Float[Tensor, "B M C"], pairs: PairGeometry) -> Float[Tensor, "B N"]:
        """Scores, the mean over the lifts of each particle."""
        own, sent = self.linear(f).split(1, dim=-1)
        others = (pairs.envelope * pairs.sources(sent).squeeze(-1)).sum(-1)
        scores: Tensor = own.squeeze(-1) + others / (1 + pairs.envelope.sum(-1)) + self.bias
        return _mean_over_lifts(scores, pairs.num_lifts)


def _mean_over_lifts(values: Tensor, num_lifts: int) -> Tensor:
    """(B, N·L, …) to (B, N, …)."""
    return values.reshape(len(values), -1, num_lifts, *values.shape[2:]).mean(2)


@dataclass(frozen=True)
class Pooled:
    """What is left of a system.

    Args:
        f: features of the points of the particles that are left, shape (B, N2·L, C).
        pairs: geometry of the pairs among them; the envelope counts a source by its weight.
        weights: of each particle in [0, 1], 0 for padding, shape (B, N2).
        index: which particle of the whole system each one is, shape (B, N2); of padding any.
    """

    f: Float[Tensor, "B M2 C"]
    pairs: PairGeometry
    weights: Float[Tensor, "B N2"]
    index: Int[Tensor, "B N2"]

    def sum(self) -> Float[Tensor, "B C"]:
        """Σ g f over particles, the mean over lifts."""
        return (self.weights[..., None] * _mean_over_lifts(self.f, self.pairs.num_lifts)).sum(1)

    def mean(self) -> Float[Tensor, "B C"]:
        """Σ g f / Σ g; 0 of nothing."""
        total = self.weights.sum(1, keepdim=True)
        return self.sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


class SAGPool(nn.Module):
    """Pool a system to the particles that matter.

    Args:
        width: C.
        mode: "hard", "soft" or "gate".
        ratio: share of the particles that is kept, of "hard" and "soft".
        temperature: τ of "soft" and "gate", in the unit of the scores.

    Raises:
        ValueError: unknown mode, impossible ratio.
    """

    def __init__(
        self, width: int, *, mode: str = "hard", ratio: float = 0.5, temperature: float = 0.1
    ) -> None:
        super().__init__()
        if mode not in POOL_MODES:
            raise ValueError(f"unknown mode of pooling {mode!r}; choose one of {', '.join(POOL_MODES)}")
        check_ratio(ratio)
        check_temperature(temperature)
        self.mode, self.ratio, self.temperature = mode, ratio, temperature
        self.score = PairScore(width)

    def forward(
        self, f: Float[Tensor, "B M C"], pairs: PairGeometry, mask: Bool[Tensor, "B N"] | None = None
    ) -> Pooled:
        """What is left of each system.

        Args:
            f: invariant features of the points.
            pairs: geometry of the pairs, padding with envelope 0.
            mask: which particles exist; None means all of them.
        """
        scores = self.score(f, pairs)
        exists = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
        f = f * torch.tanh(scores).repeat_interleave(pairs.num_lifts, dim=1)[..., None]
        if self.mode == "hard":
            return _kept(f, pairs, hard_top_k(scores, kept_count(self.ratio, exists.sum(1)), mask=exists))
        if self.mode == "soft":
            k = self.ratio * exists.sum(1)
            weights = soft_top_k(scores, k, temperature=self.temperature, mask=exists)
        else:
            weights = torch.where(exists, local_gate(scores, temperature=self.temperature), 0.0)
        index = torch.arange(scores.shape[1], device=f.device).expand(scores.shape)
        return Pooled(f, _weighted(pairs, weights), weights, index)


def _weighted(pairs: PairGeometry, weights: Float[Tensor, "B N"]) -> PairGeometry:
    """Pairs whose envelope counts a source by its weight."""
    sources = pairs.sources(weights.repeat_interleave(pairs.num_lifts, dim=1)[..., None]).squeeze(-1)
    landmarks = pairs.landmarks
    if landmarks is not None:
        each = weights.repeat_interleave(pairs.num_lifts, dim=1)[..., None]
        landmarks = replace(landmarks, shares=landmarks.shares * each)
    return replace(pairs, envelope=pairs.envelope * sources, landmarks=landmarks)


def _kept(f: Tensor, pairs: PairGeometry, kept: Bool[Tensor, "B N"]) -> Pooled:
    """The particles that are kept, in their order, padded to the largest number of the batch."""
    width = max(1, int(kept.sum(1).max())) if kept.numel() else 0
    index = (~kept).long().argsort(dim=1, stable=True)[:, :width]
    left = kept.gather(1, index)
    lifts = torch.arange(pairs.num_lifts, device=f.device)
    points = (index[..., None] * pairs.num_lifts + lifts).flatten(1)
    there = left.repeat_interleave(pairs.num_lifts, dim=1)
    chosen = gather_points(f, points[..., None]).squeeze(2) * there[..., None]
    return Pooled(chosen, _restricted(pairs, points, there), left.to(f.dtype), index)


def _restricted(
    pairs: PairGeometry, points: Int[Tensor, "B M2"], there: Bool[Tensor, "B M2"]
) -> PairGeometry:
    """The pairs among some points; neighbours that are not among them get envelope 0."""
    batch, count = torch.arange(len(points), device=points.device)[:, None], pairs.envelope.shape[1]
    rows = (batch, points)
    if pairs.landmarks is not None:
        whole = pairs.landmarks
        shares = whole.shares[rows] * there[..., None]
        landmarks = LandmarkGeometry(shares, whole.location[rows], whole.directions[rows])
        pairs = replace(pairs, landmarks=landmarks)
    if pairs.index is None:
        every = (batch[..., None], points[:, :, None], points[:, None])
        envelope = pairs.envelope[every] * (there[:, :, None] & there[:, None])
        directions = None if pairs.directions is None else pairs.directions[every]
        return replace(pairs, location=pairs.location[every], envelope=envelope, directions=directions)
    place = torch.arange(points.shape[1], device=points.device).expand_as(points)
    number = torch.full((len(points), count), -1, device=points.device).scatter(
        1, points, torch.where(there, place, -1)
    )
    index = number.gather(1, pairs.index[rows].flatten(1)).view(*points.shape, -1)
    envelope = pairs.envelope[rows] * ((index >= 0) & there[..., None])
    directions = None if pairs.directions is None else pairs.directions[rows]
    return replace(
        pairs,
        location=pairs.location[rows],
        envelope=envelope,
        index=index.clamp(min=0),
        directions=directions,
    )
