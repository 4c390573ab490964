"""One physics: the same potential moved by ASE, by our integrators through ASE, and by them directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.io import Trajectory
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from lie_sim import Hamiltonian
from lie_sim.calculators import IntegratorMD, LieTransformerCalculator, structures
from lie_sim.integrators import integrate

ROUND_OFF = 1e-10  # Å after 200 steps; measured: 3e-14
STEP = 0.5 * units.fs


def water(calculator) -> Atoms:
    atoms = molecule("H2O", calculator=calculator)
    thermalize_momenta(atoms, temperature_K=300, rng=np.random.default_rng(0))
    return atoms


def test_ase_our_md_class_and_our_integrator_follow_the_same_trajectory(potential) -> None:
    calculator = LieTransformerCalculator(potential)
    by_ase, by_us, start = water(calculator), water(calculator), water(calculator)
    VelocityVerlet(by_ase, STEP).run(200)
    IntegratorMD(by_us, STEP, method="velocity_verlet").run(200)
    system = structures([start], potential, dtype=torch.float64)
    hamiltonian = Hamiltonian(potential).bind(system.particles)
    p = torch.from_numpy(start.get_momenta())[None]
    with torch.no_grad():
        q, p = integrate(hamiltonian, system.q, p, step_size=STEP, num_steps=200, save_every=200)
    assert np.abs(by_ase.positions - start.positions).max() > 0.1, "nothing moved"
    for positions, momenta in ((by_us.positions, by_us.get_momenta()), (q[0, -1].numpy(), p[0, -1].numpy())):
        assert np.abs(positions - by_ase.positions).max() < ROUND_OFF
        assert np.abs(momenta - by_ase.get_momenta()).max() < ROUND_OFF


def test_a_higher_order_conserves_the_energy_better_at_equal_cost() -> None:
    drift = {}
    for method, step in (("leapfrog", 1.0), ("pefrl", 4.0)):
        atoms = water(EMT())
        energies = []
        dynamics = IntegratorMD(atoms, step * 0.25 * units.fs, method=method)
        dynamics.attach(lambda a=atoms, e=energies: e.append(a.get_total_energy()))
        dynamics.run(int(400 / step))
        drift[method] = np.ptp(energies)
    assert drift["pefrl"] < drift["leapfrog"] / 5, drift


def test_one_force_a_step_of_leapfrog(calculator) -> None:
    atoms = water(calculator)
    IntegratorMD(atoms, STEP).run(20)
    assert calculator.evaluations == 21


def test_thermostat_reaches_its_temperature_and_the_seed_decides_the_path() -> None:
    def run(seed: int, steps: int = 50) -> tuple[np.ndarray, float]:
        atoms, temperatures = water(EMT()), []
        options = {"temperature": 600 * units.kB, "friction": 0.05 / units.fs, "seed": seed}
        dynamics = IntegratorMD(atoms, STEP, method="langevin_middle", options=options)
        dynamics.attach(lambda: temperatures.append(atoms.get_temperature()))
        dynamics.run(steps)
        return atoms.positions, float(np.mean(temperatures[steps // 4 :]))

    first, again, other = run(1), run(1), run(2)
    assert (first[0] == again[0]).all()
    assert np.abs(first[0] - other[0]).max() > 1e-3
    mean = run(3, steps=2000)[1]
    assert 400 < mean < 800, (
        mean
    )  # 9 degrees of freedom, about 40 independent samples: ± 8 %; measured: 529 K


def test_fixed_atoms_stay_and_others_move() -> None:
    atoms = water(EMT())
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_momenta(atoms.get_momenta())
    before = atoms.positions.copy()
    IntegratorMD(atoms, STEP, method="pefrl").run(30)
    assert (atoms.positions[0] == before[0]).all()
    assert np.abs(atoms.positions[1:] - before[1:]).min() > 1e-4


def test_momenta_changed_between_steps_are_taken_over() -> None:
    moved, plain = water(EMT()), water(EMT())
    dynamics = IntegratorMD(moved, STEP)
    dynamics.run(5)
    moved.set_positions(plain.positions)
    moved.set_momenta(plain.get_momenta())
    dynamics.run(5)
    IntegratorMD(plain, STEP).run(5)
    assert np.abs(moved.positions - plain.positions).max() < ROUND_OFF


def test_trajectory_file_says_what_made_it(tmp_path, calculator) -> None:
    atoms = water(calculator)
    IntegratorMD(atoms, STEP, method="pefrl", trajectory=str(tmp_path / "run.traj")).run(3)
    with Trajectory(tmp_path / "run.traj") as trajectory:
        assert len(trajectory) == 4
        assert trajectory.description["method"] == "pefrl"
        assert trajectory[-1].get_potential_energy() == atoms.get_potential_energy()


def test_what_cannot_be_moved_is_refused() -> None:
    atoms = water(EMT())
    atoms.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="constraints FixBondLengths are not known"):
        IntegratorMD(atoms, STEP)
    with pytest.raises(ValueError, match="unknown method 'frog'"):
        IntegratorMD(water(EMT()), STEP, method="frog")
    with pytest.raises(TypeError):
        IntegratorMD(water(EMT()), STEP, method="rattle")
    massless = water(EMT())
    massless.set_masses([16, 0, 1])
    with pytest.raises(ValueError, match="positive mass"):
        IntegratorMD(massless, STEP)
