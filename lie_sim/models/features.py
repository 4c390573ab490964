"""Potentials whose energies are read off features of the particles, and what else can be read off them.

Shape letters: B batch, N particles, M points (particles times lifts), C channels, P components of Y, m moments.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.lifting import PairGeometry
from lie_sim.models.base import EnergyModel
from lie_sim.neighbors import NeighbourMatrix
from lie_sim.state import Particles


@dataclass(frozen=True)
class Features:
    """What a network knows of a system in the end.

    Args:
        points: invariant features of the points, shape (B, M, C).
        pairs: geometry of the pairs.
        moments: T of every particle, which turn with the system, shape (B, N, P, m), components as of
            :mod:`lie_sim.lifting.moments`; None unless ``keep_moments``.
        neighbours: the list of pairs, in the unit of q; None for all pairs.
    """

    points: Float[Tensor, "B M C"]
    pairs: PairGeometry
    moments: Float[Tensor, "B N P m"] | None = None
    neighbours: NeighbourMatrix | None = None


@dataclass(frozen=True)
class FeatureSizes:
    """Sizes of :class:`Features`: C, of the radial functions of a pair, and m."""

    width: int
    location_dim: int
    num_moments: int


class FeatureModel(EnergyModel):
    """An energy in two steps, between which heads for properties may read too.

    Attributes:
        head: from the features of a point to its energy.
        linear_readout: whether the energy of a particle is ``config.energy_scale`` times the mean of the head's outputs
            over its points, and nothing else: then the uncertainty of the last layer is known.
    """

    head: nn.Module
    linear_readout: bool = False

    @property
    def sizes(self) -> FeatureSizes:
        """Those of the features."""
        raise NotImplementedError(f"{type(self).__name__} must implement sizes")

    def features(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Features:
        """The first step; arguments as of :meth:`~lie_sim.models.EnergyModel.forward`."""
        raise NotImplementedError(f"{type(self).__name__} must implement features")

    def read_energies(self, features: Features, particles: Particles) -> Float[Tensor, "B N"]:
        """The second step: energies of the particles."""
        raise NotImplementedError(f"{type(self).__name__} must implement read_energies")

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, neighbours: NeighbourMatrix | None = None
    ) -> Float[Tensor, "B N"]:
        """Energies of the particles, shape (B, N); padding gets 0."""
        return self.read_energies(self.features(q, particles, neighbours), particles)
