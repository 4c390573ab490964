"""Tables of properties of molecules."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, number, source, table

SIZES = (1_000, 5_000, 20_000)
TARGETS = {"mu": "μ, D", "alpha": "α, bohr³", "gap": "gap, meV", "homo": "HOMO, meV", "U0": "U₀, meV"}


def qm9(result: Result) -> str:
    """Test errors by target and number of training molecules: ours, PaiNN's, and the fit to the composition."""
    figures = result["figures"]
    header = ["target", "composition"]
    header += [f"{who}, {size:,}" for size in SIZES for who in ("ours", "PaiNN")]
    rows = []
    for name, label in TARGETS.items():
        row = [label, number(figures.get(f"baseline_mae_{name}"))]
        for size in SIZES:
            row += [number(figures.get(f"{prefix}mae_{name}_{size}")) for prefix in ("", "painn_")]
        rows.append(row)
    return table(header, rows) + source(result)


BLOCKS: Blocks = {"qm9": ("qm9", qm9)}
