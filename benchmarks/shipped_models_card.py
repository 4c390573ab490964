"""The card of the potential ``organic-gfn2``, written from its figures."""

from __future__ import annotations

from collections.abc import Mapping

CARD = """\
# GFN2-xTB energies and forces of small organic molecules: H, C, N, O, F

    from lie_sim.calculators import LieTransformerCalculator
    atoms.calc = LieTransformerCalculator("organic-gfn2")

Energies (eV), forces (eV/Å), dipole moments (e Å) and charges (e) of neutral closed-shell molecules in the gas phase,
as GFN2-xTB gives them, with 90 % conformal intervals of the energy. A LieTransformer with moment attention,
{parameters:,} weights, cutoff {cutoff:g} Å; E(3) exact. A nucleus that comes nearer to another than any in the data is
repelled as a bare nucleus.

## Data

{molecules:,} molecules of QM9 (up to nine of C, N, O, F; of those up to six, all that are not held out), {frames:,}
frames: the B3LYP geometry, and displacements along the modes of a model Hessian as at 100 to 1200 K, of many also as at
10 to 300 K with soft modes taken softer; for those with up to five heavy atoms also Langevin dynamics at 300 to 700 K.
Likewise {g2} closed-shell molecules of ASE's g2 (CO2, N2O, CF4, …). Labels by GFN2-xTB (tblite 0.8, accuracy 0.1).
Split by molecule; frames with forces above 15 eV/Å are left out. The cold frames and those of g2 came in after
{early:.0f} % of the steps. In the last {late:.0f} % it saw a part of these, and {close:,} frames in which atoms
collide, with forces up to 100 eV/Å and a twentieth of the weight.

## Errors

On {tested:,} frames of 1,000 molecules that were in no part of the training:

| figure | value |
|---|---|
| energy of a molecule, mean absolute error | {organic_energy_mae_mev:.1f} meV |
| the same by atom | {organic_energy_atom_mae_mev:.2f} meV |
| force component, mean absolute error | {organic_force_mae:.1f} meV/Å |
| dipole component, mean absolute error | {dipole:.3f} e Å |
| charge of an atom, mean absolute error | {charges:.4f} e |
| energies within their 90 % interval | {coverage:.1f} % |
| half width of the interval, median | {interval_mev:.0f} meV |
| relaxed to 0.01 eV/Å, distance from GFN2-xTB's geometry: mean | {relax_rmsd:.3f} Å |
| relaxed to 0.01 eV/Å, distance from GFN2-xTB's geometry: median | {relax_rmsd_median:.3f} Å |
| relaxed to 0.001 eV/Å: mean and median | {relax_rmsd_tight:.3f} and {relax_rmsd_tight_median:.3f} Å |
| relaxed geometries within 0.05 Å | {within:.0f} % |
| harmonic wavenumbers, mean and median error | {wavenumber_mae_cm:.0f} and {wavenumber_median_cm:.0f} cm⁻¹ |
| ethanol, NVE, 0.5 fs, 50 ps, float32 | drift {nve_drift_mev_atom_ps:.4f} meV/atom/ps |
| fluctuation of the total energy, step halved | {nve_fluctuation_ratio:.2f} times smaller (4 is exact) |

## Limits

It is GFN2-xTB learned in {cpu_minutes:.0f} CPU minutes on one core: errors of GFN2-xTB against experiment come on top,
and a longer training would make it better. Not for ions, radicals, reactions, other elements, condensed phases or
interactions beyond {cutoff:g} Å; not for molecules much larger than those of QM9 without a check. Bonds and angles of a
relaxed molecule are those of GFN2-xTB, soft torsions are off by degrees, in some molecules by tens of degrees. Energies
are calibrated with 3,000 unseen molecules, forces with 150 of these. `energy_std` and `on_uncertain="warn"` tell of
structures unlike its data.

Made by `benchmarks/shipped_models.py` with lie_sim {version}.
"""


def card(facts: Mapping[str, float | int | str]) -> str:
    """The card with its figures."""
    shares = {
        "coverage": 100 * float(facts["coverage90"]),
        "dipole": float(facts["organic_dipole_mae"]),
        "charges": float(facts["organic_charges_mae"]),
        "within": 100 * float(facts["relax_share_within_0.05"]),
    }
    return CARD.format(**facts, **shares)
