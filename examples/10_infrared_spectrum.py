"""Infrared spectra of molecules by the model that comes with lie_sim: relax, Hessian, change of the dipole.

``organic-gfn2`` tells what GFN2-xTB would, to the errors of its card (``lie-sim info organic-gfn2``). Second
derivatives of the energy and first ones of the dipole are exact derivatives of the network: nothing is displaced.
"""

from __future__ import annotations

import numpy as np
from ase.build import molecule
from ase.optimize import BFGS

from lie_sim.calculators import LieTransformerCalculator, infrared_intensities, vibrations

NAMES = ("CH3COCH3", "CH3OH", "HCOOH")
WIDTH, RIGID = 46, 6
"""Characters of the highest bar, and motions of a molecule as a whole."""


def spectrum(name: str, calculator: LieTransformerCalculator) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers in cm⁻¹, imaginary ones negative, and intensities in (D/Å)²/u."""
    atoms = molecule(name, calculator=calculator)
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=500)
    found = vibrations(calculator, atoms)
    frequencies = found.get_frequencies()
    return frequencies.real - frequencies.imag, infrared_intensities(calculator, found)


def main() -> None:
    calculator = LieTransformerCalculator("organic-gfn2", dtype="float64")
    for name in NAMES:
        wavenumbers, intensities = spectrum(name, calculator)
        rigid = np.argsort(np.abs(wavenumbers))[:RIGID]
        print(f"{name}: motions as a whole are below {np.abs(wavenumbers[rigid]).max():.2f} cm⁻¹; bands:")
        for mode in np.delete(np.arange(len(wavenumbers)), rigid):
            bar = "█" * round(WIDTH * intensities[mode] / intensities.max())
            print(f"  {wavenumbers[mode]:7.0f} cm⁻¹  {intensities[mode]:6.2f} (D/Å)²/u  {bar}")
        print(f"{name}: the strongest band is at {wavenumbers[intensities.argmax()]:.0f} cm⁻¹\n")


if __name__ == "__main__":
    main()
