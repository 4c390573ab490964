"""Screened repulsion of nuclei at distances that no training data visit (Ziegler, Biersack, Littmark).

    V_ij = (e²/4πε₀) Z_i Z_j / r · φ(r/a) · w(r),     a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23)
    φ(x) = 0.18175 e^(−3.19980 x) + 0.50986 e^(−0.94229 x) + 0.28022 e^(−0.40290 x) + 0.02817 e^(−0.20162 x)

w(r) is the smooth envelope that ends at R = R_i + R_j, so that ordinary bonds feel next to nothing. Of such pairs a
network knows nothing and could undo the repulsion; it sees them at a distance that the data have,

    r̃ = R (1 − wφ((1 − r/R)/w)),   φ(t) = t − t³ + t⁴/2 up to t = 1, then 1/2;   w = 1/10

which is r beyond R, has two continuous derivatives and does not get below 0.95 R.
Units: Å, eV. Each pair's energy is shared equally by its two atoms.

Shape letters: B batch, N particles, K neighbours, d space dimension.
Reference: Ziegler, Biersack, Littmark, "The Stopping and Range of Ions in Solids", Pergamon 1985.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lie_sim.lifting.radial import smooth_cutoff
from lie_sim.units import COULOMB_EV_ANGSTROM

_LENGTH, _POWER = 0.46850, 0.23
_SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
_CLOSEST = 1e-6
"""Å; nearer atoms are taken to be this far apart, for which the energy is finite."""
_TAPER = 0.1
"""w: share of R within which distances stop to shrink."""


def zbl_energy(
    r2: Float[Tensor, "B N K"],
    charge_i: Float[Tensor, "B N 1"],
    charge_j: Float[Tensor, "B N K"],
    reach: Float[Tensor, "B N K"],
) -> Float[Tensor, "B N K"]:
    """Repulsion of each pair in eV; 0 beyond ``reach``.

    Args:
        r2: squared distances in Å².
        charge_i: nuclear charge of the atom.
        charge_j: nuclear charges of its neighbours.
        reach: distance in Å from which on it is 0.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> [round(x.item(), 3) for x in (zbl_energy(0.01 * one, one, one, one), zbl_energy(one, one, one, one))]
        [92.676, 0.0]
    """
    r = torch.sqrt(r2 + _CLOSEST**2)
    x = r * (charge_i**_POWER + charge_j**_POWER) / _LENGTH
    screening = sum(share * torch.exp(-rate * x) for share, rate in _SCREENING)
    envelope = smooth_cutoff(r / reach, 1.0)
    return COULOMB_EV_ANGSTROM * charge_i * charge_j / r * screening * envelope


def seen_distance(r2: Float[Tensor, "B N K"], reach: Float[Tensor, "B N K"]) -> Float[Tensor, "B N K"]:
    """The distance in Å at which a network sees a pair; see the module's equation.

    Args:
        r2: squared distances in Å², not 0.
        reach: R in Å.

    Example:
        >>> one = torch.ones(3, dtype=torch.float64)
        >>> seen_distance(torch.tensor([2.25, 1.0, 0.25], dtype=torch.float64), one).tolist()
        [1.5, 1.0, 0.95]
    """
    r = torch.sqrt(r2)
    t = ((1 - r / reach) / _TAPER).clamp(0.0, 1.0)
    seen = reach * (1 - _TAPER * (t - t**3 + t**4 / 2))
    return torch.where(r < reach, seen, r)
