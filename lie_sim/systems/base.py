"""What a ground-truth system is: a known energy, a distribution of initial states, and trajectories to trust.

    H(q, p) = Σ_i |p_i|² / (2 m_i) + V(q),      dq_i/dt = p_i / m_i,      dp_i/dt = −∂V/∂q_i

A system is a small frozen dataclass of options. It owns no tensors: masses and parameters travel in
:class:`~lie_sim.state.Particles`, so that one object serves every batch, dtype and device.

Shape letters: B batch, N particles, d space dimension, T times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.kinetic import kinetic_energy
from lie_sim.state import Particles, PhaseState

_REGISTRY: dict[str, type[System]] = {}


@dataclass(frozen=True)
class System(ABC):
    """Base class of all ground-truth systems; subclasses are listed by :func:`register_system`.

    Args:
        num_particles: N.
        dim: space dimension d.

    Attributes:
        name: the registry key.
        accuracy: relative accuracy of :meth:`trajectory` over the default times, as measured in the tests.
        attribute_names: what the columns of ``particles.attributes`` mean.
    """

    num_particles: int = 6
    dim: int = 2

    name: ClassVar[str]
    accuracy: ClassVar[float]
    attribute_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.num_particles < 1 or self.dim < 1:
            raise ValueError(
                f"num_particles and dim must be at least 1, got {self.num_particles} and {self.dim}"
            )

    @abstractmethod
    def potential(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """V(q) of each system, shape (B,), differentiable with respect to q."""

    @abstractmethod
    def sample(self, num_systems: int, *, generator: torch.Generator) -> tuple[PhaseState, Particles]:
        """Draw initial states and particles, float64, from the system's distribution."""

    @abstractmethod
    def trajectory(
        self, state: PhaseState, particles: Particles, times: Float[Tensor, " T"]
    ) -> tuple[Float[Tensor, "B T N d"], Float[Tensor, "B T N d"]]:
        """Positions and momenta at ``times``, the state given being the one at time 0."""

    @abstractmethod
    def default_times(self) -> Float[Tensor, " T"]:
        """The uniform grid of times of this system's standard dataset, shape (T,), float64."""

    def force(self, q: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, "B N d"]:
        """−∂V/∂q, shape (B, N, d); by automatic differentiation unless a subclass knows better."""
        with torch.enable_grad():
            x = q.detach().requires_grad_(True)
            return -torch.autograd.grad(self.potential(x, particles).sum(), x)[0]

    def kinetic_energy(self, p: Float[Tensor, "B N d"], particles: Particles) -> Float[Tensor, " B"]:
        """Σ |p|²/(2m) of each system, shape (B,)."""
        return kinetic_energy(p, particles.masses, particles.mask)

    def energy(self, state: PhaseState, particles: Particles) -> Float[Tensor, " B"]:
        """H(q, p) of each system, shape (B,)."""
        return self.kinetic_energy(state.p, particles) + self.potential(state.q, particles)

    def options(self) -> dict[str, Any]:
        """The options as plain values: ``build_system(system.name, **system.options())`` equals it."""
        return asdict(self)


def register_system(cls: type[System]) -> type[System]:
    """Class decorator: make a :class:`System` available to :func:`build_system` by its ``name``."""
    _REGISTRY[cls.name] = cls
    return cls


def system_names() -> list[str]:
    """Names that :func:`build_system` accepts, sorted."""
    return sorted(_REGISTRY)


def build_system(name: str, **options: Any) -> System:
    """Make a system from its registry name and its options as plain values.

    Raises:
        ValueError: the name or an option is unknown.

    Example:
        >>> from lie_sim.systems import build_system
        >>> build_system("springs", num_particles=4)
        Springs(num_particles=4, dim=2)
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown system {name!r}; choose one of {', '.join(system_names())}")
    cls = _REGISTRY[name]
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    as_tuples: dict[str, Any] = {key: tuple(x) if isinstance(x, list) else x for key, x in options.items()}
    return cls(**as_tuples)
