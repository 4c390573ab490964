"""What a potential tells besides the energy: a head for each property, on the features of its network.

| kind | made of | unit | shape |
|---|---|---|---|
| intensive | attention pooling over the atoms | of the training data (eV for energies) | (B,) |
| extensive | a sum over the atoms, with references of the elements | likewise | (B,) |
| charges | charges that flow along pairs and sum to the total charge | e | (B, N) |
| dipole | these charges, and vectors among the moments of the atoms | e Å | (B, 3) |
| polarizability | isotropic parts, matrices among the moments, flow along pairs | Å³ | (B, 3, 3) |
| spatial_extent | electrons at and around the atoms, ⟨R²⟩ | Å² | (B,) |

The formulas are in :mod:`~lie_sim.models.scalar_heads` and :mod:`~lie_sim.models.multipole_heads`. A number is exactly
invariant, a dipole turns with the molecule, a polarizability turns on both sides; all are smooth in the positions.
Where a model tells both charges and a dipole, the dipole is made with these charges.

Shape letters: B batch, N particles.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from lie_sim.models.atomic_config import AtomicConfig, HeadConfig
from lie_sim.models.features import Features, FeatureSizes
from lie_sim.models.head_inputs import head_inputs
from lie_sim.models.multipole_heads import (
    ChargeHead,
    DipoleHead,
    PairFlow,
    PolarizabilityHead,
    SpatialExtentHead,
)
from lie_sim.models.scalar_heads import ExtensiveHead, IntensiveHead
from lie_sim.state import Particles


class PropertyHeads(nn.Module):
    """All heads of a potential.

    Args:
        config: of the potential.
        sizes: of the features of its network.
    """

    def __init__(self, config: AtomicConfig, sizes: FeatureSizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        kinds = {head.kind for head in config.heads.values()}
        self.flow: PairFlow | None = None  # of charges and dipole
        if kinds & {"charges", "dipole"}:
            self.flow = PairFlow(sizes.width, sizes.location_dim, sign=-1.0)
        self.by_name = nn.ModuleDict({name: self._head(head) for name, head in config.heads.items()})

    def _head(self, head: HeadConfig) -> nn.Module:
        width, elements = self.sizes.width, self.config.elements
        sizes = {"width": width, "num_moments": self.sizes.num_moments}
        if head.kind == "intensive":
            return IntensiveHead(head, width)
        if head.kind == "extensive":
            return ExtensiveHead(head, width, elements)
        if head.kind == "charges":
            return ChargeHead()
        if head.kind == "dipole":
            return DipoleHead(head, **sizes)
        if head.kind == "polarizability":
            return PolarizabilityHead(head, num_radial=self.sizes.location_dim, elements=elements, **sizes)
        return SpatialExtentHead(head, elements=elements, **sizes)

    def forward(
        self, features: Features, q: Float[Tensor, "B N 3"], numbers: Int[Tensor, "B N"], particles: Particles
    ) -> dict[str, Tensor]:
        """Every property by name, float64.

        Args:
            features: of the backbone.
            q: positions in Å.
            numbers: atomic numbers.
            particles: mask, and the total charge if it is an input.
        """
        inputs = head_inputs(
            features,
            q,
            numbers,
            particles,
            geometric=self.config.needs_moments,
            charged="charge" in self.config.inputs,
        )
        if self.flow is not None:
            inputs = replace(inputs, flow=self.flow(inputs))
        return {name: head(inputs) for name, head in self.by_name.items()}
