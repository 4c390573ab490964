"""The two containers that every part of the library passes around.

Shape letters: B batch, N particles, d space dimension, A attributes per particle.
All tensors are dense and padded; ``mask`` marks the particles that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_Container = TypeVar("_Container", bound="_TensorContainer")


class _TensorContainer:
    """Apply a tensor function to every tensor field of a frozen dataclass."""

    def map(self: _Container, function: Callable[[Tensor], Tensor]) -> _Container:
        """Return a copy with ``function`` applied to every tensor that is present."""
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        present = {name: getattr(self, name) for name in names if isinstance(getattr(self, name), Tensor)}
        changed = {name: function(value) for name, value in present.items()}
        return replace(self, **changed)  # type: ignore[type-var]

    def to(
        self: _Container,
        target: torch.device | torch.dtype | str | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> _Container:
        """Move to a device and, for the floating-point fields only, to a dtype; ``target`` is either of them.

        Example:
            >>> Particles(masses=torch.ones(1, 2)).to(torch.float64).masses.dtype
            torch.float64
        """
        if isinstance(target, torch.dtype):
            target, given = None, target
            if dtype is not None:
                raise TypeError(f"the dtype is given twice, {given} and {dtype}")
            dtype = given
        if target is not None and device is not None:
            raise TypeError(f"the device is given twice, {target} and {device}")
        device = device if target is None else target
        return self.map(lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))


@dataclass(frozen=True)
class PhaseState(_TensorContainer):
    """A point in phase space: positions, momenta and time.

    Args:
        q: positions, shape (B, N, d).
        p: momenta, shape (B, N, d).
        t: time of each system, shape (B,); None means 0.

    Example:
        >>> import torch
        >>> state = PhaseState(q=torch.zeros(2, 3, 2), p=torch.ones(2, 3, 2))
        >>> state.flatten().shape
        torch.Size([2, 12])
    """

    q: Float[Tensor, "B N d"]
    p: Float[Tensor, "B N d"]
    t: Float[Tensor, " B"] | None = None

    def __post_init__(self) -> None:
        if self.q.shape != self.p.shape:
            raise ValueError(
                f"q and p must have the same shape (B, N, d); got {tuple(self.q.shape)} and {tuple(self.p.shape)}"
            )

    def flatten(self) -> Float[Tensor, "B state"]:
        """Concatenate q and p into one vector per system, q first: shape (B, 2·N·d)."""
        return torch.cat([self.q.flatten(1), self.p.flatten(1)], dim=-1)

    @classmethod
    def unflatten(
        cls, z: Float[Tensor, "B state"], num_particles: int, t: Float[Tensor, " B"] | None = None
    ) -> PhaseState:
        """Undo :meth:`flatten` for systems of ``num_particles`` particles."""
        q, p = z.reshape(z.shape[0], 2, num_particles, -1).unbind(1)
        return cls(q=q, p=p, t=t)


@dataclass(frozen=True)
class Particles(_TensorContainer):
    """What the particles are, as opposed to where they are.

    Args:
        masses: shape (B, N), positive.
        species: integer kinds such as atomic numbers, shape (B, N).
        attributes: further real numbers per particle (charges, spring constants), shape (B, N, A).
        mask: True where a particle exists, shape (B, N); None means all of them.
        cell: lattice vectors in rows, shape (B, 3, 3) or (B, d, d).
        pbc: which lattice directions are periodic, shape (B, d).

    Example:
        >>> import torch
        >>> particles = Particles(masses=torch.ones(2, 3))
        >>> particles.num_particles
        3
    """

    masses: Float[Tensor, "B N"]
    species: Int[Tensor, "B N"] | None = None
    attributes: Float[Tensor, "B N A"] | None = None
    mask: Bool[Tensor, "B N"] | None = None
    cell: Float[Tensor, "B d d"] | None = None
    pbc: Bool[Tensor, "B d"] | None = None

    def __post_init__(self) -> None:
        for name in ("species", "attributes", "mask"):
            value = getattr(self, name)
            if value is not None and value.shape[:2] != self.masses.shape:
                raise ValueError(
                    f"particles.{name} must begin with the shape (B, N) = {tuple(self.masses.shape)} of the masses; "
                    f"got {tuple(value.shape)}"
                )

    @property
    def num_particles(self) -> int:
        """N, padding included."""
        return self.masses.shape[1]

    def __getitem__(self, index: slice | Tensor) -> Particles:
        """Select systems along the batch axis."""
        return self.map(lambda x: x[index])

    def expand(self, repeats: int) -> Particles:
        """Repeat every system ``repeats`` times in a row: batch B becomes B·repeats."""
        return self.map(lambda x: x.repeat_interleave(repeats, dim=0))
