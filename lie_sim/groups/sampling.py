"""Random draws from a generator or an integer seed, on any device.

Numbers are drawn on the generator's own device and then moved, so one CPU seed gives the same elements
everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Seed = torch.Generator | int | None
Device = torch.device | str | None
DType = torch.dtype | None
Shape = tuple[int, ...]


def as_generator(seed: Seed) -> torch.Generator | None:
    """A generator as it is, an integer as the seed of a new CPU generator, None as PyTorch's global one.

    Example:
        >>> as_generator(3).initial_seed()
        3
    """
    return torch.Generator().manual_seed(seed) if isinstance(seed, int) else seed


@dataclass(frozen=True)
class Sampler:
    """Where random numbers come from and what they become.

    Args:
        generator: None uses PyTorch's global one.
        dtype: of the results; None takes PyTorch's default.
        device: of the results; None takes the generator's, or PyTorch's default.

    Example:
        >>> Sampler(as_generator(0)).uniform((2, 3)).shape
        torch.Size([2, 3])
    """

    generator: torch.Generator | None = None
    dtype: DType = None
    device: Device = None

    @property
    def _source(self) -> Device:
        return self.device if self.generator is None else self.generator.device

    def normal(self, shape: Shape) -> Float[Tensor, "..."]:
        """Standard normal numbers."""
        drawn = torch.randn(shape, generator=self.generator, dtype=self.dtype, device=self._source)
        return drawn.to(device=self._target)

    def uniform(self, shape: Shape) -> Float[Tensor, "..."]:
        """Numbers uniform in [0, 1)."""
        drawn = torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self._source)
        return drawn.to(device=self._target)

    def integers(self, high: int, shape: Shape) -> Int[Tensor, "..."]:
        """Integers uniform in {0, …, high − 1}."""
        drawn = torch.randint(high, shape, generator=self.generator, device=self._source)
        return drawn.to(device=self._target)

    def signs(self, shape: Shape) -> Float[Tensor, "..."]:
        """±1 with equal chance."""
        return (2 * self.integers(2, shape) - 1).to(self.dtype or torch.get_default_dtype())

    def identity(self, size: int, shape: Shape) -> Float[Tensor, "..."]:
        """No randomness: identity matrices, shape (*shape, size, size)."""
        return torch.eye(size, dtype=self.dtype, device=self._target).expand(*shape, size, size)

    @property
    def _target(self) -> Device:
        return self._source if self.device is None else self.device
