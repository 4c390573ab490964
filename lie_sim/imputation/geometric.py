"""Positions, and velocities, that are missing: estimates that turn, shift and permute with what was observed.

    x̂ = e₀ + Σ_j c_j u_j,      u_j = e_j − e₀,  Σ_t′ A_h[t, t′] (x − e₀)_t′

Vectors are moved by numbers only: e_j are the simple estimates, and where there are velocities the Hermite polynomial
through both (:mod:`lie_sim.imputation.simple`); the last vectors are what attention over time brings from where
something was observed. The numbers c_j come from inner products of these vectors and from lengths of gaps, so a turned,
reflected or shifted window has turned, reflected or shifted estimates, exactly. Their scale is free: in a closed system
the centre of mass of all particles moves along a line, so one that is out of sight is where the others, with weights
−m_j / m_i, leave it; the model can learn that, which no average of estimates says.

Shape letters: B windows, T times, L particles, K kinds of vectors (positions, velocities), d components, J vectors u,
H heads; M = K d.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lie_sim.imputation.config import CDSAConfig
from lie_sim.imputation.imputer import Imputed, Imputer
from lie_sim.imputation.layers import DelayBias, Trunk, along, gaps, products
from lie_sim.imputation.simple import NAMES, Observations, estimates, hermite
from lie_sim.time_encoding import BochnerTime

_BASE = NAMES.index("linear")


class GeometricCDSA(Imputer):
    """Cross-dimensional self-attention whose estimates turn with the data.

    Args:
        config: its options; ``dim`` components of each vector. Positions in units of their spread s, velocities in
            units of s over the unit of time.

    Raises:
        ValueError: ``dim`` is 0.

    Example:
        >>> model = GeometricCDSA(CDSAConfig(num_measurements=2, dim=3, width=8))
        >>> seen = Observations.of(torch.randn(3, 10, 4, 6), torch.arange(10.0).expand(3, -1))
        >>> model(seen).estimated.shape
        torch.Size([3, 10, 4, 6])
    """

    def __init__(self, config: CDSAConfig) -> None:
        super().__init__(config)
        if not config.dim:
            raise ValueError("dim=0 says that measurements are numbers: use CDSA")
        self.time = BochnerTime(config.frequencies) if config.frequencies else None
        self.num_simple = len(NAMES) - 1 + (config.num_measurements == 2)
        compared = self.num_simple + 2
        inputs = 6 + compared * (compared + 1) // 2 + (self.time.num_features if self.time is not None else 0)
        self.trunk = Trunk(config, inputs)
        self.look = nn.Linear(config.width, 2 * config.width, bias=False)
        self.delays = DelayBias(config.num_heads)
        self.read = nn.Linear(config.width, self.num_simple + config.num_heads + 1)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)
        begun = torch.zeros(config.num_measurements, self.num_simple + config.num_heads)
        begun[:, : self.num_simple] = 1 / (self.num_simple + 1)
        self.direct = nn.Parameter(begun)

    def forward(self, seen: Observations) -> Imputed:
        """Estimates of all entries; a vector of which a component is missing counts as not observed.

        Raises:
            ValueError: there are other measurements.
        """
        self.check_dtype(seen)
        self._check(seen)
        vectors, centre = self._centred(seen)
        times = seen.times / self.config.unit_of_time
        base, offers, off = self._vectors(vectors)
        whole = vectors.observed.unflatten(-1, (-1, self.config.dim))[..., 0]
        inputs = self._inputs(
            seen.times, whole, gaps(vectors, times), torch.cat([offers, base[..., None], off], -1)
        )
        x = self.trunk(inputs, times, whole.any(-1).any(-1))
        offers = torch.cat([offers, self._brought(x, off.squeeze(-1), times)], dim=-1)
        numbers = self.read(x)
        found = base + (offers * (numbers[..., :-1] + self.direct)[..., None, :]).sum(-1)
        scale = numbers[..., -1:].clamp(-8, 4).exp().expand_as(found)
        return Imputed.of(seen, found.flatten(-2) + centre, scale.flatten(-2))

    def _check(self, seen: Observations) -> None:
        count, dim = self.config.num_measurements, self.config.dim
        if seen.values.shape[3] != count * dim:
            raise ValueError(
                f"this model is for {count} vectors of {dim} components, one after the other: {count * dim} "
                f"measurements; got {seen.values.shape[3]}"
            )

    def _centred(self, seen: Observations) -> tuple[Observations, Float[Tensor, "B 1 1 M"]]:
        """Vectors that were observed as a whole, seen from the mean of all observed positions; and this mean."""
        dim = self.config.dim
        whole = seen.observed.unflatten(-1, (-1, dim)).all(-1, keepdim=True)
        observed = whole.expand(*whole.shape[:-1], dim).flatten(-2)
        count = observed.sum((1, 2), keepdim=True).clamp(min=1)
        centre = torch.where(observed, seen.known, 0.0).sum((1, 2), keepdim=True) / count
        centre = torch.cat([centre[..., :dim], torch.zeros_like(centre[..., dim:])], dim=-1)
        return Observations(seen.known - centre, observed, seen.times), centre

    def _vectors(self, seen: Observations) -> tuple[Tensor, Tensor, Tensor]:
        """e₀ (…, K, d), the u of the simple estimates (…, K, d, J), and x − e₀ (…, K, d, 1), 0 if not observed."""
        dim = self.config.dim
        simple = estimates(seen)
        base = simple[..., _BASE]
        others = [simple[..., k] - base for k in range(len(NAMES)) if k != _BASE]
        if self.config.num_measurements == 2:
            q, v = (
                Observations(x, y, seen.times / self.config.unit_of_time)
                for x, y in zip(seen.values.split(dim, -1), seen.observed.split(dim, -1), strict=True)
            )
            others.append(torch.cat(hermite(q, v), dim=-1) - base)
        off = torch.where(seen.observed, seen.values - base, 0.0)
        split = [x.unflatten(3, (-1, dim)) for x in (base, torch.stack(others, dim=-1), off[..., None])]
        return split[0], split[1], split[2]

    def _inputs(
        self,
        times: Float[Tensor, "B T"],
        whole: Bool[Tensor, "B T L K"],
        gap: Float[Tensor, "B T L M 4"],
        vectors: Float[Tensor, "B T L K d V"],
    ) -> Tensor:
        """Numbers that do not change when everything is turned, shape (B, T, L, K, I)."""
        gram = torch.asinh(vectors.transpose(-1, -2) @ vectors)
        upper = torch.triu_indices(*gram.shape[-2:], device=gram.device)
        others = (whole.sum(2, keepdim=True) - whole.int()) / max(whole.shape[2] - 1, 1)
        parts = [whole[..., None], others[..., None], gap.unflatten(3, (-1, self.config.dim))[..., 0, :]]
        parts += [gram[..., upper[0], upper[1]]]
        if self.time is not None:
            parts.append(self.time(times)[:, :, None, None].expand(*whole.shape, -1))
        return torch.cat([part.to(vectors) for part in parts], dim=-1)

    def _brought(
        self, x: Float[Tensor, "B T L K C"], off: Float[Tensor, "B T L K d"], times: Float[Tensor, "B T"]
    ) -> Float[Tensor, "B T L K d H"]:
        """What each head takes from other times."""
        query, key = (
            part.unflatten(-1, (self.config.num_heads, -1)) for part in self.look(x).chunk(2, dim=-1)
        )
        maps = (products(query, key, 1) + self.delays(times[:, :, None] - times[:, None])).softmax(-1)
        value = off[..., None, :].expand(*off.shape[:-1], self.config.num_heads, -1)
        return along(value, maps, 1).transpose(-1, -2)
