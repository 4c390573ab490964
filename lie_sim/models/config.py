"""Options of the LieTransformer, as plain values that fit in a TOML file."""

from __future__ import annotations

from dataclasses import dataclass

from lie_sim.attention import AttentionConfig
from lie_sim.models.config_checks import (
    require_attention,
    require_choices,
    require_numbers,
    require_standards,
)

LIFTINGS = ("frame", "moments", "haar", "finite")
READOUTS = ("sum", "mean", "max")
HEADS = ("residual", "deep", "linear")
NORMS = ("bounded", "none", "pre", "post")
WEIGHTINGS = ("none", "masses")
POOLS = ("none", "gate")
_ONLY_PROPERTIES = ("hard", "soft", "sag", "soft_sag")
_NO_ENERGY = (
    "an energy cannot be pooled by {!r}: a hard choice makes it jump as particles move, so that no forces conserve "
    "it, and the threshold of hard and soft top-k hangs on all particles, so that the energy of two systems far apart "
    "is not the sum of theirs. Use pool='gate', which is smooth and local; 'sag' and 'soft_sag' are for heads of "
    "intensive properties"
)
_CHOICES = {
    "lifting": LIFTINGS,
    "readout": READOUTS,
    "head": HEADS,
    "norm": NORMS,
    "source_weight": WEIGHTINGS,
    "readout_weight": WEIGHTINGS,
    "pool": POOLS,
}
_LEAST = dict.fromkeys(("num_attributes", "num_species", "num_frames", "num_moments", "content_features"), 0)
_LEAST |= dict.fromkeys(
    ("dim", "num_lifts", "num_radial", "width", "num_heads", "num_layers", "kernel_hidden", "num_landmarks"),
    1,
)
_POSITIVE = ("length_scale", "energy_scale", "mass_std", "mean_neighbours")
_NOT_NEGATIVE = ("cutoff", "squash", "softening", "epsilon")
_ONLY_HAAR = {"num_lifts": 1, "squash": 0.0, "pose": ""}


@dataclass(frozen=True)
class LieTransformerConfig:
    """Everything that fixes a LieTransformer's architecture.

    Particles enter through their masses (``use_masses``), real attributes and species. Lengths are divided by
    ``length_scale``, masses and attributes standardised, energies multiplied by ``energy_scale``; training
    sets these from its data (:func:`lie_sim.training.scales.fit_scales`).

    Args:
        dim: space dimension d.
        num_attributes: A, length of ``particles.attributes``.
        num_species: number of species; ``particles.species`` runs from 0 to ``num_species − 1``.
        use_masses: whether the potential sees the masses.
        lifting: "frame" (soft frames: exact, smooth), "moments" (soft frames with second moments that every block
            refines; cheaper and more accurate for molecules), "finite" (T(n) ⋊ K: exact) or "haar" (random samples).
        group: group name for "haar", such as "SE(3)", and for "finite" (the subgroup K), such as "C4".
        element_code: how "finite" encodes relative rotations, "matrix" or (paper) "index".
        num_lifts: L, stabiliser samples per particle of "haar".
        lift_seed: names the samples of "haar".
        pose: encoding of relative poses of "haar", "log", "matrix" or "quaternion"; empty for the group's own.
        squash: shortening of the locations of "haar"; 0 for none.
        centre: subtract the mean position first (for groups that act about the origin).
        num_frames: m, frame vectors of each particle with "frame"; 0 leaves distances only.
        num_moments: second moments of each particle with "frame", which see angles at symmetric sites; with "moments"
            the number m of functions on the sphere around each particle.
        keep_moments: the last block refines the functions of "moments" too, for heads that read directions.
        chirality: add pseudo-scalars that tell left from right: symmetry SE(d) in place of E(d).
        radial: functions of the distance, "polynomial", "gaussian", "bessel" or "coulomb".
        num_radial: size of the gaussian or bessel basis.
        softening: ε of the coulomb basis, in the unit of q.
        cutoff: distance where interactions end, in the unit of q; 0 for none. With "induced" attention that of pairs.
        attention: who is attended to. "full": all particles, or those listed if a list is given; a cutoff weighs the
            pairs. "local": the particles within the cutoff, found in time N without a list. "induced": those, and all
            particles through landmarks, in time N (:mod:`lie_sim.attention.induced`); not size-extensive, no cells.
        num_landmarks: k of "induced" attention; time and memory grow with it, the error hardly changes.
        width: channels C, a multiple of ``num_heads``.
        num_heads: attention heads H.
        num_layers: attention blocks.
        content: kernel of the features, "dot_product", "concat", "concat_linear" or "none".
        location: kernel of the relative poses, "network" (sees the features too), "mlp", "plain" or "none".
        combination: of the two kernels, "sum", "product" or "mlp".
        normalisation: of the attention weights, "scaled", "softmax", "constant" or "norm_exp".
        gated_values: multiply the values by a function of the relative pose; energies need it.
        epsilon: ε of the normalisations other than "scaled".
        mean_neighbours: usual number of neighbours, by which "scaled" and moment attention divide.
        kernel_hidden: width of the kernel networks and of φ.
        content_features: features per head of the concat kernels; 0 means C/(4H).
        norm: of the residual branches, "bounded" (their inputs are squeezed to [−1, 1], so that outside the
            training data a deep model grows no faster than its radial basis), "none", or layer normalisation,
            "pre" or "post".
        paper_blocks: feed-forward blocks of the paper (activation last).
        head: network after the blocks, "residual" (linear plus a small perceptron), "deep" (paper: three layers) or
            "linear" (paper, molecules: one layer per point). A mean or maximum over the particles is taken before
            the first two and after the last.
        readout: over the particles, "sum" (extensive), "mean" or "max".
        source_weight: of a particle in what others see of it, "none" or "masses" (the equivalence principle): in the
            attention and in the sums over neighbours of soft frames and moments.
        readout_weight: of a particle's energy in the sum, "none" or "masses".
        pool: "gate" multiplies each particle's energy by a smooth local weight that says how much it matters
            (:class:`~lie_sim.pooling.PairScore`), "none" does not.
        length_scale: unit of length, in the unit of q.
        energy_scale: unit of energy.
        mass_mean: subtracted from the masses.
        mass_std: the masses are divided by it.
        attribute_mean: subtracted from the attributes; empty means 0.
        attribute_std: the attributes are divided by it; empty means 1.
    """

    dim: int = 2
    num_attributes: int = 0
    num_species: int = 0
    use_masses: bool = True
    lifting: str = "frame"
    group: str = ""
    element_code: str = "matrix"
    num_lifts: int = 1
    lift_seed: int = 0
    pose: str = ""
    squash: float = 0.0
    centre: bool = False
    num_frames: int = 2
    num_moments: int = 0
    keep_moments: bool = False
    chirality: bool = False
    radial: str = "polynomial"
    num_radial: int = 16
    softening: float = 1e-3
    cutoff: float = 0.0
    attention: str = "full"
    num_landmarks: int = 16
    width: int = 32
    num_heads: int = 8
    num_layers: int = 2
    content: str = "dot_product"
    location: str = "network"
    combination: str = "sum"
    normalisation: str = "scaled"
    gated_values: bool = True
    epsilon: float = 1e-6
    mean_neighbours: float = 1.0
    kernel_hidden: int = 32
    content_features: int = 0
    norm: str = "bounded"
    paper_blocks: bool = False
    head: str = "residual"
    readout: str = "sum"
    source_weight: str = "none"
    readout_weight: str = "none"
    pool: str = "none"
    length_scale: float = 1.0
    energy_scale: float = 1.0
    mass_mean: float = 0.0
    mass_std: float = 1.0
    attribute_mean: tuple[float, ...] = ()
    attribute_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.pool in _ONLY_PROPERTIES:
            raise ValueError(_NO_ENERGY.format(self.pool))
        require_choices(self, _CHOICES)
        require_numbers(self, least=_LEAST, positive=_POSITIVE, not_negative=_NOT_NEGATIVE)
        require_standards(self)
        self._check_lifting()
        require_attention(self)
        if self.pool != "none" and self.readout != "sum":
            raise ValueError(f"pool={self.pool!r} weighs the terms of readout='sum', not {self.readout!r}")

    def _check_lifting(self) -> None:
        if self.lifting in ("frame", "moments") and self.group:
            raise ValueError(
                f"lifting={self.lifting!r} is E(d) or SE(d) by construction: leave group empty, not {self.group!r}"
            )
        if self.lifting not in ("frame", "moments") and not self.group:
            raise ValueError(
                f"lifting={self.lifting!r} needs a group name, such as 'T(2)' (haar) or 'C4' (finite)"
            )
        if self.lifting == "haar" and self.cutoff:
            raise ValueError("lifting='haar' describes all pairs: leave cutoff 0, or use 'frame' or 'finite'")
        if self.lifting == "moments" and (self.chirality or not self.num_moments or not self.cutoff):
            raise ValueError(
                "lifting='moments' is local and has the symmetry E(d): give cutoff > 0 and num_moments >= 1, "
                f"leave chirality False; got {self.cutoff}, {self.num_moments} and {self.chirality}"
            )
        if self.keep_moments and self.lifting != "moments":
            raise ValueError(
                f"keep_moments is for lifting='moments', which has them, not for {self.lifting!r}"
            )
        for name, default in _ONLY_HAAR.items():
            value = getattr(self, name)
            if self.lifting != "haar" and value != default:
                raise ValueError(
                    f"{name} is for lifting='haar' and would have no effect with {self.lifting!r}: "
                    f"leave it {default!r}, not {value!r}"
                )

    @property
    def num_scalars(self) -> int:
        """Numbers known of each particle: mass, attributes, one-hot species; a constant 1 where nothing is."""
        return int(self.use_masses) + self.num_attributes + self.num_species or 1

    def pair_attention(self) -> AttentionConfig:
        """Options of the attention over pairs."""
        return AttentionConfig(
            width=self.width,
            num_heads=self.num_heads,
            content=self.content,
            location=self.location,
            combination=self.combination,
            normalisation=self.normalisation,
            kernel_hidden=self.kernel_hidden,
            content_features=self.content_features or None,
            gated_values=self.gated_values,
            epsilon=self.epsilon,
            mean_neighbours=self.mean_neighbours,
        )
