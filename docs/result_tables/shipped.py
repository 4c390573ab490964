"""The potential that ships with the package, on molecules that it never saw."""

from __future__ import annotations

from result_tables.cells import Blocks, Result, source, table


def shipped_models(result: Result) -> str:
    """Figures of organic-gfn2 and the goal of each."""
    found = result["figures"]
    heads = {"dipole": ("dipole component, e Å", ".3f"), "charges": ("charge of an atom, e", ".4f")}
    told = [
        [label, f"{found[f'organic_{name}_mae']:{digits}}", ""]
        for name, (label, digits) in heads.items()
        if f"organic_{name}_mae" in found
    ]
    errors = [
        f"{found[f'wavenumber_{each}_cm']:.0f}"
        for each in ("mae", "median")
        if f"wavenumber_{each}_cm" in found
    ]
    vibrations = (
        [["wavenumbers of 20 molecules, mean and median error, cm⁻¹", ", ".join(errors), ""]]
        if errors
        else []
    )
    tight = ("relax_rmsd_tight", "relax_rmsd_tight_median")
    further = (
        [
            [
                "both relaxed further, to 0.001 eV/Å, mean, median",
                ", ".join(f"{found[x]:.3f}" for x in tight),
                "",
            ]
        ]
        if tight[0] in found
        else []
    )
    rows = [
        ["energy error (mean, absolute), meV a molecule", f"{found['organic_energy_mae_mev']:.1f}", "≤ 43"],
        ["force error (mean, absolute), meV/Å", f"{found['organic_force_mae']:.1f}", "≤ 60"],
        *told,
        ["energies within their 90 % interval", f"{100 * found['coverage90']:.1f} %", "87 to 93 %"],
        ["half width of that interval (median), meV", f"{found['interval_mev']:.0f}", ""],
        ["relaxed geometry, distance from GFN2-xTB's (mean), Å", f"{found['relax_rmsd']:.3f}", "≤ 0.05"],
        ["the same, median, Å", f"{found['relax_rmsd_median']:.3f}", ""],
        *further,
        *vibrations,
        ["energy drift of ethanol, meV/atom/ps", f"{found['nve_drift_mev_atom_ps']:.4f}", "≤ 0.1"],
        ["fluctuation at 0.5 fs over that at 0.25 fs", f"{found['nve_fluctuation_ratio']:.2f}", "4"],
    ]
    return table(["organic-gfn2", "measured", "goal"], rows) + source(result)


BLOCKS: Blocks = {"shipped_models": ("shipped_models", shipped_models)}
