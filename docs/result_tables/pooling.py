"""Tables of pooling: classes of graphs, and readouts of the gap."""

from __future__ import annotations

from result_tables.cells import NONE, Blocks, Result, number, source, table

SETS = {"NCI1": 50.0, "PROTEINS": 59.6, "MUTAG": 66.5}
"""Share of the largest class, in percent."""
PAPER = {
    "NCI1-global": 74.06,
    "NCI1-hierarchical": 67.45,
    "PROTEINS-global": 70.04,
    "PROTEINS-hierarchical": 71.86,
}
POOLS = {"sag": "SAGPool", "random": "random nodes", "mean": "all nodes"}
READOUTS = {
    "attention": "attention of four heads (default)",
    "sum": "sum",
    "mean": "mean",
    "sag": "SAGPool, hard",
    "soft_sag": "SAGPool, soft",
}


def sag_pooling(result: Result) -> str:
    """Accuracy of each set and architecture by pooling, with the number of runs."""
    groups = result["details"]["groups"]
    rows = []
    for name, majority in SETS.items():
        for architecture in ("global", "hierarchical"):
            found = [groups.get(f"{name}-{architecture}-{pool}") for pool in POOLS]
            cells = [_accuracy(group) for group in found]
            paper = PAPER.get(f"{name}-{architecture}")
            rows.append([name, architecture, *cells, f"{paper:.1f}" if paper else NONE, f"{majority:.1f}"])
    header = ["set", "architecture", *POOLS.values(), "SAGPool of the paper", "largest class"]
    return table(header, rows) + source(result)


def _accuracy(group: dict[str, float] | None) -> str:
    if group is None:
        return NONE
    return f"{group['accuracy']:.1f} ± {group['std_of_folds']:.1f} ({group['runs']})"


def qm9_readouts(result: Result) -> str:
    """Error of the gap by readout."""
    figures = result["figures"]
    rows = [
        [label, number(figures.get(f"mae_gap_{name}")), _steps(result["details"].get(name))]
        for name, label in READOUTS.items()
    ]
    return table(["readout", "error of the gap, meV", "steps"], rows) + source(result)


def _steps(run: dict[str, int] | None) -> str:
    return NONE if run is None else f"{run['steps']:,}"


BLOCKS: Blocks = {
    "sag_pooling": ("sag_pooling", sag_pooling),
    "qm9_readouts": ("qm9_readouts", qm9_readouts),
}
