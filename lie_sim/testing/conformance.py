"""The contract of an ASE calculator as a test class: inherit, say how to make one, run pytest.

    class TestMine(CalculatorConformance):
        def make_calculator(self):
            return MyCalculator(...)

Numbers are held against tolerances for double precision; a calculator in single precision, or one that is exact only so
far, sets its own. What a calculator does not claim is switched off by name, so that the omission can be read.

Reference: Larsen et al., J. Phys.: Condens. Matter 29 (2017) 273002.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator

from lie_sim.testing import measures


class CalculatorConformance:
    """Everything a workflow of ASE relies on.

    Attributes:
        molecule: name of a molecule of ``ase.build.molecule`` that the calculator knows.
        other_molecule: another one.
        metal: an element with an fcc crystal that it knows; None if it knows none.
        unknown_element: symbol of an element that it must refuse; None if it knows all.
        cutoff: distance in Å at which interactions end; None if they do not.
        has_stress: whether it gives the stress.
        reflections: whether it must not tell left from right.
        force_step: Å, of the differences that forces are compared with; shorter for energies that bend more.
        force_tolerance: of the forces against differences, over the largest force.
        stress_tolerance: of the stress against differences, eV/Å³.
        symmetry_tolerance: of energies (eV per eV of their size) and forces (over the largest).
        extensive_tolerance: of energies that must add up, eV.
        continuity_tolerance: jump of the energy at the cutoff, eV.
    """

    molecule: str = "CH3CH2OH"
    other_molecule: str = "H2O"
    metal: str | None = "Al"
    unknown_element: str | None = "Xe"
    cutoff: float | None = None
    has_stress: bool = True
    reflections: bool = True
    force_step: float = 1e-4
    force_tolerance: float = 1e-7
    stress_tolerance: float = 1e-8
    symmetry_tolerance: float = 1e-13
    extensive_tolerance: float = 1e-12
    continuity_tolerance: float = 1e-10

    def make_calculator(self) -> Calculator:
        """A new calculator."""
        raise NotImplementedError(f"{type(self).__name__} must implement make_calculator")

    def shaken_molecule(self) -> Atoms:
        """Away from every symmetry."""
        atoms: Atoms = molecule(self.molecule, calculator=self.make_calculator())
        atoms.rattle(0.05, seed=1)
        return atoms

    def shaken_crystal(self) -> Atoms:
        """Triclinic, smaller than the cutoff, two or more atoms."""
        assert self.metal is not None
        atoms: Atoms = bulk(self.metal, cubic=True)
        shear = np.eye(3) + np.array([[0, 0.1, 0.02], [0, 0, 0.05], [0.03, 0, 0]])
        atoms.set_cell(np.asarray(atoms.cell) @ shear, scale_atoms=True)
        atoms.rattle(0.1, seed=1)
        atoms.calc = self.make_calculator()
        return atoms

    def _within(self, error: float, tolerance: float, what: str) -> None:
        assert error <= tolerance, f"{what}: error {error:.2e}, tolerance {tolerance:.2e}"

    def _energy_scale(self, atoms: Atoms) -> float:
        return max(1.0, abs(float(atoms.get_potential_energy())))

    def test_forces_are_the_slope_of_the_energy(self) -> None:
        """In a molecule, a crystal and a slab."""
        systems = [self.shaken_molecule()]
        if self.metal is not None:
            slab = fcc111(self.metal, (2, 2, 2), vacuum=6.0)
            slab.rattle(0.05, seed=2)
            slab.calc = self.make_calculator()
            systems += [self.shaken_crystal(), slab]
        for atoms in systems:
            error = measures.force_error(atoms, step=self.force_step)
            self._within(error, self.force_tolerance, f"forces of {atoms.symbols}")

    def test_stress_is_the_slope_of_the_energy(self) -> None:
        """In a triclinic crystal."""
        if self.has_stress and self.metal is not None:
            self._within(measures.stress_error(self.shaken_crystal()), self.stress_tolerance, "stress")

    def test_energy_and_forces_turn_with_the_system(self) -> None:
        """Rotations, and reflections unless the calculator tells left from right."""
        atoms = self.shaken_molecule()
        energy, forces = measures.orthogonal_error(atoms, reflections=self.reflections)
        self._within(energy / self._energy_scale(atoms), self.symmetry_tolerance, "energy turned")
        self._within(forces, self.symmetry_tolerance, "forces turned")

    def test_a_stretch_is_no_symmetry(self) -> None:
        """A calculator that is blind to geometry passes every test of symmetry."""
        energy, _ = measures.transformed_error(self.shaken_molecule(), np.diag([1.0, 1.0, 1.1]))
        assert energy > 1e-6, f"the energy changed by {energy:.1e} only"

    def test_energy_does_not_depend_on_place_or_order(self) -> None:
        """Translations by 1000 Å, and another order of the atoms."""
        atoms = self.shaken_molecule()
        scale = self._energy_scale(atoms)
        far = 1000 * np.finfo(float).eps * np.abs(atoms.get_forces()).sum()  # what the positions lose there
        self._within(
            measures.translation_error(atoms), self.symmetry_tolerance * scale + float(far), "energy moved"
        )
        energy, forces = measures.permutation_error(atoms)
        self._within(energy / scale, self.symmetry_tolerance, "energy in another order")
        self._within(forces, self.symmetry_tolerance, "forces in another order")

    def test_energies_of_distant_systems_add_up(self) -> None:
        """50 Å apart."""
        atoms = self.shaken_molecule()
        error = measures.size_consistency_error(atoms, molecule(self.other_molecule))
        self._within(error, self.extensive_tolerance * self._energy_scale(atoms), "size consistency")

    def test_a_supercell_is_so_many_cells_and_wrapping_changes_nothing(self) -> None:
        """Cells smaller than the cutoff; atoms displaced by lattice vectors."""
        if self.metal is None:
            return
        atoms = self.shaken_crystal()
        tolerance = self.extensive_tolerance * self._energy_scale(atoms)
        self._within(measures.supercell_error(atoms), tolerance, "supercell")
        energy, forces = measures.unwrapped_error(atoms)
        self._within(energy, tolerance, "energy unwrapped")
        self._within(forces, 10 * self.extensive_tolerance, "forces unwrapped")

    def test_energy_is_continuous_where_a_neighbour_leaves(self) -> None:
        """At the cutoff, if there is one."""
        if self.cutoff is None:
            return
        atoms = self.shaken_molecule()
        error = measures.continuity_error(atoms, atom=len(atoms) - 1, cutoff=self.cutoff)
        self._within(error, self.continuity_tolerance, "jump at the cutoff")

    def test_a_lone_atom_has_an_energy_and_no_force(self) -> None:
        """An isolated atom is no error."""
        atoms = Atoms(molecule(self.molecule).symbols[:1], calculator=self.make_calculator())
        assert np.isfinite(atoms.get_potential_energy())
        assert np.abs(atoms.get_forces()).max() == 0

    def test_forces_then_energy_is_one_calculation(self) -> None:
        """And the free energy, which optimisers ask for, is there."""
        atoms, calls = self.shaken_molecule(), 0
        inner = atoms.calc.calculate

        def counted(*arguments: Any, **keywords: Any) -> None:
            nonlocal calls
            calls += 1
            inner(*arguments, **keywords)

        atoms.calc.calculate = counted
        atoms.get_forces()
        energy = atoms.get_potential_energy()
        assert atoms.get_potential_energy(force_consistent=True) == energy
        assert calls == 1, f"{calls} calculations for forces and energy of one geometry"
        atoms.positions[0] += 0.01
        atoms.get_forces()
        assert calls == 2

    def test_results_belong_to_whoever_asked(self) -> None:
        """Changing an array that was returned does not change the next answer."""
        atoms = self.shaken_molecule()
        forces = atoms.get_forces()
        before = forces.copy()
        forces += 1
        assert (atoms.get_forces() == before).all()

    def test_copies_compute_the_same(self) -> None:
        """By ``copy.deepcopy`` and by pickle, which parallel programs need."""
        atoms = self.shaken_molecule()
        energy = atoms.get_potential_energy()
        for other in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
            again = atoms.copy()
            again.calc = other
            assert again.get_potential_energy() == energy

    def test_it_says_what_it_is(self) -> None:
        """``todict`` goes into trajectories and databases."""
        assert self.make_calculator().todict(), "todict() is empty: results could not be traced to a model"

    def test_what_is_impossible_is_refused(self) -> None:
        """An unknown element, a position that is not finite, two atoms at one place: an error, not a number."""
        bad = [Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), Atoms("H2", [[0, 0, 0], [0, 0, 0]])]
        if self.unknown_element is not None:
            bad.append(Atoms(self.unknown_element))
        for atoms in bad:
            atoms.calc = self.make_calculator()
            try:
                energy = atoms.get_potential_energy()
            except Exception:
                continue
            raise AssertionError(f"{atoms} with positions {atoms.positions.tolist()} got the energy {energy}")
