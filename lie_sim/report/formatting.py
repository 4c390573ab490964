"""How the report writes numbers: four significant digits, powers of ten set as such."""

from __future__ import annotations

import math

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NOT_FINITE = "not finite"


def format_number(value: float, *, digits: int = 4) -> str:
    """A number as people write it.

    Example:
        >>> format_number(0.0000123456), format_number(12.5), format_number(float("nan"))
        ('1.235×10⁻⁵', '12.5', 'not finite')
    """
    if not math.isfinite(value):
        return NOT_FINITE
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def format_cell(cell: str | int | float | None) -> str:
    """A table cell: whole numbers with grouped digits, a dash where there is nothing.

    Example:
        >>> format_cell(137000), format_cell("ours"), format_cell(None)
        ('137\u202f000', 'ours', '–')
    """
    if cell is None:
        return "–"
    if isinstance(cell, str | bool):
        return str(cell)
    if isinstance(cell, int):
        return f"{cell:,}".replace(",", "\u202f")
    return format_number(float(cell))
