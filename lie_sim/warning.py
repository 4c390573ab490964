"""Warnings that point at the line of the user, not at one of ours or of ASE, which called us."""

from __future__ import annotations

import sys
import warnings

INSIDE = ("lie_sim", "ase", "torch", "jaxtyping", "beartype")
"""Packages whose lines say nothing to the one who is warned."""


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn of something at the nearest line that called this package, directly or through ASE or PyTorch.

    Python shows a text once for each such line.

    Example:
        >>> with warnings.catch_warnings(record=True) as found:
        ...     warnings.simplefilter("always")
        ...     warn("a doubtful structure")
        >>> str(found[0].message)
        'a doubtful structure'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
