"""Our integrators as an ASE ``MolecularDynamics``: order, thermostat and noise by the name of a method.

    dq/dt = p/m,      dp/dt = F(q) from any ASE calculator

Time is ASE's, √(u/eV) Å: ``5 * ase.units.fs`` and the like. Fixed atoms stay where they are; other constraints
belong to the methods of ASE or to RATTLE.

Shape letters: N atoms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from ase.md.md import MolecularDynamics
from torch import Tensor

from lie_sim.integrators import get_method
from lie_sim.integrators.method import Memory, Method


class AtomsDynamics:
    """Atoms and their calculator as the system that an integrator moves; shapes (1, N, 3), float64.

    Args:
        atoms: with a calculator; their positions follow.

    Attributes:
        masses: in u, shape (1, N); infinite for fixed atoms.

    Raises:
        ValueError: there is a constraint other than ``FixAtoms``, or an atom without mass.
    """

    def __init__(self, atoms: Atoms) -> None:
        others = [type(each).__name__ for each in atoms.constraints if not isinstance(each, FixAtoms)]
        if others:
            raise ValueError(
                f"the constraints {', '.join(others)} are not known here: use a dynamics of ASE, or RATTLE for bonds"
            )
        masses = atoms.get_masses()
        if not (masses > 0).all():
            raise ValueError(f"every atom needs a positive mass, got {masses.tolist()}")
        self.atoms = atoms
        self.masses = torch.from_numpy(masses)[None].clone()
        for each in atoms.constraints:
            self.masses[0, each.get_indices()] = torch.inf

    def force(self, q: Tensor) -> Tensor:
        """In eV/Å; 0 on fixed atoms."""
        if not np.array_equal(self.atoms.positions, q[0].numpy()):
            self.atoms.set_positions(q[0].numpy(), apply_constraint=False)
        return torch.from_numpy(self.atoms.get_forces(md=True))[None]

    def velocity(self, p: Tensor) -> Tensor:
        """p/m in Å per unit of time."""
        return p / self.masses[..., None]


class IntegratorMD(MolecularDynamics):
    """Molecular dynamics by any method of :mod:`lie_sim.integrators` that needs forces only.

    Args:
        atoms: with a calculator, any of ASE's.
        timestep: in ASE's unit of time.
        method: a name, such as ``"leapfrog"``, ``"pefrl"`` or ``"blanes_moan4"`` for constant energy,
            ``"langevin_middle"``, ``"baoab"``, ``"nose_hoover_chain"`` or ``"csvr"`` at constant temperature.
        options: of the method; temperatures are energies here, such as ``{"temperature": 300 * ase.units.kB,
            "friction": 0.01 / ase.units.fs, "seed": 1}``.
        keywords: ``trajectory``, ``logfile``, ``loginterval`` and the others of ASE's class.

    Raises:
        TypeError: the method needs more than forces and masses.
        ValueError: a constraint is not known here.

    Example:
        >>> from ase.build import molecule
        >>> from ase.calculators.emt import EMT
        >>> from ase.units import fs
        >>> water = molecule("H2O", calculator=EMT())
        >>> dynamics = IntegratorMD(water, 0.5 * fs, method="pefrl")
        >>> dynamics.run(10), round(dynamics.get_time() / fs, 6)
        (True, 5.0)
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        *,
        method: str | Method = "leapfrog",
        options: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(atoms, timestep, **keywords)
        self.method = get_method(method, **(options or {}))
        self._system = AtomsDynamics(atoms)
        self._dynamics = self.method.dynamics(self._system)
        self._memory: Memory | None = None
        self._left: tuple[np.ndarray, np.ndarray] | None = None

    def todict(self) -> dict[str, Any]:
        """What identifies the run, for the metadata of trajectories."""
        described: dict[str, Any] = super().todict()
        return described | {"method": self.method.name}

    def step(self) -> None:
        """One step; what was changed on the atoms in between is taken over."""
        q, p = self.atoms.get_positions(), self.atoms.get_momenta()
        if self._left is not None and not all(
            np.array_equal(mine, theirs) for mine, theirs in zip(self._left, (q, p), strict=True)
        ):
            self._memory = {k: v for k, v in (self._memory or {}).items() if k != "force"}
        with torch.no_grad():
            end = self.method.advance(
                self._dynamics,
                torch.from_numpy(q)[None],
                torch.from_numpy(p)[None],
                step_size=float(self.dt),
                num_steps=1,
                memory=self._memory,
            )
        self._memory = end[2]
        self.atoms.set_positions(end[0][0].numpy(), apply_constraint=False)
        self.atoms.set_momenta(end[1][0].numpy(), apply_constraint=False)
        self._left = (self.atoms.get_positions(), self.atoms.get_momenta())
