"""Keep freed memory for the next evaluation instead of giving it back to the operating system.

The C library of Linux (glibc) returns every block above 32 MiB at once, and the end of its heap above 64 MiB. The next
tensor of that size then costs a page fault for each 4 KiB, which takes as long as the arithmetic on it. Evaluations of
thousands of atoms make hundreds of such tensors, all of the same sizes: with the memory kept they are twice as fast.

Reference: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import os
import sys

SWITCH = "LIE_SIM_KEEP_MEMORY"
"""Environment variable that switches this off where it is 0."""
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """From now on freed memory of this process is reused, and given back when the process ends.

    The process then holds what its largest evaluation took, a third more at most, by fragments. It is called where a
    :class:`~lie_sim.calculators.LieTransformerCalculator` for the CPU is made, and by the commands of ``lie-sim``.

    Returns:
        Whether it is so: not with another C library than glibc, nor with ``LIE_SIM_KEEP_MEMORY=0``.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if os.environ.get(SWITCH) == "0" or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
