"""Options of the SE(3)-Transformer, as plain values that fit in a TOML file, and the paper's architecture."""

from __future__ import annotations

from dataclasses import dataclass

from lie_sim.attention import KERNELS
from lie_sim.lifting import PARITIES, RADIAL_BASES, representations
from lie_sim.models.config_checks import (
    require_attention,
    require_choices,
    require_numbers,
    require_standards,
)

_CHOICES = {"parity": PARITIES, "kernel": KERNELS, "radial": RADIAL_BASES}
_LEAST = dict.fromkeys(("num_attributes", "num_species", "lmax"), 0)
_LEAST |= dict.fromkeys(
    ("num_radial", "width", "num_heads", "num_layers", "kernel_hidden", "num_landmarks"), 1
)
_POSITIVE = ("length_scale", "energy_scale", "mass_std", "mean_neighbours")
_NOT_NEGATIVE = ("cutoff", "softening")
_DIMENSIONS = (2, 3)


@dataclass(frozen=True)
class SE3TransformerConfig:
    """Everything that fixes an SE(3)-Transformer's architecture.

    Particles enter through their masses (``use_masses``), real attributes and species. Lengths are divided by
    ``length_scale``, masses and attributes standardised, energies multiplied by ``energy_scale``; training
    sets these from its data (:func:`lie_sim.training.scales.fit_scales`).

    Args:
        dim: space dimension d, 3, or 2 for the plane z = 0.
        num_attributes: A, length of ``particles.attributes``.
        num_species: number of species; ``particles.species`` runs from 0 to ``num_species − 1``.
        use_masses: whether the potential sees the masses.
        lmax: largest degree of features and spherical harmonics.
        parity: behaviour of the features under inversion, "natural" (that of the spherical harmonics), "both" (axial
            vectors and the like too, which an energy sees from the third block on and a motion from the second:
            twice the work of those) or "none" (rotations only, as in the paper: symmetry SE(3) in place of E(3)).
        radial: functions of the distance, "polynomial", "gaussian", "bessel" or "coulomb".
        num_radial: size of the gaussian or bessel basis.
        softening: ε of the coulomb basis, in the unit of q.
        cutoff: distance where interactions end, in the unit of q; 0 for none. With "induced" attention that of pairs.
        attention: who is attended to, "full", "local" or "induced", as of
            :class:`~lie_sim.models.LieTransformerConfig`; landmarks see and change numbers, not what turns.
        num_landmarks: k of "induced" attention.
        mean_neighbours: usual number of neighbours, by which the sums of landmarks are divided.
        width: channels C of every representation, a multiple of ``num_heads``.
        num_heads: attention heads H.
        num_layers: attention blocks.
        kernel: of messages, "depthwise" (channel by channel) or "dense" (the paper's: a matrix of channels for each
            pair, which takes several times as long to train).
        kernel_hidden: width of the radial networks.
        keep_moments: the last block changes vectors and matrices too, for heads that read directions.
        length_scale: unit of length, in the unit of q.
        energy_scale: unit of energy.
        mass_mean: subtracted from the masses.
        mass_std: the masses are divided by it.
        attribute_mean: subtracted from the attributes; empty means 0.
        attribute_std: the attributes are divided by it; empty means 1.

    Example:
        >>> SE3TransformerConfig(lmax=1).representations
        ('0e', '1o')
    """

    dim: int = 3
    num_attributes: int = 0
    num_species: int = 0
    use_masses: bool = True
    lmax: int = 2
    parity: str = "natural"
    radial: str = "polynomial"
    num_radial: int = 16
    softening: float = 1e-3
    cutoff: float = 0.0
    attention: str = "full"
    num_landmarks: int = 16
    mean_neighbours: float = 1.0
    width: int = 16
    num_heads: int = 4
    num_layers: int = 2
    kernel: str = "depthwise"
    kernel_hidden: int = 32
    keep_moments: bool = False
    length_scale: float = 1.0
    energy_scale: float = 1.0
    mass_mean: float = 0.0
    mass_std: float = 1.0
    attribute_mean: tuple[float, ...] = ()
    attribute_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_choices(self, _CHOICES)
        require_numbers(self, least=_LEAST, positive=_POSITIVE, not_negative=_NOT_NEGATIVE)
        require_standards(self)
        require_attention(self)
        if self.dim not in _DIMENSIONS:
            raise ValueError(f"dim must be 2 or 3, where rotations act, got {self.dim}")
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.keep_moments and (self.dim != 3 or self.lmax < 2):
            raise ValueError(
                f"keep_moments needs vectors and matrices of space: dim 3 and lmax >= 2, got {self.dim} and {self.lmax}"
            )
        if self.radial in ("gaussian", "bessel") and not self.cutoff:
            raise ValueError(
                f"the {self.radial} basis needs a cutoff: give cutoff > 0, or radial='polynomial'"
            )

    @property
    def num_scalars(self) -> int:
        """Numbers known of each particle: mass, attributes, one-hot species; a constant 1 where nothing is."""
        return int(self.use_masses) + self.num_attributes + self.num_species or 1

    @property
    def representations(self) -> tuple[str, ...]:
        """Those of the features."""
        return representations(self.lmax, self.parity)

    @property
    def harmonics(self) -> tuple[str, ...]:
        """Those of the spherical harmonics, one of each degree."""
        return representations(self.lmax, "none" if self.parity == "none" else "natural")


SE3_PRESETS = {
    "nbody": SE3TransformerConfig(
        num_attributes=1,
        use_masses=False,
        lmax=3,
        parity="none",
        width=8,
        num_heads=2,
        num_layers=4,
        kernel="dense",
        kernel_hidden=32,
    )
}
"""Sizes of the published experiments: of N bodies, four layers, degrees 0 to 3, eight channels, two heads.

Source: the released command for the N-body experiment of Fuchs et al., arXiv:2006.10503. It divides the channels of
keys and values by 4; its radial networks have ReLU and layer normalisation where ours have SiLU.
"""
