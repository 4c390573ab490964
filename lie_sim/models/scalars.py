"""The numbers that are known of a particle, as a network wants them.

    s = ( (m − m̄)/σ_m,  (a − ā)/σ_a,  one-hot species ),      1 where nothing is known

Shape letters: B batch, N particles, S scalars.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.models.config import LieTransformerConfig
from lie_sim.models.inputs import encode_species
from lie_sim.models.se3_config import SE3TransformerConfig
from lie_sim.state import Particles


class ParticleScalars(nn.Module):
    """Standardised mass, attributes and one-hot species; see the module's equation.

    Args:
        config: which of them the model sees, and their means and deviations.
    """

    attribute_mean: Tensor
    attribute_std: Tensor

    def __init__(self, config: LieTransformerConfig | SE3TransformerConfig) -> None:
        super().__init__()
        self.config = config
        mean = config.attribute_mean or (0.0,) * config.num_attributes
        std = config.attribute_std or (1.0,) * config.num_attributes
        self.register_buffer("attribute_mean", torch.tensor(mean), persistent=False)
        self.register_buffer("attribute_std", torch.tensor(std), persistent=False)

    def forward(self, particles: Particles, like: Tensor) -> Float[Tensor, "B N S"]:
        """The scalars in the dtype of ``like``.

        Raises:
            ValueError: the particles lack what the model needs.
        """
        config = self.config
        parts = []
        if config.use_masses:
            parts.append(((particles.masses - config.mass_mean) / config.mass_std)[..., None])
        if config.num_attributes:
            if particles.attributes is None or particles.attributes.shape[-1] != config.num_attributes:
                got = "None" if particles.attributes is None else f"{particles.attributes.shape[-1]}"
                raise ValueError(
                    f"this model needs {config.num_attributes} attributes per particle, got {got}"
                )
            parts.append((particles.attributes - self.attribute_mean) / self.attribute_std)
        if config.num_species:
            if particles.species is None:
                raise ValueError(
                    f"this model needs particles.species (0 to {config.num_species - 1}), which is None"
                )
            parts.append(encode_species(particles.species, config.num_species, dtype=like.dtype))
        if not parts:
            parts.append(torch.ones_like(particles.masses)[..., None])
        return torch.cat([part.to(like.dtype) for part in parts], dim=-1)
