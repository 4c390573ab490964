"""What every table is made of: rounded numbers, rows, and where the numbers come from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

NONE = "–"

Result = dict[str, Any]
Blocks = dict[str, tuple[str, Callable[[Result], str]]]
"""Name of a block to the result file that it shows and the function that does it."""


def number(value: float | None) -> str:
    """Two significant digits, as 1.2e-07 is written by hand; a dash for what was not measured."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "not reached"
    if value == 0 or 0.01 <= abs(value) < 100:
        return f"{float(f'{value:.2g}'):g}"  # twice, for 99.6 is 100
    if 100 <= abs(value) < 1e6:
        return f"{round(value, 1 - math.floor(math.log10(abs(value)))):,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(value: float | None) -> str:
    """A share, to a tenth of a percent."""
    return NONE if value is None else f"{100 * value:.1f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def source(result: Result) -> str:
    """Where the numbers come from."""
    command = re.sub(r"(?<=\s)/\S+", "PATH", result["command"])
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    threads = f"{result['threads']} thread{'s' if result['threads'] != 1 else ''}"
    return f"\n`{command}`, {result['date']}; {result['machine']}, {threads}; {versions}.\n"


def listed(labels: dict[str, str], *, share: tuple[str, ...] = ()) -> Callable[[Result], str]:
    """A table of single figures: label and value."""

    def block(result: Result) -> str:
        figures = result["figures"]
        rows = [
            [label, (percent if key in share else number)(figures[key])]
            for key, label in labels.items()
            if key in figures
        ]
        return table(["quantity", "value"], rows) + source(result)

    return block
