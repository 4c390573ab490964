"""The contract of ASE's calculators: numbers against finite differences, the cache, options, and what is refused."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import InputError, PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from lie_sim import Hamiltonian, LieTransformer, save_model
from lie_sim.calculators import LieTransformerCalculator
from lie_sim.errors import CheckpointError

FORCE_ERROR = 1e-7  # relative to the largest force, central differences of 2e-5 Å; measured: up to 5e-9
STRESS_ERROR = 1e-8  # eV/Å³; measured: up to 3e-10
SAME = 1e-12


def crystal() -> Atoms:
    """Shaken and sheared, smaller than the cutoff in some directions."""
    atoms = bulk("Al", cubic=True) * (1, 1, 2)
    atoms.set_cell(
        atoms.cell @ (np.eye(3) + np.array([[0, 0.1, 0], [0, 0, 0.05], [0.02, 0, 0]])), scale_atoms=True
    )
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize(
    "make", [lambda: molecule("CH3CH2OH"), crystal, lambda: fcc111("Al", (2, 2, 2), vacuum=5)]
)
def test_forces_are_the_slope_of_the_energy(make, calculator) -> None:
    atoms = make()
    atoms.rattle(0.05, seed=2)
    atoms.calc = calculator
    exact = calculate_numerical_forces(atoms, eps=2e-5)
    error = np.abs(atoms.get_forces() - exact).max() / np.abs(exact).max()
    assert error < FORCE_ERROR, f"{error:.1e}"


def test_stress_is_the_slope_of_the_energy_with_strain(calculator) -> None:
    atoms = crystal()
    atoms.calc = calculator
    error = np.abs(atoms.get_stress() - calculate_numerical_stress(atoms, eps=1e-5)).max()
    assert error < STRESS_ERROR, f"{error:.1e}"
    assert np.abs(atoms.get_stresses().sum(0) - atoms.get_stress()).max() < SAME
    assert np.abs(atoms.get_potential_energies().sum() - atoms.get_potential_energy()) < SAME


def test_stress_does_not_change_the_forces(calculator) -> None:
    atoms = crystal()
    alone = calculator.evaluate(atoms, ["forces"])["forces"]
    together = calculator.evaluate(atoms, ["stress", "forces"])["forces"]
    assert np.abs(alone - together).max() < SAME


def test_one_evaluation_serves_everything_and_a_change_asks_for_another(calculator) -> None:
    atoms = molecule("H2O", calculator=calculator)
    atoms.get_forces()
    atoms.get_potential_energy()
    atoms.get_potential_energy(force_consistent=True)
    atoms.get_potential_energies()
    assert calculator.evaluations == 1
    atoms.positions[0, 0] += 0.1
    atoms.get_forces()
    assert calculator.evaluations == 2


def test_info_that_the_model_reads_is_part_of_the_state(random_potential) -> None:
    calculator = LieTransformerCalculator(random_potential(inputs=("charge",)))
    atoms = molecule("H2O", calculator=calculator)
    neutral = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    assert abs(atoms.get_potential_energy() - neutral) > 1e-4
    atoms.info["name"] = "water"
    atoms.get_potential_energy()
    assert calculator.evaluations == 2
    atoms.info["charge"] = "one"
    with pytest.raises(InputError, match=r"info\['charge'\] must be a number"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("charge", [-1, 0.5, np.int64(2)])
def test_a_charge_that_the_model_does_not_read_is_said(potential, charge) -> None:
    with pytest.warns(UserWarning, match=rf"is \{charge:+g}, but this model was trained without"):
        LieTransformerCalculator(potential).evaluate(Atoms("H", info={"charge": charge}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LieTransformerCalculator(potential).evaluate(Atoms("H", info={"charge": 0, "spin": 0}))


def test_an_input_that_is_not_finite_is_refused(random_potential) -> None:
    calculator = LieTransformerCalculator(random_potential(inputs=("charge",)))
    for value in (np.nan, "inf"):
        with pytest.raises(InputError, match=r"info\['charge'\] is not finite"):
            calculator.evaluate(Atoms("H", info={"charge": value}))


def test_info_keys_make_the_cache_see_further_entries_arrays_too(potential) -> None:
    calculator = LieTransformerCalculator(potential, info_keys=["field", "tags"])
    atoms = molecule("H2O", calculator=calculator)
    states = [{"field": np.zeros(3)}, {"field": np.ones(3)}, {"field": "none"}, {}]
    for info in states:
        atoms.info.update(info)
        atoms.get_potential_energy()
        atoms.get_forces()
    assert calculator.evaluations == 3
    atoms.info["field"] = np.ones(3)
    atoms.get_forces()
    atoms.info["field"][1] = 2.0  # in place
    atoms.get_forces()
    atoms.set_tags([1, 2, 3])  # an entry of atoms.arrays
    atoms.get_forces()
    assert calculator.evaluations == 6
    with pytest.raises(ValueError, match=r"write \['field'\]"):
        LieTransformerCalculator(potential, info_keys="field")


def test_results_do_not_depend_on_skin_wrapping_or_company(potential) -> None:
    plain, skinned = (LieTransformerCalculator(potential, skin=skin) for skin in (0.0, 0.8))
    atoms, random = crystal(), np.random.default_rng(0)
    for _ in range(10):
        atoms.positions += random.normal(0, 0.03, (len(atoms), 3))
        wrapped = atoms.copy()
        wrapped.wrap()
        exact = plain.evaluate(atoms, ["energy", "forces"])
        found = skinned.evaluate(wrapped, ["energy", "forces"])
        assert abs(found["energy"] - exact["energy"]) < SAME
        assert np.abs(found["forces"] - exact["forces"]).max() < SAME
    assert skinned._pairs.searches < plain._pairs.searches


def test_a_supercell_is_so_many_cells(calculator) -> None:
    small, large = crystal(), crystal() * (2, 1, 3)
    for atoms in (small, large):
        atoms.calc = calculator
    assert abs(large.get_potential_energy() - 6 * small.get_potential_energy()) < 1e-10
    assert np.abs(large.get_stress() - small.get_stress()).max() < SAME
    assert np.abs(large.get_forces()[: len(small)] - small.get_forces()).max() < 1e-10


def test_float32_is_close_to_float64_and_references_stay_exact(random_potential) -> None:
    potential = random_potential(reference_energies=(-13.6, -1029.0, -2041.0, -6600.0, -7800.0, -45000.0))
    single, double = (LieTransformerCalculator(potential, dtype=dtype) for dtype in ("float32", "float64"))
    found, exact = (each.evaluate(molecule("CH3CH2OH"), ["energy", "forces"]) for each in (single, double))
    assert abs(found["energy"] - exact["energy"]) < 1e-4  # of 4,000 eV, which float32 resolves to 2.4e-4
    assert np.abs(found["forces"] - exact["forces"]).max() < 1e-4
    assert found["forces"].dtype == float
    single.set(dtype="float64")
    assert single.evaluate(molecule("CH3CH2OH"), ["energy"])["energy"] == exact["energy"]


def test_copies_and_pickles_give_the_same_and_share_nothing(calculator, random_potential) -> None:
    atoms = molecule("CH3OH")
    exact = calculator.evaluate(atoms)["forces"]
    for other in (copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        assert (other.evaluate(atoms)["forces"] == exact).all()
        assert other.todict() == calculator.todict()
    two = LieTransformerCalculator(random_potential(1))
    assert two.todict() != calculator.todict()
    two.implemented_properties.append("magic")
    assert "magic" not in calculator.implemented_properties


def test_models_are_taken_from_disk_hamiltonians_and_are_not_changed(potential, tmp_path) -> None:
    before = {name: tensor.clone() for name, tensor in potential.state_dict().items()}
    save_model(potential, tmp_path / "model")
    energies = {
        LieTransformerCalculator(model).evaluate(molecule("H2O"), ["energy"])["energy"]
        for model in (potential, Hamiltonian(potential), tmp_path / "model", str(tmp_path / "model"))
    }
    assert len(energies) == 1
    LieTransformerCalculator(potential, dtype="float32")
    assert all(torch.equal(tensor, before[name]) for name, tensor in potential.state_dict().items())
    assert all(parameter.requires_grad for parameter in potential.parameters())


def test_a_shipped_model_is_found_by_its_name_unless_a_folder_is_called_like_it(
    potential, random_potential, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("lie_sim.shipped._HOME", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    save_model(potential, tmp_path / "shipped" / "small-model")
    (tmp_path / "shipped" / "small-model" / "card.md").write_text("# A small model\n")
    shipped = LieTransformerCalculator("small-model").todict()
    assert shipped == LieTransformerCalculator(potential).todict()
    with pytest.raises(
        CheckpointError, match="neither a folder nor a shipped model; shipped are small-model"
    ):
        LieTransformerCalculator("small-modell")
    save_model(random_potential(1), tmp_path / "small-model")
    assert LieTransformerCalculator("small-model").todict() != shipped


def test_ensemble_gives_means_and_deviations(random_potential) -> None:
    models = [random_potential(seed) for seed in range(3)]
    atoms = molecule("H2O", calculator=LieTransformerCalculator(models[0], ensemble=models[1:]))
    each = [LieTransformerCalculator(model).evaluate(atoms) for model in models]
    energies = [found["energy"] for found in each]
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies), abs=1e-12)
    assert atoms.calc.results["energy_std"] == pytest.approx(np.std(energies, ddof=1), abs=1e-12)
    assert atoms.calc.results["forces_std"].shape == (3, 3)


def test_a_single_atom_and_a_lone_one_in_a_crystal_box(calculator) -> None:
    for atoms in (
        Atoms("H"),
        Atoms("H", cell=20 * np.eye(3), pbc=True),
        Atoms("H2", [[0, 0, 0], [0, 0, 50]]),
    ):
        atoms.calc = calculator
        assert np.isfinite(atoms.get_potential_energy())
        assert (atoms.get_forces() == 0).all()


def test_what_is_impossible_is_said(calculator, potential) -> None:
    cases = [
        (Atoms("Xe"), "does not know the element Xe; it was made for H, C, O, Al, Si, Cu"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), r"positions of the atoms \[1\] are not finite"),
        (Atoms("H2", [[1, 0, 0], [1, 0, 1e-5]]), r"atoms 0 \(H\) and 1 \(H\) are 1.0e-05 Å apart"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 9]], cell=9 * np.eye(3), pbc=True), "cannot be at one place"),
        (Atoms("H", pbc=True), "do not span them"),
        (Atoms(), "without atoms"),
        (Atoms("H", cell=np.diag([np.nan, 9, 9])), "cell is not finite"),
        (Atoms("H", cell=np.diag([np.inf, 9, 9]), pbc=True), "cell is not finite"),
        (Atoms("H", cell=0.01 * np.eye(3), pbc=True), r"too small: .* must be in Å"),
        (Atoms("H", cell=[1e-5, 0, 0], pbc=[True, False, False]), r"too small: .* must be in Å"),
    ]
    for atoms, message in cases:
        atoms.calc = calculator
        with pytest.raises(InputError, match=message):
            atoms.get_potential_energy()
    water = molecule("H2O", calculator=calculator)
    with pytest.raises(PropertyNotImplementedError, match="needs a volume"):
        water.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        water.get_magnetic_moment()
    with pytest.raises(PropertyNotImplementedError, match="no property magmom"):
        calculator.evaluate(water, ["magmom"])
    with pytest.raises(ValueError, match="has no option colour; its options are"):
        calculator.set(colour="red")
    with pytest.raises(ValueError, match="dtype must be one of float32, float64"):
        LieTransformerCalculator(potential, dtype="float16")
    with pytest.raises(ValueError, match="dtype must be one of float32, float64, got 'float16'"):
        LieTransformerCalculator(potential, dtype=torch.float16)
    assert LieTransformerCalculator(potential, dtype=torch.float32).parameters["dtype"] == "float32"
    for skin in (-1.0, float("nan"), "a"):
        with pytest.raises(ValueError, match="skin must be a length"):
            LieTransformerCalculator(potential, skin=skin)
    with pytest.raises(ValueError, match="compute: no property dipol"):
        LieTransformerCalculator(potential, compute=("dipol",))
    with pytest.raises(
        ValueError, match=r"compute must be a list of names, got 'energy': write \['energy'\]"
    ):
        LieTransformerCalculator(potential, compute="energy")
    missing = ["gpu", *(() if torch.cuda.is_available() else ("cuda", "cuda:7"))]
    for device in missing:
        with pytest.raises(ValueError, match=rf"device must be one that PyTorch has here, .* got '{device}'"):
            LieTransformerCalculator(potential, device=device)
    with pytest.raises(TypeError, match=r"a model is needed: .*organic-gfn2.* ase run lie_sim -p model="):
        LieTransformerCalculator()
    with pytest.raises(TypeError, match=r"properties must be a list of names, got 'energy'"):
        calculator.evaluate(water, "energy")
    with pytest.raises(ValueError, match=r"vectors must have shape \(V, 3, 3\), got \(1, 2, 3\)"):
        calculator.get_hvp(np.zeros((2, 3)), water)
    with pytest.raises(ValueError, match=r"there is no atom 9: the system has 3"):
        calculator.get_hessian(water, free=[0, 9])
    with pytest.raises(TypeError, match=r"a potential of atoms .* got LieTransformer"):
        LieTransformerCalculator(Hamiltonian(LieTransformer.default(dim=3)))
    with pytest.raises(InputError, match="no atoms"):
        LieTransformerCalculator(potential).get_hessian()


def test_hessian_is_the_slope_of_the_forces(calculator) -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=3)
    matrix, step = calculator.get_hessian(atoms), 2e-5
    numerical = np.zeros_like(matrix)
    for place in range(9):
        forces = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[place] += sign * step
            forces.append(calculator.evaluate(moved)["forces"].ravel())
        numerical[place] = (forces[1] - forces[0]) / (2 * step)
    assert np.abs(matrix - numerical).max() < 1e-6 * np.abs(matrix).max()
    block = calculator.get_hessian(atoms, free=[2, 0])
    places = [6, 7, 8, 0, 1, 2]
    assert np.abs(block - matrix[np.ix_(places, places)]).max() < SAME
    vector = np.random.default_rng(0).standard_normal((3, 3))
    assert np.abs(calculator.get_hvp(vector, atoms).ravel() - matrix @ vector.ravel()).max() < 1e-10
    assert calculator.get_hvp(np.stack([vector, vector]), atoms).shape == (2, 3, 3)


def test_hessian_of_a_crystal_uses_its_periodic_images(calculator) -> None:
    atoms = crystal()
    matrix = calculator.get_hessian(atoms)
    uniform = np.tile(np.eye(3), (len(atoms), 1))
    assert np.abs(matrix @ uniform).max() < 1e-10, "a shift of everything costs no force"


def test_landmarks_are_for_molecules_only(random_potential) -> None:
    calculator = LieTransformerCalculator(random_potential(network={"attention": "induced", "cutoff": 3.0}))
    atoms = molecule("CH3CH2OH", calculator=calculator)
    numerical = calculate_numerical_forces(atoms, eps=2e-5)
    assert np.abs(atoms.get_forces() - numerical).max() <= FORCE_ERROR * np.abs(numerical).max()
    metal = bulk("Al", cubic=True)
    metal.calc = calculator
    with pytest.raises(InputError, match="use attention='local'"):
        metal.get_potential_energy()
