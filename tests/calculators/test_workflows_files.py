"""Files, combinations of calculators, threads and sockets: whatever carries results from one place to another."""

from __future__ import annotations

import copy
import socket
import threading
import uuid

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import MixedCalculator, SumCalculator
from ase.calculators.socketio import SocketClient, SocketIOCalculator
from ase.io import Trajectory
from ase.optimize import BFGS

from lie_sim.calculators import LieTransformerCalculator
from lie_sim.models import heads

SAME = 1e-12
PRINTED = 1e-7  # eV/Å, of the eight decimals of extended XYZ


@pytest.fixture
def told(random_potential) -> Atoms:
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    atoms.info["charge"] = 1
    potential = random_potential(inputs=("charge",), heads=heads("charges", "dipole", gap="intensive"))
    atoms.calc = LieTransformerCalculator(potential)
    atoms.get_forces()
    return atoms


def same_results(found: Atoms, atoms: Atoms, tolerance: float) -> None:
    assert found.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=tolerance)
    assert np.abs(found.get_forces() - atoms.get_forces()).max() < tolerance
    assert np.abs(found.get_dipole_moment() - atoms.get_dipole_moment()).max() < tolerance
    assert np.abs(found.get_charges() - atoms.get_charges()).max() < tolerance
    assert found.info["charge"] == 1


@pytest.mark.parametrize("suffix", ["traj", "extxyz", "json"])
def test_results_survive_a_file(suffix: str, told, tmp_path) -> None:
    path = tmp_path / f"one.{suffix}"
    ase.io.write(path, told)
    if suffix == "json":  # keeps no info
        found = ase.io.read(path)
        found.info["charge"] = 1
    else:
        found = ase.io.read(path)
    same_results(found, told, PRINTED if suffix == "extxyz" else SAME)


def test_results_survive_a_database_that_says_which_model_made_them(told, tmp_path) -> None:
    with ase.db.connect(tmp_path / "some.db") as database:
        database.write(told, data={"gap": told.calc.results["gap"]})
        row = database.get(1)
    found = row.toatoms()
    found.info["charge"] = 1
    same_results(found, told, SAME)
    assert row.calculator == "lie_sim"
    assert row.calculator_parameters == told.calc.todict()
    assert row.data["gap"] == told.calc.results["gap"]


def test_a_trajectory_of_a_relaxation_is_read_back(told, tmp_path) -> None:
    BFGS(told, trajectory=str(tmp_path / "run.traj"), logfile=None).run(fmax=0.05, steps=5)
    with Trajectory(tmp_path / "run.traj") as frames:
        same_results(frames[-1], told, SAME)
        assert frames[0].calc.parameters["model"] == told.calc.todict()["model"]


def test_sums_and_mixtures_of_calculators(calculator) -> None:
    atoms = molecule("CH3OH")
    ours, theirs = calculator.evaluate(atoms), LennardJones(sigma=2.0, rc=6.0)
    atoms.calc = theirs
    other = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    atoms.calc = SumCalculator([calculator, theirs])
    assert atoms.get_potential_energy() == pytest.approx(ours["energy"] + other["energy"], abs=SAME)
    assert np.abs(atoms.get_forces() - ours["forces"] - other["forces"]).max() < SAME
    atoms.calc = MixedCalculator(calculator, theirs, weight1=0.25, weight2=0.75)
    assert np.abs(atoms.get_forces() - 0.25 * ours["forces"] - 0.75 * other["forces"]).max() < SAME


def test_threads_with_copies_of_their_own_get_the_same(calculator) -> None:
    systems = [bulk("Al", cubic=True) * (2, 1, 1), molecule("C6H6")]
    for atoms in systems:
        atoms.rattle(0.1, seed=1)
    alone = [calculator.evaluate(atoms) for atoms in systems]
    found: dict[int, list] = {0: [], 1: []}

    def work(place: int) -> None:
        own = copy.deepcopy(calculator)
        for _ in range(10):
            found[place].append(own.evaluate(systems[place]))

    threads = [threading.Thread(target=work, args=(place,)) for place in found]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for place, exact in enumerate(alone):
        assert len(found[place]) == 10
        assert all((each["forces"] == exact["forces"]).all() for each in found[place])


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
def test_an_ipi_client_on_a_socket_of_this_machine(calculator) -> None:
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    name = f"lie_sim_{uuid.uuid4().hex[:8]}"
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            client_atoms = atoms.copy()
            client_atoms.calc = copy.deepcopy(calculator)
            SocketClient(unixsocket=name).run(client_atoms, use_stress=True)
        except BaseException as error:
            failed.append(error)

    with SocketIOCalculator(unixsocket=name, timeout=60) as server:
        client = threading.Thread(target=serve, daemon=True)
        client.start()
        atoms.calc = server
        forces, stress = atoms.get_forces(), atoms.get_stress()
        atoms.positions[0] += 0.05
        moved = atoms.get_potential_energy()
    client.join(timeout=60)
    assert not failed
    again = atoms.copy()
    assert moved == pytest.approx(calculator.evaluate(again, ["energy"])["energy"], abs=1e-9)
    again.positions[0] -= 0.05
    exact = calculator.evaluate(again, ["forces", "stress"])
    assert np.abs(forces - exact["forces"]).max() < 1e-9  # atomic units on the way
    assert np.abs(stress - exact["stress"]).max() < 1e-9
