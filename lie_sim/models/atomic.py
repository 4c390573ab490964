"""A potential of atoms in eV and Å: any energy model, told which element each particle is, and heads for properties.

    E(q) = Σ_i ( ε_i(q) + E₀(Z_i) )  [ + Σ_{i<j} repulsion(r_ij) ]

``particles.species`` are atomic numbers. The reference energies E₀ can be thousands of eV, of which float32
keeps a tenth of a meV at best, so they are added in float64, and so are the energies of a system.

Shape letters: B batch, N particles, K neighbours, d space dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.lifting.base import gather_points, pair_mask, pair_vectors
from lie_sim.models.atomic_config import GEOMETRIC_KINDS, LARGEST_ATOMIC_NUMBER, AtomicConfig
from lie_sim.models.atomic_config import GLOBAL_INPUTS as GLOBAL_INPUTS
from lie_sim.models.base import EnergyModel, build_model, model_class, register_model
from lie_sim.models.features import FeatureModel
from lie_sim.models.inputs import can_be_read
from lie_sim.models.property_heads import PropertyHeads
from lie_sim.models.repulsion import seen_distance, zbl_energy
from lie_sim.neighbors import NeighbourMatrix, all_pairs
from lie_sim.state import Particles

_CLOSEST_SQUARE = 1e-12
"""Å²; nearer atoms, which have no direction, are taken to be this far apart."""


@register_model
class AtomicPotential(EnergyModel):
    """Energy of molecules and crystals in eV; positions in Å, ``particles.species`` are atomic numbers.

    Args:
        config: elements, reference energies, and the network.

    Attributes:
        network: the energy model inside; its species are places in ``config.elements``.
        cutoff: distance in Å up to which it needs neighbours.
        properties: names of what it tells besides the energy; see :mod:`lie_sim.models.property_heads`.
        has_energy: False if it was taught properties alone.

    Example:
        >>> potential = AtomicPotential.default(elements=(1, 8))
        >>> water = Particles(masses=torch.tensor([[16.0, 1.0, 1.0]]), species=torch.tensor([[8, 1, 1]]))
        >>> q = torch.tensor([[[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]]])
        >>> potential.energy(q, water).shape, potential.energy(q, water).dtype
        (torch.Size([1]), torch.float64)
    """

    name: ClassVar[str] = "atomic"
    Config: ClassVar[type] = AtomicConfig
    config: AtomicConfig
    species_table: Tensor
    reference_table: Tensor
    radius_table: Tensor

    def __init__(self, config: AtomicConfig) -> None:
        super().__init__()
        self.config = config
        self.properties, self.has_energy = tuple(config.heads), config.with_energy
        options: dict[str, Any] = {"num_species": len(config.elements), "num_attributes": len(config.inputs)}
        if config.needs_moments:
            options["keep_moments"] = True
        for key, value in options.items():
            if config.network.get(key, value) != value:
                raise ValueError(
                    f"network.{key} follows from elements, inputs and heads: it is {value}, leave it out"
                )
        has = {entry.name for entry in fields(model_class(config.architecture).Config)}
        options = {key: value for key, value in options.items() if key in has}
        self.network = build_model(config.architecture, config.network | options)
        self.heads: PropertyHeads | None = None
        if config.heads:
            if not isinstance(self.network, FeatureModel):
                raise ValueError(
                    "heads need an architecture with features, lie_transformer or se3_transformer, "
                    f"not {config.architecture!r}"
                )
            if config.needs_moments and not getattr(self.network.config, "cutoff", 0.0):
                raise ValueError(
                    f"heads of the kinds {', '.join(GEOMETRIC_KINDS)} are local, or distant molecules would exchange "
                    "charge: give network.cutoff > 0"
                )
            if config.needs_moments and not self.network.sizes.num_moments:
                raise ValueError(
                    f"heads of the kinds {', '.join(GEOMETRIC_KINDS)} need features with moments, "
                    f"which {config.architecture!r} does not have"
                )
            self.heads = PropertyHeads(config, self.network.sizes)
        self.equivariant_under = self.network.equivariant_under
        self.needs_open_space = self.network.needs_open_space
        self.cutoff = float(getattr(self.network.config, "cutoff", 0.0))
        if self.cutoff and max(config.repulsion_radii, default=0.0) * 2 > self.cutoff:
            raise ValueError(f"repulsion_radii reach further than the cutoff {self.cutoff} of the network")
        species = torch.arange(len(config.elements))
        self._table("species_table", species, fill=-1)
        self.species_table[0] = 0  # of padding, any that the network knows
        self._table("reference_table", torch.tensor(config.reference_energies, dtype=torch.float64), fill=0)
        self._table("radius_table", torch.tensor(config.repulsion_radii, dtype=torch.float64), fill=1)

    def _table(self, name: str, values: Tensor, *, fill: float) -> None:
        """A buffer by atomic number, of which 0 is padding."""
        table = torch.full((LARGEST_ATOMIC_NUMBER + 1,), fill, dtype=values.dtype)
        if len(values):
            table[torch.tensor(self.config.elements)] = values
        self.register_buffer(name, table, persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move to a device or dtype; the tables stay float64, or E₀ would be rounded."""
        tables = {name: getattr(self, name) for name in ("reference_table", "radius_table")}
        super()._apply(fn, recurse)
        for name, table in tables.items():
            setattr(self, name, table.to(getattr(self, name).device))
        return self

    @classmethod
    def default(cls, *, elements: Sequence[int], **options: Any) -> AtomicPotential:
        """A LieTransformer for molecules: two blocks of moment attention.

        Args:
            elements: atomic numbers.
            options: other fields of :class:`AtomicConfig`; ``network`` overrides single options of the network, for
                which every ``architecture`` has defaults of its own (:data:`DEFAULT_NETWORKS`).
        """
        architecture = options.get("architecture", "lie_transformer")
        network = DEFAULT_NETWORKS.get(architecture, {}) | dict(options.pop("network", {}))
        return cls(AtomicConfig(elements=tuple(sorted(set(elements))), network=network, **options))

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, "B N"]:
        """Energies of the atoms in eV, reference energies included, float64, shape (B, N); padding gets 0.

        Args:
            q: positions in Å, shape (B, N, 3), in the dtype of the network.
            particles: species are atomic numbers, 0 for padding; attributes are the global inputs.
            neighbours: which pairs interact; None means all of them.

        Raises:
            ValueError: particles without species, or with an element that the potential does not know (on the CPU;
                elsewhere the energy of that system is NaN).
        """
        if not self.has_energy:
            raise ValueError(f"this model has no energy: it was taught {', '.join(self.properties)}")
        numbers, inside = self._inside(particles)
        seen, repulsion = self._close_pairs(q, numbers, particles, neighbours)
        return self._complete(self.network(q, inside, seen), repulsion, numbers, particles)

    def outputs(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> tuple[Float[Tensor, "B N"], dict[str, Tensor]]:
        """Energies of the atoms, and all properties, from one pass of the network.

        Args: as of :meth:`forward`.

        Returns:
            Energies (B, N), NaN if the model has none, and properties by name, float64: (B,) for a number, (B, 3) for
            a dipole, (B, 3, 3) for a polarizability, (B, N) for charges.
        """
        if self.heads is None:
            return self(q, particles, neighbours), {}
        network = self.network
        assert isinstance(network, FeatureModel)
        numbers, inside = self._inside(particles)
        seen, repulsion = self._close_pairs(q, numbers, particles, neighbours)
        features = network.features(q, inside, seen)
        properties = self.heads(features, q, numbers, inside)
        if not self.has_energy:
            return torch.full(numbers.shape, torch.nan, dtype=torch.float64, device=q.device), properties
        energies = network.read_energies(features, inside)
        return self._complete(energies, repulsion, numbers, particles), properties

    def _inside(self, particles: Particles) -> tuple[Tensor, Particles]:
        """Atomic numbers, and the particles as the network wants them."""
        numbers = self._numbers(particles)
        return numbers, replace(particles, species=self.species_table[numbers])

    def _complete(
        self,
        energies: Tensor,
        repulsion: Tensor | None,
        numbers: Tensor,
        particles: Particles,
    ) -> Float[Tensor, "B N"]:
        """Energies of the network with repulsion and references."""
        energies = energies.double() if repulsion is None else energies.double() + repulsion
        references = self.reference_table[numbers]
        return energies + (references if particles.mask is None else references * particles.mask)

    def _numbers(self, particles: Particles) -> Int[Tensor, "B N"]:
        numbers = particles.species
        if numbers is None:
            raise ValueError("this potential needs particles.species, the atomic numbers, which is None")
        if can_be_read(numbers):
            self.check_elements(numbers if particles.mask is None else numbers[particles.mask])
        return numbers

    def check_elements(self, numbers: Int[Tensor, "..."]) -> None:
        """Refuse an element that the potential does not know.

        Raises:
            ValueError: it says which, and which are known.
        """
        present = set(numbers.flatten().tolist())
        unknown = sorted(present - set(self.config.elements))
        if unknown:
            raise ValueError(
                f"the atomic numbers {unknown} are unknown to this potential, which was made for "
                f"{list(self.config.elements)}: use another model, or train one on data with these elements"
            )

    def _close_pairs(
        self, q: Tensor, numbers: Tensor, particles: Particles, neighbours: NeighbourMatrix | None
    ) -> tuple[NeighbourMatrix | None, Float[Tensor, "B N"] | None]:
        """Neighbours as the network sees them, and the repulsion of those that are nearer than any in the data."""
        if not self.config.repulsion_radii:
            return neighbours, None
        near = neighbours if neighbours is not None else all_pairs(q, particles)
        radius, charge = self.radius_table[numbers], numbers.double()
        reach = radius[..., None] + gather_points(radius[..., None], near.index).squeeze(-1)
        vectors = pair_vectors(q.double(), near)
        r2 = vectors.square().sum(-1)
        inside = (pair_mask(q, particles, near, include_self=False) > 0) & (r2 < reach.square())
        if can_be_read(inside) and not bool(inside.any()):
            return neighbours, None
        r2 = torch.where(inside, r2.clamp(min=_CLOSEST_SQUARE), reach.square())
        others = gather_points(charge[..., None], near.index).squeeze(-1)
        pairs = zbl_energy(r2, charge[..., None], others, reach)
        away = torch.where(
            inside[..., None], (seen_distance(r2, reach) / r2.sqrt() - 1)[..., None] * vectors, 0.0
        )
        shift = away if near.shift is None else near.shift + away
        return replace(near, shift=shift.to(q.dtype)), torch.where(inside, pairs, 0.0).sum(-1) / 2


DEFAULT_NETWORKS: dict[str, dict[str, Any]] = {
    "lie_transformer": {
        "dim": 3,
        "use_masses": False,
        "lifting": "moments",
        "num_moments": 16,
        "radial": "bessel",
        "num_radial": 16,
        "cutoff": 6.0,
        "width": 64,
        "num_heads": 32,
        "num_layers": 2,
        "kernel_hidden": 64,
        "mean_neighbours": 4.0,
    },
    "se3_transformer": {
        "dim": 3,
        "use_masses": False,
        "lmax": 2,
        "radial": "bessel",
        "num_radial": 16,
        "cutoff": 5.0,
        "width": 32,
        "num_heads": 4,
        "num_layers": 2,
        "kernel_hidden": 32,
    },
}
"""Networks that :meth:`AtomicPotential.default` makes, by architecture."""
