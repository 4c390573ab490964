"""Write the measured figures into ``results.md``: ``python docs/tables.py``.

Each block between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is replaced by a table made from
``benchmarks/results/*.json``. A test compares the committed page with what this makes, so the page shows what
was measured and nothing else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from result_tables import (
    backbones,
    clusters,
    gaps,
    integrators,
    interruptions,
    learning,
    long_rollouts,
    low_rank,
    molecules,
    pooling,
    properties,
    shipped,
    time,
)
from result_tables.cells import Blocks

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)

BLOCKS: Blocks = (
    learning.BLOCKS
    | interruptions.BLOCKS
    | integrators.BLOCKS
    | long_rollouts.BLOCKS
    | molecules.BLOCKS
    | shipped.BLOCKS
    | properties.BLOCKS
    | pooling.BLOCKS
    | clusters.BLOCKS
    | low_rank.BLOCKS
    | backbones.BLOCKS
    | time.BLOCKS
    | gaps.BLOCKS
)
"""In the order of the page."""


def content(name: str, results: Path = RESULTS) -> str:
    """What belongs between the markers of a block."""
    stem, make = BLOCKS[name]
    path = results / f"{stem}.json"
    if not path.exists():
        return f"Not measured yet: `python benchmarks/{stem}.py`.\n"
    return make(json.loads(path.read_text(encoding="utf-8")))


def render(page: str, results: Path = RESULTS) -> str:
    """The page with every block rewritten."""
    return BLOCK.sub(lambda found: f"{found[1]}{content(found[2], results)}{found[3]}", page)


if __name__ == "__main__":
    path = DOCS / "results.md"
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
