"""Ethanol along molecular dynamics with B3LYP/def2-SVP energies and forces: how ``data/ethanol_b3lyp.extxyz`` is made.

Geometries are frames of a Langevin run at 500 K on the GFN2-xTB surface (steps of 0.5 fs, every 40th kept after 1 ps),
so that they are thermal; labels come from density functional theory with density fitting, converged to 1e-10 hartree.
About 4 CPU seconds a frame. Geometries depend on the seed alone: an interrupted run goes on where it stopped, and a
larger ``--frames`` makes a file longer.

    pip install "lie_sim[label]" pyscf==2.14.0
    python benchmarks/ethanol_b3lyp.py [--frames 1000] [--output data/ethanol_b3lyp.extxyz]

Units: eV, eV/Å, e·Å, e. Keys: REF_energy, REF_dipole in info; REF_forces, REF_charges (Mulliken) in arrays.
References: Stephens, Devlin, Chabalowski, Frisch, J. Phys. Chem. 98 (1994) 11623 (B3LYP); Weigend, Ahlrichs, Phys.
Chem. Chem. Phys. 7 (2005) 3297 (def2-SVP); Sun et al., J. Chem. Phys. 153 (2020) 024109 (PySCF).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from tqdm import tqdm

from lie_sim.data.reference_calculators import reference_calculator

TEMPERATURE, STEP, STRIDE, EQUILIBRATION, SEED = 500, 0.5, 40, 2000, 0
FUNCTIONAL, BASIS, TOLERANCE = "b3lyp", "def2-svp", 1e-10
SAME_GEOMETRY = 1e-5
"""Å; round-off of another machine in the first frame. Later ones part, as trajectories do, and are as good."""
OUTPUT = Path(__file__).parents[1] / "data" / "ethanol_b3lyp.extxyz"


def geometries() -> Iterator[Atoms]:
    """Frames of the Langevin run, without end."""
    atoms, random = molecule("CH3CH2OH"), np.random.default_rng(SEED)
    atoms.calc = reference_calculator("gfn2")
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    thermalize_momenta(atoms, temperature_K=TEMPERATURE, rng=random)
    dynamics = Langevin(
        atoms, STEP * units.fs, temperature_K=TEMPERATURE, friction=0.01 / units.fs, rng=random, fixcm=False
    )
    dynamics.run(EQUILIBRATION)
    while True:
        dynamics.run(STRIDE)
        yield Atoms(atoms.numbers, atoms.positions.round(8))


def labelled(atoms: Atoms) -> Atoms:
    """The frame with its reference values."""
    from pyscf import dft, gto

    places = list(zip(atoms.numbers.tolist(), atoms.positions, strict=True))
    system = gto.M(atom=places, basis=BASIS, verbose=0)
    field = dft.RKS(system, xc=FUNCTIONAL).density_fit()
    field.conv_tol = TOLERANCE
    energy = field.kernel()
    if not field.converged:
        raise RuntimeError("the self-consistent field did not converge")
    gradient = field.nuc_grad_method().kernel()
    _, charges = field.mulliken_pop(verbose=0)
    atoms.info["REF_energy"] = float(energy * units.Hartree)
    atoms.info["REF_dipole"] = field.dip_moment(verbose=0) * units.Debye
    atoms.arrays["REF_forces"] = -gradient * units.Hartree / units.Bohr
    atoms.arrays["REF_charges"] = np.asarray(charges)
    return atoms


def append(path: Path, atoms: Atoms) -> None:
    """One frame, in one write."""
    text = io.StringIO()
    write(text, [atoms], format="extxyz")
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    done: list[Atoms] = read(options.output, index=":") if options.output.exists() else []
    frames = zip(range(options.frames), geometries(), strict=False)
    for number, atoms in tqdm(frames, total=options.frames):
        if number == 0 and done and np.abs(done[0].positions - atoms.positions).max() > SAME_GEOMETRY:
            raise SystemExit(f"{options.output} holds another run: name another file")
        if number >= len(done):
            append(options.output, labelled(atoms))


if __name__ == "__main__":
    main()
