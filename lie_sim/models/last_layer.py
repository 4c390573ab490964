"""What an energy is a linear function of: the features that enter the last layer of a network.

    E = Σ_i (w·φ_i) · energy_scale + Σ_i E₀(Z_i),      φ = Σ_i φ_i

    φ_i = (f_i, SiLU(W f_i + b), 1) for the residual head, (SiLU(f_i), 1) for the linear one, …

The last layer of a trained network is a linear regression, of which the uncertainty is known in closed form.

Shape letters: B batch, N particles, M = N·L points, C channels, D features.
Reference: Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5 (2024) 045018.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.activations import silu
from lie_sim.models.atomic import AtomicPotential
from lie_sim.models.features import FeatureModel
from lie_sim.models.lie_transformer import DeepHead, LinearHead, ResidualHead
from lie_sim.state import Particles


def last_features(head: nn.Module, f: Float[Tensor, "B M C"]) -> Float[Tensor, "B M D"]:
    """φ of every point, of which the output of the head is a linear function.

    Raises:
        TypeError: the head is none of those that :class:`~lie_sim.models.LieTransformer` has.

    Example:
        >>> last_features(ResidualHead(4, 1), torch.zeros(2, 3, 4)).shape
        torch.Size([2, 3, 9])
    """
    if isinstance(head, ResidualHead):
        parts = [f, silu(head.hidden(f))]
    elif isinstance(head, LinearHead):
        parts = [silu(f)]
    elif isinstance(head, DeepHead):
        for layer in list(head.layers)[:-1]:
            f = layer(silu(f))
        parts = [silu(f)]
    else:
        raise TypeError(f"the last layer of a {type(head).__name__} is not known")
    return torch.cat([*parts, torch.ones_like(f[..., :1])], dim=-1)


def require_linear_readout(potential: AtomicPotential) -> FeatureModel:
    """The network of a potential whose energy is a sum over atoms of linear functions of features.

    Raises:
        ValueError: it is not; the message says why.
    """
    network = potential.network
    if not potential.has_energy or not isinstance(network, FeatureModel):
        raise ValueError(
            "the last layer is known of a LieTransformer or SE3Transformer with an energy; use an ensemble for others"
        )
    if not network.linear_readout:
        names = ("readout", "readout_weight", "pool")
        found = {name: getattr(network.config, name) for name in names if hasattr(network.config, name)}
        raise ValueError(
            "the last layer is used of models with readout 'sum' without weights or pool, not of a "
            f"{type(network).__name__} with {found or 'linear_readout False'}; use an ensemble"
        )
    return network


class LastLayer:
    """The features of whole systems, taken down while the potential computes their energies.

    Args:
        potential: with a linear readout.

    Example:
        >>> potential = AtomicPotential.default(elements=(1,))
        >>> two = Particles(masses=torch.ones(1, 2), species=torch.ones(1, 2, dtype=torch.long))
        >>> layer = LastLayer(potential)
        >>> with layer.watched():
        ...     energies = potential(torch.tensor([[[0.0, 0, 0], [0, 0, 0.8]]]), two)
        >>> layer.features(two).shape
        torch.Size([1, 129])
    """

    def __init__(self, potential: AtomicPotential) -> None:
        self._network = require_linear_readout(potential)
        self._seen: Tensor | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts, what enters the head is kept."""

        def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            self._seen = arguments[0]

        handle = self._network.head.register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def features(self, particles: Particles) -> Float[Tensor, "B D"]:
        """φ of every system that the potential saw last, in the graph of its energies."""
        seen, self._seen = self._seen, None  # a graph that is kept could not be copied
        assert seen is not None
        each = last_features(self._network.head, seen)
        each = each.unflatten(1, (particles.num_particles, -1)).mean(2)
        total: Tensor = (each if particles.mask is None else each * particles.mask[..., None]).sum(1)
        return total
