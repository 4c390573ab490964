"""A wider network that gives the same energies: training goes on with more features than it began with.

    [ W  0 ]        W the weights that are there; * random: what the new features are made of
    [ *  * ]        the old features, and the energy, do not see the new ones until training lets them

Reference: Chen, Goodfellow, Shlens, Net2Net, arXiv:1511.05641, who split features instead of adding silent ones.

Shape letters: C features before, W features after.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import torch

from lie_sim.models import AtomicPotential

ORDERS = 3
"""Of the products that an attention reads: scalars, vectors, matrices."""


def widened(potential: AtomicPotential, width: int, *, seed: int = 0) -> AtomicPotential:
    """A potential with ``width`` features and the same energies.

    Args:
        potential: a LieTransformer with moments, whose normalisation takes no mean over features.
        width: W, at least C.
        seed: of the new weights.
    """
    config = potential.config
    before = config.network["width"]
    if config.network.get("lifting") != "moments" or width < before:
        raise ValueError(f"a network with moments can get more than its {before} features, not {width}")
    norm, heads = (
        getattr(potential.network.config, "norm", None),
        sorted({head.kind for head in config.heads.values()}),
    )
    if norm not in ("bounded", "none") or "intensive" in heads:
        raise ValueError(
            f"a mean over features would change: norm {norm!r}, heads {', '.join(heads) or 'none'}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = AtomicPotential(replace(config, network=config.network | {"width": width}))
    weights = made.to(next(potential.parameters()).dtype).state_dict()
    with torch.no_grad():
        for name, old in potential.state_dict().items():
            new = weights[name]
            places = [
                torch.tensor(kept(name, axis, sizes, before, width))
                for axis, sizes in enumerate(zip(old.shape, new.shape, strict=True))
            ]
            new[places[0]] = 0.0
            new[torch.meshgrid(*places, indexing="ij")] = old
    return made


def kept(name: str, axis: int, sizes: tuple[int, int], before: int, width: int) -> list[int]:
    """Where the old rows (axis 0) or columns (axis 1) of a weight stand in the new one."""
    old, new = sizes
    if old == new:
        return list(range(old))
    if name.endswith("mix.weight") and axis == 0:  # two factors of C each, and the moments that are handed on
        starts, rest = [0, width], range(2 * width, 2 * width + old - 2 * before)
    elif name.endswith("attention.out.weight") and axis == 1:  # what the heads collect, then C of each order
        heads = old - ORDERS * before
        starts, rest = [heads + order * width for order in range(ORDERS)], range(heads)
        return [*rest, *chain.from_iterable(range(start, start + before) for start in starts)]
    else:
        starts, rest = [0], range(0)
    return [*chain.from_iterable(range(start, start + before) for start in starts), *rest]
