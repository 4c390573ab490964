"""What every potential is: a module from positions to one energy per particle.

    E(q) = Σ_i ε_i(q)            (extensive: the energy is the sum over the particles that exist)

Shape letters: B batch, N particles, d space dimension.
"""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

_REGISTRY: dict[str, type[EnergyModel]] = {}


class EnergyModel(nn.Module):
    """Base class of all potentials.

    A subclass declares a frozen ``Config`` dataclass of plain values, takes one in ``__init__`` and
    implements :meth:`forward`. It is listed under its ``name`` by :func:`register_model`.

    Attributes:
        name: the registry key.
        equivariant_under: the symmetry that holds exactly, such as ``"E(3)"`` or ``"T(2)"``; tests check it.
        needs_open_space: periodic systems are refused.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    config: Any
    equivariant_under: str
    needs_open_space: bool = False

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, "B N"]:
        """Per-particle energies; particles that the mask leaves out get 0.

        Args:
            q: positions, shape (B, N, d).
            particles: what the particles are.
            neighbours: which pairs interact; None means all pairs.

        Returns:
            Energies, shape (B, N), in the unit of the training data.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement forward")

    def energy(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, " B"]:
        """Total potential energy of each system, shape (B,)."""
        energies: Tensor = self(q, particles, neighbours)
        return energies.sum(-1)


def register_model(cls: type[EnergyModel]) -> type[EnergyModel]:
    """Class decorator: make an :class:`EnergyModel` available to :func:`build_model` by its ``name``.

    Raises:
        ValueError: another class already has that name.
    """
    existing = _REGISTRY.get(cls.name)
    if existing is not None and (existing.__module__, existing.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ValueError(
            f"model name {cls.name!r} is taken by {existing.__module__}.{existing.__qualname__}: choose another"
        )
    _REGISTRY[cls.name] = cls
    return cls


def model_names() -> list[str]:
    """Names that :func:`build_model` accepts, sorted."""
    return sorted(_REGISTRY)


def model_class(name: str) -> type[EnergyModel]:
    """The class listed under a name.

    Raises:
        ValueError: no model has that name.
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(model_names())}")
    return _REGISTRY[name]


def model_class_of(config: Any) -> type[EnergyModel]:
    """The class that a configuration is for.

    Raises:
        TypeError: it is that of no model.
    """
    for cls in _REGISTRY.values():
        if type(config) is cls.Config:
            return cls
    raise TypeError(f"{type(config).__name__} is the configuration of none of {', '.join(model_names())}")


def build_model(name: str, config: dict[str, Any]) -> EnergyModel:
    """Make an untrained model from its registry name and its configuration as plain values.

    Args:
        name: one of :func:`model_names`.
        config: values for the fields of that model's ``Config``; missing ones take their default.

    Raises:
        ValueError: the name or a configuration key is unknown.
    """
    cls = model_class(name)
    known = {field.name for field in fields(cls.Config)}
    unknown = sorted(set(config) - known)
    if unknown:
        raise ValueError(
            f"{name} has no option {', '.join(unknown)}; its options are {', '.join(sorted(known))}"
        )
    as_tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    return cls(cls.Config(**as_tuples))


def config_as_dict(model: EnergyModel) -> dict[str, Any]:
    """The model's configuration as plain values, ready for TOML or JSON."""
    if not is_dataclass(model.config):
        raise TypeError(
            f"{type(model).__name__}.config must be a dataclass, not {type(model.config).__name__}"
        )
    return asdict(model.config)  # type: ignore[arg-type]


def parameter_count(module: nn.Module) -> int:
    """Number of trainable real numbers.

    Example:
        >>> parameter_count(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
