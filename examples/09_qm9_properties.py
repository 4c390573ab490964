"""Properties of molecules without a calculation: dipole, polarizability, frontier orbitals, heat capacity.

The model ``qm9-properties`` comes with lie_sim. It tells what B3LYP/6-31G(2df,p) would, to the errors of its card
(``lie-sim info qm9-properties``), for molecules like those of QM9. Vectors and tensors turn with the molecule.
"""

from __future__ import annotations

import numpy as np
from ase import units
from ase.build import molecule

from lie_sim.calculators import LieTransformerCalculator

NAMES = ("CH3OH", "CH3CN", "H2CO", "C6H6", "CH3CONH2", "C4H4O")


def main() -> None:
    calculator = LieTransformerCalculator("qm9-properties", dtype="float64")
    systems = [molecule(name) for name in NAMES]
    print(
        f"{'':10s} {'dipole, D':>10s} {'alpha, bohr³':>13s} {'HOMO, eV':>9s} {'LUMO, eV':>9s} {'Cv, cal/mol/K':>14s}"
    )
    for atoms, found in zip(systems, calculator.predict_many(systems), strict=True):
        dipole = np.linalg.norm(found["dipole"]) / units.Debye
        alpha = np.trace(found["polarizability"]) / 3 / units.Bohr**3
        print(
            f"{atoms.get_chemical_formula():10s} {dipole:10.2f} {alpha:13.1f} {found['homo']:9.2f} "
            f"{found['lumo']:9.2f} {found['Cv']:14.2f}"
        )

    formaldehyde = molecule("H2CO")
    straight = calculator.evaluate(formaldehyde)["dipole"]
    formaldehyde.rotate(90, "x")
    turned = calculator.evaluate(formaldehyde)["dipole"]
    expected = np.array([straight[0], -straight[2], straight[1]])
    print(f"\na turned molecule has the turned dipole, to {np.abs(turned - expected).max():.0e} e Å")


if __name__ == "__main__":
    main()
