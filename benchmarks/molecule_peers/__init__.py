"""The peers of the molecular benchmarks: SchNetPack's PaiNN, MACE, NequIP, ANI, SevenNet-0, GFN2-xTB.

Imported where the packages are installed (make bench-env-molecules), and each package only when its peer is made. A
peer is a network, how structures become its input, and the ASE calculator that its package ships; networks are
untrained unless molecules_training.py trains them, and SevenNet-0 comes with its weights.

Settings are those that the authors recommend for small molecules:

    painn    SchNetPack: 3 interactions, 20 Gaussians, cutoff 5 Å, 128 features ("painn64": 64)
    mace     64x0e, 2 layers, correlation 3, ℓ ≤ 3, 8 Bessel functions, cutoff 5 Å ("mace128": 128x0e + 128x1o)
    nequip   ℓ ≤ 1 with parity, 32 features, 4 layers, cutoff 5 Å
    ani      one network of ANI-2x, for speed only
"""

from __future__ import annotations

from collections.abc import Callable

from molecule_peers.base import CUTOFF, Graph, Peer
from molecule_peers.mace import MACE, MACE128
from molecule_peers.nequip import NequIP
from molecule_peers.others import ANI, GFN2, SevenNet0
from molecule_peers.painn import PaiNN, PaiNN64

__all__ = ["CUTOFF", "PEERS", "Graph", "Peer"]

PEERS: dict[str, Callable[..., Peer]] = {
    "painn": PaiNN,
    "painn64": PaiNN64,
    "mace": MACE,
    "mace128": MACE128,
    "nequip": NequIP,
    "ani": ANI,
    "sevennet0": SevenNet0,
    "gfn2": GFN2,
}
