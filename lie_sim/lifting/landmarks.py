r"""Landmarks: k soft group elements that stand for all particles, however many there are.

The particles are shared among the landmarks by a softmax of what is known of them, and a landmark lies in the middle of
what it has:

    P⁰_ia = softmax_a( b_a(s_i, |x_i − c|/ρ) )                 c, ρ: mean position and root mean square distance from it
    P_ia  = softmax_a( b′_a(s_i, a_i1, …, a_ik) )              a_ia: radial functions of |x_i − c⁰_a|
    E_ia  = softmax_i( log P_ia ),      c_a = Σ_i E_ia x_i     a mean of positions: Σ_i E_ia = 1

Scores see invariants alone, so that the landmarks turn and move with the system and do not depend on the order of the
particles; every step is smooth, unlike a choice of k particles, and costs N·k. What tells the landmarks apart is the
contents and the shells of the first round; they spread as far as the system is uneven, and the second round knows them.
They are not spread by directions that are drawn from the system and brought to a fixed length: in an even system those
would be noise, and turning them, which a particle does by 1/√N, would change N energies at once.

Means over all particles make an energy that is not size-extensive, and there are none in a periodic cell.

Shape letters: B batch, N particles, k landmarks, d space dimension, S scalars, R radial functions, P components of Y.

References: Locatello et al., "Object-centric learning with slot attention", NeurIPS 2020, arXiv:2006.15055 (softmax
over slots, then a mean over inputs); Lee et al., "Set Transformer", ICML 2019, arXiv:1810.00825 (inducing points).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lie_sim.lifting.base import LandmarkGeometry
from lie_sim.lifting.powers import DirectionPowers
from lie_sim.lifting.radial import compress
from lie_sim.state import Particles

LANDMARK_ORDER = 4
"""Largest power of directions: an expansion about the middle of a uniform box of softened gravity tells the forces from
beyond a fifth of its edge to 6 % with 2 and to 1 % with 4."""
_SHELLS = 4
"""Radial functions of the first round."""
_SMALLEST = 1e-4
"""Added to squared lengths that are divided by, in units of the length scale squared."""
_WIDTHS = (0.5, 1.0, 2.0, 4.0)
"""Of the radial functions of a landmark, in units of the reach."""
_APART = 6.0
"""Factor of the scores before learning: landmarks that begin at one place are slow to part."""
_NOWHERE = -1e30
"""Logarithm of the share of a particle that does not exist."""


class LandmarkLift(nn.Module):
    """Places of the landmarks, shares of the particles, and relative poses of both.

    Args:
        dim: d.
        num_scalars: S.
        num_landmarks: k.
        reach: length over which the landmarks' radial functions vary; the cutoff of the attention beside them.
    """

    radial_size = len(_WIDTHS)

    def __init__(self, dim: int, *, num_scalars: int, num_landmarks: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.first = nn.Linear(_SHELLS + num_scalars, num_landmarks)
        self.second = nn.Linear(num_landmarks * self.radial_size + num_scalars, num_landmarks)
        self.components = DirectionPowers(dim, LANDMARK_ORDER)
        with torch.no_grad():
            self.first.weight *= _APART
            self.second.weight *= _APART

    def forward(
        self, q: Float[Tensor, "B N d"], particles: Particles, scalars: Float[Tensor, "B N S"]
    ) -> LandmarkGeometry:
        """Find the landmarks.

        Args:
            q: positions in units of the model's length scale, shape (B, N, d).
            particles: their mask is used.
            scalars: what is known of each particle, shape (B, N, S).
        """
        exists = torch.ones_like(q[..., :1]) if particles.mask is None else particles.mask[..., None].to(q)
        known = compress(scalars)
        scores = self.first(torch.cat([_shells(q, exists), known], dim=-1))
        radial = self._radial(self._vectors(q, _places(q, scores, exists)))
        scores = self.second(torch.cat([radial.flatten(2), known], dim=-1))
        r = self._vectors(q, _places(q, scores, exists))
        return LandmarkGeometry(
            shares=scores.softmax(-1) * exists,
            location=self._radial(r),
            directions=self.components(r * torch.rsqrt(1 + r.square().sum(-1, keepdim=True))),
        )

    def _vectors(self, q: Tensor, places: Tensor) -> Float[Tensor, "B N k d"]:
        """From particles to landmarks, in units of the reach."""
        return (places[:, None] - q[:, :, None]) / self.reach

    @staticmethod
    def _radial(r: Float[Tensor, "B N k d"]) -> Float[Tensor, "B N k R"]:
        """Inverse multiquadrics 1/√(1 + r²/s²)."""
        widths = torch.tensor(_WIDTHS, dtype=r.dtype, device=r.device)
        return torch.rsqrt(1 + r.square().sum(-1, keepdim=True) / widths.square())


def _shells(q: Float[Tensor, "B N d"], exists: Float[Tensor, "B N 1"]) -> Float[Tensor, "B N shells"]:
    """cos(πn u), u = r²/(r² + ρ²), of the distance r from the middle."""
    number = exists.sum(1, keepdim=True).clamp(min=1)
    centre = (q * exists).sum(1, keepdim=True) / number
    squared = (q - centre).square().sum(-1, keepdim=True) * exists
    mean = squared.sum(1, keepdim=True) / number + _SMALLEST
    waves = torch.arange(1, _SHELLS + 1, dtype=q.dtype, device=q.device) * math.pi
    return torch.cos(squared / (squared + mean) * waves)


def _places(
    q: Float[Tensor, "B N d"], scores: Float[Tensor, "B N k"], exists: Float[Tensor, "B N 1"]
) -> Float[Tensor, "B k d"]:
    """c_a: means of the positions, weighted by the shares; logarithms keep a landmark that has next to nothing."""
    drawn = scores.log_softmax(-1).masked_fill(exists == 0, _NOWHERE).softmax(1)
    return drawn.transpose(1, 2) @ q
