"""What the heads for properties read: features, moments and pairs of a batch of molecules, padding marked.

    c = Σ_i Z_i r_i / Σ_i Z_i        centre of nuclear charge, about which ⟨R²⟩ and the dipole of an ion are taken

Shape letters: B batch, N particles, K neighbours, C channels, P components of a moment, m moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lie_sim.lifting.base import PairGeometry, pair_vectors
from lie_sim.models.features import Features
from lie_sim.models.inputs import can_be_read
from lie_sim.state import Particles


@dataclass(frozen=True)
class HeadInputs:
    """All that a head may use.

    Args:
        f: invariant features, shape (B, N, C).
        pairs: envelope and radial basis of the pairs of points.
        moments: T of every particle, shape (B, N, P, m); None if no head needs them.
        vectors: r_ij = r_j − r_i in Å, shape (B, N, K, 3); likewise.
        offsets: r_i − c in Å, 0 for padding, shape (B, N, 3).
        numbers: atomic numbers, 0 for padding, shape (B, N).
        mask: which atoms exist, shape (B, N).
        charge: of the molecules in e, shape (B,).
        flow: t_ij, charge in e that flows into i from j, shape (B, N, K); None if no head needs it.
    """

    f: Float[Tensor, "B N C"]
    pairs: PairGeometry
    moments: Float[Tensor, "B N P m"] | None
    vectors: Float[Tensor, "B N K 3"] | None
    offsets: Float[Tensor, "B N 3"]
    numbers: Int[Tensor, "B N"]
    mask: Bool[Tensor, "B N"]
    charge: Float[Tensor, " B"]
    flow: Float[Tensor, "B N K"] | None = None

    def summed(self, values: Float[Tensor, "B N ..."]) -> Float[Tensor, "B ..."]:
        """Sum over the atoms that exist, in float64."""
        exists = self.mask.reshape(*self.mask.shape, *(1,) * (values.ndim - 2))
        return torch.where(exists, values, 0.0).double().sum(1)


def head_inputs(
    features: Features,
    q: Float[Tensor, "B N 3"],
    numbers: Int[Tensor, "B N"],
    particles: Particles,
    *,
    geometric: bool,
    charged: bool,
) -> HeadInputs:
    """Collect them.

    Args:
        features: of the backbone; averaged over lifts.
        q: positions in Å.
        numbers: atomic numbers.
        particles: mask, and the total charge as the first attribute.
        geometric: whether a head needs directions or pairs.
        charged: whether the first attribute is the total charge; the molecules are neutral otherwise.
    """
    mask = particles.mask if particles.mask is not None else torch.ones_like(numbers, dtype=torch.bool)
    charges = torch.where(mask, numbers, 0).to(q.dtype)[..., None]
    centre = (q * charges).sum(1, keepdim=True) / charges.sum(1, keepdim=True).clamp(min=1)
    return HeadInputs(
        f=features.points.unflatten(1, (q.shape[1], features.pairs.num_lifts)).mean(2),
        pairs=features.pairs,
        moments=features.moments,
        vectors=pair_vectors(q, features.neighbours) if geometric else None,
        offsets=torch.where(mask[..., None], q - centre, 0.0),
        numbers=torch.where(mask, numbers, 0),
        mask=mask,
        charge=_total_charge(particles.attributes, mask).to(q.dtype) if charged else q.new_zeros(len(q)),
    )


def _total_charge(
    attributes: Float[Tensor, "B N A"] | None, mask: Bool[Tensor, "B N"]
) -> Float[Tensor, " B"]:
    """The first attribute of the first atom that exists.

    Raises:
        ValueError: atoms of a molecule have different ones (looked at on the CPU only).
    """
    assert attributes is not None  # or the network had refused
    given = attributes[..., 0]
    total = given.gather(1, mask.long().argmax(1, keepdim=True))
    if can_be_read(given) and bool(((given != total) & mask).any()):
        raise ValueError(
            "the total charge, the first attribute, must be the same for every atom of a molecule"
        )
    return total[:, 0]
