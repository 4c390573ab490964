"""A potential of atoms in eV and Å: any energy model, told which element each particle is.

    E(q) = Σ_i ( ε_i(q) + E₀(Z_i) )  [ + Σ_{i<j} repulsion(r_ij) ]

``particles.species`` are atomic numbers. The reference energies E₀ can be thousands of eV, of which float32
keeps a tenth of a meV at best, so they are added in float64, and so are the energies of a system.

Shape letters: B batch, N particles, K neighbours, d space dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lie_sim.lifting.base import gather_points, pair_mask, pair_vectors
from lie_sim.models.base import EnergyModel, build_model, model_class, register_model
from lie_sim.models.repulsion import zbl_energy
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles

LARGEST_ATOMIC_NUMBER = 118
GLOBAL_INPUTS = ("charge", "spin")
"""What a whole molecule may be given beside its atoms: charge in e, spin as the number of unpaired electrons."""


@dataclass(frozen=True)
class AtomicConfig:
    """What an :class:`AtomicPotential` is made of.

    Args:
        elements: atomic numbers it knows, ascending.
        reference_energies: E₀ of each element in eV; empty means 0.
        repulsion_radii: radius R of each element in Å: pairs nearer than R_i + R_j repel each other as bare nuclei
            do; empty means no such repulsion.
        inputs: global inputs in use, of ``GLOBAL_INPUTS``; every atom sees them as its first attributes.
        architecture: registry name of the network.
        network: options of the network. ``num_species`` and ``num_attributes`` follow from the above.

    Example:
        >>> AtomicConfig(elements=(1, 8)).species_of(8)
        1
    """

    elements: tuple[int, ...]
    reference_energies: tuple[float, ...] = ()
    repulsion_radii: tuple[float, ...] = ()
    inputs: tuple[str, ...] = ()
    architecture: str = "lie_transformer"
    network: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = range(1, LARGEST_ATOMIC_NUMBER + 1)
        if not self.elements or any(z not in known for z in self.elements):
            raise ValueError(
                f"elements must be atomic numbers from 1 to {LARGEST_ATOMIC_NUMBER}, got {self.elements}"
            )
        if tuple(sorted(set(self.elements))) != self.elements:
            raise ValueError(f"elements must be ascending, each once, got {self.elements}")
        for name in ("reference_energies", "repulsion_radii"):
            given = len(getattr(self, name))
            if given not in (0, len(self.elements)):
                raise ValueError(f"{name} has {given} values for {len(self.elements)} elements")
        if any(not radius > 0 for radius in self.repulsion_radii):
            raise ValueError(f"repulsion_radii must be positive, got {self.repulsion_radii}")
        if tuple(name for name in GLOBAL_INPUTS if name in self.inputs) != self.inputs:
            raise ValueError(f"inputs must be some of {GLOBAL_INPUTS}, in this order, got {self.inputs}")

    def species_of(self, atomic_number: int) -> int:
        """Place of an element in ``elements``.

        Raises:
            ValueError: the potential does not know the element.
        """
        if atomic_number not in self.elements:
            raise ValueError(f"this potential knows the elements {self.elements}, not {atomic_number}")
        return self.elements.index(atomic_number)


@register_model
class AtomicPotential(EnergyModel):
    """Energy of molecules and crystals in eV; positions in Å, ``particles.species`` are atomic numbers.

    Args:
        config: elements, reference energies, and the network.

    Attributes:
        network: the energy model inside; its species are places in ``config.elements``.
        cutoff: distance in Å up to which it needs neighbours.

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
        options = {"num_species": len(config.elements), "num_attributes": len(config.inputs)}
        for key, value in options.items():
            if config.network.get(key, value) != value:
                raise ValueError(
                    f"network.{key} follows from elements and inputs: it is {value}, leave it out"
                )
        has = {entry.name for entry in fields(model_class(config.architecture).Config)}
        options = {key: value for key, value in options.items() if key in has}
        self.network = build_model(config.architecture, config.network | options)
        self.equivariant_under = self.network.equivariant_under
        self.cutoff = float(getattr(self.network.config, "cutoff", 0.0))
        if self.cutoff and max(config.repulsion_radii, default=0.0) * 2 > self.cutoff:
            raise ValueError(f"repulsion_radii reach further than the cutoff {self.cutoff} of the network")
        species = torch.arange(len(config.elements))
        self._table("species_table", species, fill=-1)
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
            options: other fields of :class:`AtomicConfig`; ``network`` overrides single options of the network.
        """
        network = DEFAULT_NETWORK | dict(options.pop("network", {}))
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
        numbers = self._numbers(particles)
        species = torch.where(numbers == 0, 0, self.species_table[numbers])
        energies: Tensor = self.network(q, replace(particles, species=species), neighbours).double()
        if self.config.repulsion_radii:
            energies = energies + self._repulsion(q.double(), numbers, particles, neighbours)
        references = self.reference_table[numbers]
        return energies + (references if particles.mask is None else references * particles.mask)

    def _numbers(self, particles: Particles) -> Int[Tensor, "B N"]:
        numbers = particles.species
        if numbers is None:
            raise ValueError("this potential needs particles.species, the atomic numbers, which is None")
        if numbers.device.type == "cpu":
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

    def _repulsion(
        self, q: Tensor, numbers: Tensor, particles: Particles, neighbours: NeighbourMatrix | None
    ) -> Float[Tensor, "B N"]:
        index = None if neighbours is None else neighbours.index

        def of_neighbours(values: Tensor) -> Tensor:
            return values[:, None] if index is None else gather_points(values[..., None], index).squeeze(-1)

        radius, charge = self.radius_table[numbers], numbers.double()
        r2 = pair_vectors(q, neighbours).square().sum(-1)
        exists = pair_mask(q, particles, neighbours, include_self=False)
        reach = radius[..., None] + of_neighbours(radius)
        pairs = zbl_energy(r2, charge[..., None], of_neighbours(charge).expand_as(r2), reach)
        return torch.where(exists > 0, pairs, 0.0).sum(-1) / 2


DEFAULT_NETWORK: dict[str, Any] = {
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
}
"""The LieTransformer that :meth:`AtomicPotential.default` makes."""
