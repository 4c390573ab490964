"""Times as features whose inner product depends on the difference of two times only.

    ⟨Φ(t), Φ(t′)⟩ = ψ(t − t′)

    Bochner    Φ(t) = K^{−1/2} [cos ω_k t, sin ω_k t]_k                        ψ(Δ) = K⁻¹ Σ_k cos ω_k Δ
    Mercer     Φ(t) = K^{−1/2} [√c_k0, √c_kj cos jω_k t, √c_kj sin jω_k t]_kj   ψ(Δ) = K⁻¹ Σ_kj c_kj cos jω_k Δ

The frequencies ω = ω₀ exp(rate · s) are learned through s, and so are the coefficients c > 0. They hardly move, so they
must begin where the signal has them: ``from_samples`` finds them, at irregular times too. Phases are computed in
float64, as ω t of a late time has no digits left in float32.

Shape letters: K frequencies, J harmonics, H = J + 1, A features.
References: Xu, Ruan, Korpeoglu, Kumar, Achan, "Self-attention with functional time representation learning",
NeurIPS 2019.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.time_encoding.spectrum import spectral_frequencies

_Map = TypeVar("_Map", bound="TimeMap")
_REGISTRY: dict[str, type[TimeMap]] = {}


class TimeMap(nn.Module):
    """A map of times to features with learned frequencies.

    Args:
        frequencies: where they begin: angular, in radians per unit of time, positive, shape (K,).
        rate: how fast they are learned, in parts of the learning rate of other weights; 0 keeps them. They enter the
            phase times the whole duration of the data, so steps that suit other weights are too long.

    Attributes:
        name: the registry key.
        frequencies: ω, shape (K,), float64 whatever the dtype of the features.
        num_features: A.
    """

    name: ClassVar[str]
    num_features: int

    def __init__(self, frequencies: Sequence[float] | Float[Tensor, " K"], *, rate: float = 0.1) -> None:
        super().__init__()
        omega = torch.as_tensor(frequencies, dtype=torch.float64).detach().clone()
        if omega.ndim != 1 or not len(omega) or not bool((omega.isfinite() & (omega > 0)).all()):
            raise ValueError(
                f"frequencies must be a list of positive numbers, radians per unit of time, got {omega.tolist()}"
            )
        if not 0 <= rate < math.inf:
            raise ValueError(f"rate must be finite and not negative, got {rate}")
        self.rate = rate
        self.log_begun: Tensor
        self.register_buffer("log_begun", omega.log())
        self.shift = nn.Parameter(torch.zeros_like(omega), requires_grad=rate > 0)

    @property
    def frequencies(self) -> Float[Tensor, " K"]:
        """ω, shape (K,), float64."""
        return (self.log_begun + self.rate * self.shift).exp()

    @abstractmethod
    def forward(self, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times A"]:
        """Φ(t), shape (…, A), of the dtype of ``t``."""

    @abstractmethod
    def kernel(self, difference: Float[Tensor, "*pairs"]) -> Float[Tensor, "*pairs"]:
        """ψ(Δ), of the shape and dtype of the differences; for a bias of attention, say."""

    def options(self) -> dict[str, Any]:
        """What :func:`build_time_map` needs beside the weights, as plain values."""
        return {"frequencies": [1.0] * len(self.shift), "rate": self.rate}

    @classmethod
    def from_samples(
        cls: type[_Map],
        times: np.ndarray | Float[Tensor, " S"],
        values: np.ndarray | Float[Tensor, "S ..."],
        num_frequencies: int,
        **options: Any,
    ) -> _Map:
        """The map with the strongest periods of a signal.

        Args:
            times: of the samples, in any order and at any distances, shape (S,).
            values: one or more signals, such as forces that an autonomous model leaves unexplained, shape (S, …).
            num_frequencies: K; few are better, as frequencies that the signal lacks are fitted to its noise.
            **options: of the map.

        Raises:
            ValueError: there are too few samples, or no periodic part is found.

        Example:
            >>> t = np.random.default_rng(0).uniform(0, 50, 300)
            >>> time = BochnerTime.from_samples(t, np.sin(2.0 * t), 1)
            >>> round(float(time.frequencies), 3)
            2.0
        """
        found = spectral_frequencies(np.asarray(times), np.asarray(values), num_frequencies)
        return cls(found.frequencies.tolist(), **options)

    def _phases(self, t: Tensor) -> Tensor:
        """ω_k t modulo 2π, shape (…, K), float64; its derivatives are those of ω t."""
        phase = t.double()[..., None] * self.frequencies
        return phase - (2 * math.pi) * torch.round(phase.detach() / (2 * math.pi))

    def _apply(self, fn: Any, recurse: bool = True) -> TimeMap:
        """Like that of every module, but frequencies stay float64: ``module.float()`` must not blur them."""
        exact = [x.detach().clone() for x in (self.log_begun, self.shift)]
        super()._apply(fn, recurse)
        with torch.no_grad():
            self.log_begun = exact[0].to(self.log_begun.device)
            self.shift.data = exact[1].to(self.shift.device)
        return self


def register_time_map(cls: type[TimeMap]) -> type[TimeMap]:
    """Class decorator: make a :class:`TimeMap` available to :func:`build_time_map` by its ``name``."""
    _REGISTRY[cls.name] = cls
    return cls


def build_time_map(name: str, **options: Any) -> TimeMap:
    """Make a map from its name and options.

    Raises:
        ValueError: the name is unknown.

    Example:
        >>> build_time_map("bochner", frequencies=[1.0, 2.5]).num_features
        4
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown time map {name!r}; choose one of {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name](**options)


@register_time_map
class BochnerTime(TimeMap):
    """Cosines and sines of learned frequencies.

    Args:
        frequencies: where they begin: angular, in radians per unit of time, positive, shape (K,).
        rate: how fast they are learned; see :class:`TimeMap`.

    Example:
        >>> time = BochnerTime([1.0, 2.0])
        >>> features = time(torch.tensor([0.0, 0.5], dtype=torch.float64))
        >>> features.shape, bool((features[0] @ features[1] - time.kernel(torch.tensor(0.5))).abs() < 1e-6)
        (torch.Size([2, 4]), True)
    """

    name: ClassVar[str] = "bochner"

    def __init__(self, frequencies: Sequence[float] | Float[Tensor, " K"], *, rate: float = 0.1) -> None:
        super().__init__(frequencies, rate=rate)
        self.num_features = 2 * len(self.shift)

    def forward(self, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times A"]:
        """Φ(t), shape (…, 2K): all cosines, then all sines."""
        phase = self._phases(t)
        scale = 1 / math.sqrt(len(self.shift))
        return (scale * torch.cat([phase.cos(), phase.sin()], dim=-1)).to(t.dtype)

    def kernel(self, difference: Float[Tensor, "*pairs"]) -> Float[Tensor, "*pairs"]:
        """ψ(Δ), of the shape and dtype of the differences."""
        found: Tensor = self._phases(difference).cos().mean(-1)
        return found.to(difference.dtype)


@register_time_map
class MercerTime(TimeMap):
    """Harmonics of learned frequencies with learned weights.

    Args:
        frequencies: angular, of the first harmonic of each period, in radians per unit of time, positive, shape (K,).
        degree: J, how many harmonics.
        rate: how fast the frequencies are learned; see :class:`TimeMap`.

    Example:
        >>> time = MercerTime([1.0], degree=3)
        >>> time.num_features, float(time.kernel(torch.tensor(0.0, dtype=torch.float64)).detach()) > 0
        (7, True)
    """

    name: ClassVar[str] = "mercer"

    def __init__(
        self, frequencies: Sequence[float] | Float[Tensor, " K"], *, degree: int = 4, rate: float = 0.1
    ) -> None:
        super().__init__(frequencies, rate=rate)
        if degree < 1:
            raise ValueError(f"degree must be at least 1, got {degree}")
        self.degree = degree
        self.num_features = len(self.shift) * (2 * degree + 1)
        decay = 1 / torch.arange(1, degree + 2, dtype=torch.float32)
        self.log_coefficients = nn.Parameter(decay.log().repeat(len(self.shift), 1))

    def options(self) -> dict[str, Any]:
        """What :func:`build_time_map` needs beside the weights, as plain values."""
        return super().options() | {"degree": self.degree}

    def _coefficients(self) -> Float[Tensor, "K H"]:
        """c, with Σ_j c_kj = 1 for every k; float64."""
        return torch.softmax(self.log_coefficients.double(), dim=-1)

    def forward(self, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times A"]:
        """Φ(t), shape (…, K·(2J + 1)): the constant, all cosines and all sines of one frequency, then the next."""
        harmonics = torch.arange(1, self.degree + 1, dtype=torch.float64, device=t.device)
        angle = self._phases(t)[..., None] * harmonics
        parts = torch.cat([torch.ones_like(angle[..., :1]), angle.cos(), angle.sin()], dim=-1)
        root = self._coefficients().sqrt()
        weights = torch.cat([root, root[:, 1:]], dim=-1)
        scale = 1 / math.sqrt(len(self.shift))
        return (scale * weights * parts).flatten(-2).to(t.dtype)

    def kernel(self, difference: Float[Tensor, "*pairs"]) -> Float[Tensor, "*pairs"]:
        """ψ(Δ), of the shape and dtype of the differences."""
        harmonics = torch.arange(self.degree + 1, dtype=torch.float64, device=difference.device)
        waves = (self._phases(difference)[..., None] * harmonics).cos()
        found: Tensor = (self._coefficients() * waves).sum(-1).mean(-1)
        return found.to(difference.dtype)
