"""Split conformal prediction: a quantile of scores on held-out structures that covers new ones at a stated rate.

    s = |y − ŷ| / σ,      q = the ⌈(n + 1)·coverage⌉-th smallest of n scores,      P( |y − ŷ| ≤ q σ ) ≥ coverage

for every new structure that is exchangeable with the n, whatever the model and whatever σ. Where a structure has many
scores, one for each atom, each counts 1/(number of atoms), and the statement is about a random atom of a new structure.

Shape letters: M structures.
Reference: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, Springer 2005; Angelopoulos, Bates,
arXiv:2107.07511; Lee, Barber, Willett, Distribution-free inference with hierarchical data, arXiv:2306.06342.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def conformal_quantile(scores: Sequence[np.ndarray] | np.ndarray, coverage: float) -> float:
    """The q of the module's equation.

    Args:
        scores: of each structure one number, or an array with one for each of its atoms.
        coverage: between 0 and 1.

    Raises:
        ValueError: there are too few structures for this coverage, or a score is no number.

    Example:
        >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
        18.0
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must lie between 0 and 1, got {coverage}")
    groups = [np.atleast_1d(np.asarray(each, dtype=float)) for each in scores]
    needed = math.ceil(coverage / (1 - coverage) - 1e-9)
    if len(groups) < needed:
        raise ValueError(
            f"a coverage of {coverage:g} needs at least {needed} held-out structures, got {len(groups)}: with fewer no "
            "finite interval is wide enough"
        )
    values = np.concatenate(groups)
    if np.isnan(values).any():
        raise ValueError("a score is NaN: a reference value or a prediction is no number")
    weights = np.concatenate([np.full(len(each), 1 / len(each)) for each in groups])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) >= coverage * (len(groups) + 1) - 1e-9
    return float(values[order][np.argmax(reached)])
