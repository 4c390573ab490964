"""Tables of properties of molecules."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, number, source, table

SIZES = (1_000, 5_000, 20_000)
TARGETS = {"mu": "μ, D", "alpha": "α, bohr³", "gap": "gap, meV", "homo": "HOMO, meV", "U0": "U₀, meV"}

LABELS = TARGETS | {
    "lumo": "LUMO, meV",
    "r2": "⟨R²⟩, bohr²",
    "zpve": "zero-point energy, meV",
    "U": "U, meV",
    "H": "H, meV",
    "G": "G, meV",
    "Cv": "Cv, cal/(mol K)",
    "charges": "charges, e",
    "principal": "eigenvalues of the polarizability, bohr³",
}


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


def shipped_properties(result: Result) -> str:
    """Test errors of the model that ships, beside the fit to the composition."""
    figures = result["figures"]
    names = [name.removeprefix("mae_") for name in figures if name.startswith("mae_")]
    rows = [
        [LABELS[name], number(figures[f"mae_{name}"]), number(figures[f"baseline_mae_{name}"])]
        for name in names
    ]
    return table(["target", "qm9-properties", "composition"], rows) + source(result)


BLOCKS: Blocks = {"qm9": ("qm9", qm9), "shipped_properties": ("shipped_properties", shipped_properties)}
