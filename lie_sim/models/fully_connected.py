"""A fully connected potential of all coordinates at once: the usual Hamiltonian neural network, as a baseline.

    V(q) = energy_scale · MLP( q − mean(q),  s )          three hidden layers, all particles flattened

It knows translations (the mean is subtracted, unless ``centred=False``) and nothing else: neither rotations nor the
order of the particles.

Shape letters: B batch, N particles, d space dimension.
References: Greydanus et al., NeurIPS 2019; as "HFC" in Finzi et al., LieConv, ICML 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import SiLU
from lie_sim.models.base import EnergyModel, register_model
from lie_sim.models.config_checks import require_positive
from lie_sim.models.inputs import check_particles
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


@dataclass(frozen=True)
class FullyConnectedConfig:
    """Options of :class:`FullyConnected`.

    Args:
        num_particles: N, fixed.
        dim: space dimension d.
        num_attributes: A, length of ``particles.attributes``.
        width: units of each hidden layer.
        num_layers: number of hidden layers.
        energy_scale: unit of energy.
        centred: whether the mean position is subtracted; without it, places differ, as where something outside acts.
    """

    num_particles: int = 6
    dim: int = 2
    num_attributes: int = 0
    width: int = 256
    num_layers: int = 3
    energy_scale: float = 1.0
    centred: bool = True

    def __post_init__(self) -> None:
        if min(self.num_particles, self.dim, self.width, self.num_layers) < 1 or self.num_attributes < 0:
            raise ValueError(
                "num_particles, dim, width and num_layers must be at least 1 and num_attributes at least 0"
            )
        require_positive("energy_scale", self.energy_scale)


@register_model
class FullyConnected(EnergyModel):
    """Baseline potential without symmetries; see the module's equation.

    Example:
        >>> model = FullyConnected(FullyConnectedConfig(num_particles=3))
        >>> model(torch.randn(2, 3, 2), Particles(masses=torch.ones(2, 3))).shape
        torch.Size([2, 3])
    """

    name: ClassVar[str] = "fully_connected"
    Config: ClassVar[type] = FullyConnectedConfig
    config: FullyConnectedConfig
    equivariant_under = "translations"

    def __init__(self, config: FullyConnectedConfig) -> None:
        super().__init__()
        self.config = config
        inputs = config.num_particles * (config.dim + 1 + config.num_attributes)
        layers: list[nn.Module] = []
        for _ in range(config.num_layers):
            layers += [nn.Linear(inputs, config.width), SiLU()]
            inputs = config.width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, 1))

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, "B N"]:
        """The total energy, shared out equally, shape (B, N)."""
        config = self.config
        check_particles(q, particles, dim=config.dim, weight=next(self.parameters()))
        if q.shape[1:] != (config.num_particles, config.dim):
            raise ValueError(
                f"this network is for positions (B, {config.num_particles}, {config.dim}), got {tuple(q.shape)}"
            )
        if neighbours is not None or particles.mask is not None or particles.cell is not None:
            raise ValueError(
                "a fully connected network takes all particles at once: no neighbours, no mask, no cell"
            )
        places = q - q.mean(1, keepdim=True) if config.centred else q
        parts = [places, particles.masses[..., None].to(q.dtype)]
        if config.num_attributes:
            if particles.attributes is None or particles.attributes.shape[-1] != config.num_attributes:
                raise ValueError(f"this network needs {config.num_attributes} attributes per particle")
            parts.append(particles.attributes.to(q.dtype))
        total: Tensor = self.layers(torch.cat([part.flatten(1) for part in parts], dim=-1))
        return (total * (config.energy_scale / config.num_particles)).expand(q.shape[:2])
